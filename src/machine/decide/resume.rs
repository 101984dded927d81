//! `Resume`: a later server goes on with a turn, with the call of a turn for an agent, or with a call
//! whose process was never started or whose work is found again under its handle.

use super::super::{Change, Decision, Effect, Projection, Timer};
use super::disconnect;
use crate::model::{Call, CallId, ParkReason, State, Timestamp};

/// Runs the call again from its last durable point, with what is left of its times. One that was being
/// stopped is stopped, and one that has not begun goes on waiting.
pub(super) fn decide(projection: &Projection, call_id: CallId, now: Timestamp) -> Decision {
    let Some(call) = projection.call(call_id) else { return Decision::not_live() };
    let mut decision = Decision::nothing().change(Change::Resumed(call_id));
    if call.state == State::Pending {
        if !projection.is_blocked(call, &[]) {
            decision = decision.effect(Effect::Reserve(call_id));
        }
    } else {
        decision = decision.effect(Effect::Run(call_id));
    }
    if let Some(stopping) = call.stopping {
        let grace = projection.settings.grace.saturating_sub(now.since(stopping.time));
        return decision.effect(Effect::Terminate(call_id, grace));
    }
    let without_caller = leave(projection, call, now);
    decision.changes.extend(without_caller.changes);
    decision.effects.extend(without_caller.effects);
    if call.state != State::Pending {
        decision.effects.extend(timers(call, now));
    }
    decision
}

/// Returns the timers of a run that goes on, with what is left of them.
pub(super) fn timers(call: &Call, now: Timestamp) -> impl Iterator<Item = Effect> + use<> {
    let (id, elapsed) = (call.id, call.elapsed(now));
    let execution = call.policy.execution_timeout.map(|span| span.saturating_sub(elapsed));
    let execution = execution.map(|left| Effect::Arm(id, Timer::Execution, left));
    let idle = call.policy.idle_timeout.map(|span| Effect::Arm(id, Timer::Idle, span));
    execution.into_iter().chain(idle)
}

/// Decides about the callers of a call whose server has gone. Those outside have gone with it, so
/// `on_disconnect` applies. A turn that goes on waits for its calls, and a call for its agent.
pub(super) fn leave(projection: &Projection, call: &Call, now: Timestamp) -> Decision {
    if !is_awaited(projection, call) {
        return disconnect::decide(projection, call.id, ParkReason::Disconnected, now);
    }
    match call.policy.call_budget {
        Some(budget) if !call.is_task() => {
            let left = budget.saturating_sub(now.since(call.create_time));
            Decision::nothing().effect(Effect::Arm(call.id, Timer::Budget, left))
        }
        _ => Decision::nothing(),
    }
}

/// Returns whether a call of this server's own waits for the call: that of a turn, which is live, or
/// one of another session, for which the turn works.
fn is_awaited(projection: &Projection, call: &Call) -> bool {
    let is_turn = |other: &Call| other.turn.is_some() && other.turn_id == call.turn_id;
    match &call.turn {
        Some(_) => call.parent.is_some(),
        None => call.turn_id.is_some() && projection.live_calls().any(is_turn),
    }
}
