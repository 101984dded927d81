//! What the actor does once a decision is durable: runs, stops and timers.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::inbox::Message;
use super::runner;
use super::session::{Actor, Run};
use crate::exec::Stop;
use crate::machine::{Effect, Timer};
use crate::model::CallId;

impl Actor {
    pub(super) fn forget(&mut self, run: Run) {
        for key in run.timers.into_iter().flatten() {
            self.timers.try_remove(&key);
        }
        if let Some(search) = run.search {
            search.cancel();
        }
    }

    pub(super) fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Run(call_id) => self.start_run(call_id),
            Effect::Reserve(call_id) => self.search_slot(call_id),
            Effect::Release(call_id) => {
                if let Some(run) = self.runs.get_mut(&call_id) {
                    run.slot = None;
                }
            }
            Effect::Terminate(call_id, grace) => self.control(call_id, Stop::Graceful(grace)),
            Effect::Kill(call_id) => self.control(call_id, Stop::Kill),
            Effect::Arm(call_id, timer, after) => self.arm(call_id, timer, after),
            Effect::Disarm(call_id, timer) => {
                let key =
                    self.runs.get_mut(&call_id).and_then(|run| run.timers[timer as usize].take());
                if let Some(key) = key {
                    self.timers.try_remove(&key);
                }
            }
        }
    }

    fn control(&mut self, call_id: CallId, stop: Stop) {
        if let Some(control) = self.runs.get(&call_id).and_then(|run| run.control.as_ref()) {
            control.send_replace(Some(stop));
        }
    }

    fn arm(&mut self, call_id: CallId, timer: Timer, after: Duration) {
        let Some(run) = self.runs.get_mut(&call_id) else { return };
        match &run.timers[timer as usize] {
            Some(key) => self.timers.reset(key, after),
            empty => {
                debug_assert!(empty.is_none());
                run.timers[timer as usize] = Some(self.timers.insert((call_id, timer), after));
            }
        }
    }

    fn start_run(&mut self, call_id: CallId) {
        let Some(call) = self.projection.call(call_id) else { return };
        let Some(run) = self.runs.get_mut(&call_id) else { return };
        let Some(work) = run.work.take() else { return };
        let (control, controlled) = watch::channel(None);
        run.control = Some(control);
        let attempt = runner::Attempt {
            shared: self.shared.clone(),
            call_id,
            max_output_bytes: call.policy.max_output_bytes,
            idle_timeout: call.policy.idle_timeout,
            reports: self.report_to.clone(),
            control: controlled,
            slot: run.slot.take(),
            told_alive: None,
        };
        self.shared.runs.spawn(attempt.run(work));
    }

    fn search_slot(&mut self, call_id: CallId) {
        let Some(call) = self.projection.call(call_id) else { return };
        let slots = self.shared.slots_of(call.kind).clone();
        let Some(run) = self.runs.get_mut(&call_id) else { return };
        if run.search.is_some() || run.slot.is_some() {
            return;
        }
        let found = CancellationToken::new();
        run.search = Some(found.clone());
        let (shared, reports) = (self.shared.clone(), self.report_to.clone());
        self.shared.tracker.spawn(async move {
            let slot = tokio::select! {
                slot = slots.acquire_owned() => slot,
                () = found.cancelled() => return,
                () = shared.stopping.cancelled() => return,
            };
            if let Ok(slot) = slot {
                // Without the actor there is no call that could use the place.
                let _ = reports.send(Message::Slot(call_id, slot)).await;
            }
        });
    }
}
