//! The calls of an earlier server with which this actor goes on, and those that it leaves to the next.

use super::SessionActor;
use super::batch::Batch;
use super::inbox::ActorSource;
use crate::engine::restart::prepare_taken_over;
use crate::engine::turn::resumed_work;
use crate::machine::{Command, Loss};
use crate::model::{Call, CallId, OnRestart, ParkReason, State, Timestamp, TurnLoss};
use crate::store::StoreError;

impl SessionActor {
    /// Returns the commands that take up a call of an earlier server, or end it as lost. The work is
    /// there before a command runs it.
    pub(super) async fn take_up_call(
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

    /// Parks the calls in the foreground whose work goes on when the server stops.
    pub(super) fn park_processes(&mut self, batch: &mut Batch) {
        let leaves_processes = self.shared.leaves_runs();
        let leaves_others = !self.shared.options.stop_runs;
        let is_left = |call: &&Call| {
            let is_process = self.live_calls.get(&call.id).is_some_and(|live| live.is_process);
            (is_process && leaves_processes) || (call.work_handle.is_some() && leaves_others)
        };
        let in_foreground = |call: &&Call| !call.is_task() && !self.has_resumed_turn(call);
        let left = self.projection.live_calls().filter(is_left).filter(in_foreground);
        let calls: Vec<_> = left.map(|call| call.id).collect();
        for call_id in calls {
            let reason = ParkReason::ServerStopping;
            self.decide_report(Command::Park { call_id, reason }, batch);
        }
    }

    /// Parks the turns in the foreground with which the next server goes on. That of an agent stays in
    /// the foreground of the call that it works for.
    pub(super) fn park_turns(&mut self, batch: &mut Batch) {
        if self.shared.options.stop_runs {
            self.give_up_pending_turns(batch);
            return;
        }
        let live = self.projection.live_calls();
        let turns = live.filter(|call| self.is_resumed_turn(call) && !call.is_task());
        let turns: Vec<CallId> =
            turns.filter(|call| call.parent.is_none()).map(|call| call.id).collect();
        for call_id in turns {
            let reason = ParkReason::ServerStopping;
            self.decide_report(Command::Park { call_id, reason }, batch);
        }
    }

    /// Records that no server goes on with the turns that have not begun. The others say so themselves.
    fn give_up_pending_turns(&mut self, batch: &mut Batch) {
        let is_pending = |call: &&Call| call.turn.is_some() && call.state == State::Pending;
        let pending: Vec<CallId> =
            self.projection.live_calls().filter(is_pending).map(|call| call.id).collect();
        for call_id in pending {
            let loss = Some(TurnLoss::StoppedWithRuns);
            self.decide_report(Command::Interrupt { call_id, loss }, batch);
        }
    }

    /// Returns whether the next server goes on with the turn that the call is one of.
    pub(super) fn has_resumed_turn(&self, call: &Call) -> bool {
        let is_own = |other: &&Call| other.turn.is_some() && other.turn_id == call.turn_id;
        call.turn_id.is_some()
            && self
                .projection
                .live_calls()
                .find(is_own)
                .is_some_and(|turn| self.is_resumed_turn(turn))
    }

    /// Returns whether the call is a turn with which the next server goes on.
    fn is_resumed_turn(&self, call: &Call) -> bool {
        call.turn.as_ref().is_some_and(|turn| turn.setup.is_some())
            && self.projection.session.on_restart == OnRestart::Resume
    }
}
