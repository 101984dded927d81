//! The effects of a durable decision: runs, stops, slots and timers.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::inbox::ActorMessage;
use super::{LiveCall, SessionActor};
use crate::engine::run::Run;
use crate::exec::{RunLimits, Stop};
use crate::machine::{Effect, Timer};
use crate::model::{Call, CallId};
use crate::tool::Work;

impl SessionActor {
    /// Releases what the actor held for a call that has ended.
    pub(super) fn release(&mut self, live: LiveCall) {
        for key in live.timers.into_iter().flatten() {
            self.timers.try_remove(&key);
        }
        if let Some(slot_search) = live.slot_search {
            slot_search.cancel();
        }
    }

    pub(super) fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Run(call_id) => {
                self.count_as_running(call_id);
                self.start_run(call_id);
            }
            Effect::Reserve(call_id) => {
                self.count_as_running(call_id);
                self.search_slot(call_id);
            }
            Effect::Release(call_id) => {
                if let Some(hold) = self.holds.get_mut(&call_id) {
                    hold.wait();
                }
                if let Some(live) = self.live_calls.get_mut(&call_id) {
                    live.slot = None;
                }
            }
            Effect::Terminate(call_id, grace) => self.stop_run(call_id, Stop::Graceful(grace)),
            Effect::Kill(call_id) => self.stop_run(call_id, Stop::Kill),
            Effect::Arm(call_id, timer, after) => self.arm(call_id, timer, after),
            Effect::Disarm(call_id, timer) => {
                let key = self
                    .live_calls
                    .get_mut(&call_id)
                    .and_then(|live| live.timers[timer as usize].take());
                if let Some(key) = key {
                    self.timers.try_remove(&key);
                }
            }
        }
    }

    /// Counts a call that runs or waits for a slot for the limit of its tenant.
    fn count_as_running(&mut self, call_id: CallId) {
        if let (Some(call), Some(hold)) =
            (self.projection.call(call_id), self.holds.get_mut(&call_id))
        {
            hold.begin(&self.shared, call);
        }
    }

    fn stop_run(&mut self, call_id: CallId, stop: Stop) {
        if let Some(stops) = self.live_calls.get(&call_id).and_then(|live| live.stops.as_ref()) {
            stops.send_replace(Some(stop));
        }
    }

    fn arm(&mut self, call_id: CallId, timer: Timer, after: Duration) {
        let Some(live) = self.live_calls.get_mut(&call_id) else { return };
        match &live.timers[timer as usize] {
            Some(key) => self.timers.reset(key, after),
            empty => {
                debug_assert!(empty.is_none());
                live.timers[timer as usize] = Some(self.timers.insert((call_id, timer), after));
            }
        }
    }

    fn start_run(&mut self, call_id: CallId) {
        let Some(call) = self.projection.call(call_id) else { return };
        let Some(live) = self.live_calls.get_mut(&call_id) else { return };
        let Some(work) = live.work.take() else { return };
        let (stops, stop_requests) = watch::channel(None);
        live.stops = Some(stops);
        live.is_process = matches!(*work, Work::Process(_));
        let run = Run {
            shared: self.shared.clone(),
            term: self.term.clone(),
            call_id,
            limits: limits(call, self.projection.settings.grace),
            output_before: live.output_before.take(),
            logged_bytes: live.logged_bytes,
            reports: self.report_sender.clone(),
            stops: stop_requests,
            slot: live.slot.take(),
            last_alive: None,
        };
        self.shared.runs.spawn(run.execute(work));
    }

    /// Starts a task that waits for a slot and sends it to this actor.
    fn search_slot(&mut self, call_id: CallId) {
        let Some(call) = self.projection.call(call_id) else { return };
        let slots = self.shared.slots_of(call.kind).clone();
        let Some(live) = self.live_calls.get_mut(&call_id) else { return };
        if live.slot_search.is_some() || live.slot.is_some() {
            return;
        }
        let cancelled = CancellationToken::new();
        live.slot_search = Some(cancelled.clone());
        let (shared, reports) = (self.shared.clone(), self.report_sender.clone());
        self.shared.tracker.spawn(async move {
            let slot = tokio::select! {
                slot = slots.acquire_owned() => slot,
                () = cancelled.cancelled() => return,
                () = shared.stopping.cancelled() => return,
            };
            if let Ok(slot) = slot {
                // If the actor has ended, no call can use the slot.
                let _ = reports.send(ActorMessage::Slot(call_id, slot)).await;
            }
        });
    }
}

/// Returns the limits that the owner of a call's process applies.
pub(super) fn limits(call: &Call, grace: Duration) -> RunLimits {
    RunLimits {
        output_bytes_max: call.policy.max_output_bytes,
        idle_timeout: call.policy.idle_timeout,
        execution_timeout: call.policy.execution_timeout,
        grace,
    }
}
