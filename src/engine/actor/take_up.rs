//! The calls that were live before the actor: those whose processes are still there are adopted, turns are
//! resumed, and the others are run again or lost. `hand_over` leaves calls to the next server.

use tokio::sync::watch;

use super::effects::limits;
use super::inbox::ActorSource;
use super::{LiveCall, SessionActor};
use crate::engine::restart::{Restart, prepare_taken_over};
use crate::engine::run::Run;
use crate::engine::turn::resumed_work;
use crate::machine::{Command, Finish, Loss};
use crate::model::{CallId, ParkReason, State, Timestamp, ToolResult};
use crate::store::{OutputFrom, OutputQuery, OutputSelection, Store, StoreError};
use crate::tool::Work;

impl SessionActor {
    /// Takes up the calls that were live before this actor: those whose processes are still there are
    /// adopted, turns are resumed, and the others are lost.
    pub(super) async fn take_up(&mut self) {
        let last_known = self.projection.session.update_time;
        let mut calls: Vec<_> =
            self.projection.live_calls().map(|call| (call.accept_sequence, call.id)).collect();
        calls.sort_unstable();
        for (_, call_id) in calls {
            match self.take_up_call(call_id, last_known).await {
                Ok(commands) => self.unsaved.extend(commands),
                // The run stays with its owner until the next server, which tries again.
                Err(error) => tracing::error!(%call_id, %error, "a call cannot be taken up"),
            }
        }
    }

    /// Returns the commands that take up a call of an earlier server, or end it as lost. The work is
    /// there before a command runs it.
    async fn take_up_call(
        &mut self,
        call_id: CallId,
        last_known: Timestamp,
    ) -> Result<Vec<Command>, StoreError> {
        if self.adopt_run(call_id).await? {
            return Ok(vec![Command::Adopt { call_id }]);
        }
        if let Some(restart) = self.shared.restarts.take(call_id) {
            return Ok(self.hold_restart(call_id, restart));
        }
        let with_server = Command::Lose { call_id, loss: Loss::with_server(last_known) };
        let session = &self.projection.session;
        let Some(call) = self.projection.call(call_id) else { return Ok(vec![with_server]) };
        if self.shared.ownership.replicas().is_some()
            && let Some(restart) = prepare_taken_over(&self.shared, call).await
        {
            return Ok(self.hold_restart(call_id, restart));
        }
        let handle = self.shared.actor(ActorSource::Stored(session.id));
        match resumed_work(&self.shared, handle, session, call).await? {
            Ok(work) => {
                self.hold_work(call_id, work, 0);
                Ok(vec![Command::Resume { call_id }])
            }
            Err(cause) => Ok(vec![Command::Lose { call_id, loss: Loss { cause, last_known } }]),
        }
    }

    /// Holds the work of a call until it runs, and returns the commands that take up the call.
    pub(super) fn hold_restart(&mut self, call_id: CallId, restart: Restart) -> Vec<Command> {
        match restart {
            Restart::Again { work, output_before } => {
                let live = self.live_calls.entry(call_id).or_default();
                live.work = Some(Box::new(work));
                live.output_before = Some(Box::new(output_before));
                vec![Command::Restart { call_id }]
            }
            Restart::GoOn { work, logged_bytes } => {
                self.hold_work(call_id, work, logged_bytes);
                vec![Command::Resume { call_id }]
            }
            Restart::End => {
                let error_message = "stopped before its process was started".to_owned();
                let result = ToolResult { is_error: true, error_message, ..ToolResult::default() };
                let finish = Finish { call_id, result, stopped: true, survivors: Vec::new() };
                let reason = ParkReason::Disconnected;
                vec![Command::Disconnect { call_id, reason }, Command::Finish(Box::new(finish))]
            }
        }
    }

    /// Holds the work of a call that goes on, which takes a slot if there is one, and goes on without.
    fn hold_work(&mut self, call_id: CallId, work: Work, logged_bytes: u64) {
        let Some(call) = self.projection.call(call_id) else { return };
        let slots = self.shared.slots_of(call.kind).clone();
        let has_begun = call.state != State::Pending;
        let slot = if has_begun { slots.try_acquire_owned().ok() } else { None };
        let work = Some(Box::new(work));
        let live = LiveCall { work, slot, logged_bytes, ..LiveCall::default() };
        self.live_calls.insert(call_id, live);
        tracing::info!(%call_id, "the call goes on");
    }

    /// Takes up a live call whose process an earlier server has started, if it is still there. Returns
    /// whether it is.
    async fn adopt_run(&mut self, call_id: CallId) -> Result<bool, StoreError> {
        if !self.shared.runner.is_adoptable(call_id) {
            return Ok(false);
        }
        let stored_bytes = stored_output_bytes(self.shared.store.as_ref(), call_id).await?;
        let Some(process) = self.shared.runner.adopt(call_id, stored_bytes) else {
            return Ok(false);
        };
        let Some(call) = self.projection.call(call_id) else { return Ok(false) };
        let (stops, stop_requests) = watch::channel(None);
        let live = LiveCall { stops: Some(stops), is_process: true, ..LiveCall::default() };
        self.live_calls.insert(call_id, live);
        let run = Run {
            shared: self.shared.clone(),
            term: self.term.clone(),
            call_id,
            limits: limits(call, self.projection.settings.grace),
            output_before: None,
            logged_bytes: 0,
            reports: self.report_sender.clone(),
            stops: stop_requests,
            // A run that goes on takes a slot if there is one, and goes on without.
            slot: self.shared.slots_of(call.kind).clone().try_acquire_owned().ok(),
            last_alive: None,
        };
        self.shared.runs.spawn(run.follow_adopted(process));
        Ok(true)
    }
}

/// Returns the size of the output of a call up to the end of the last piece that is stored.
async fn stored_output_bytes(store: &dyn Store, call_id: CallId) -> Result<u64, StoreError> {
    let (selection, from) = (OutputSelection::Combined, OutputFrom::Tail(0));
    let page = store.output(OutputQuery { call_id, selection, from, bytes_max: 0 }).await?;
    Ok(page.map_or(0, |page| page.combined.total_bytes))
}
