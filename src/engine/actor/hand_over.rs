//! The calls that an actor leaves to the next server: they are parked when this one stops.

use super::SessionActor;
use super::batch::Batch;
use crate::machine::Command;
use crate::model::{Call, CallId, OnRestart, ParkReason, State, TurnLoss};

impl SessionActor {
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
