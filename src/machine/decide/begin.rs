//! `Begin`: a pending call has acquired a slot.

use super::super::{Change, Decision, Effect, Projection, Timer};
use crate::model::{Call, CallId, State};

/// Begins the run, or releases the slot if the call has ended or is blocked.
pub(super) fn decide(projection: &Projection, call_id: CallId) -> Decision {
    let release = |decision: Decision| decision.effect(Effect::Release(call_id));
    match projection.call(call_id) {
        None => release(Decision::not_live()),
        Some(call) if call.state != State::Pending || projection.is_blocked(call, &[]) => {
            release(Decision::nothing())
        }
        Some(call) => run(Decision::nothing().change(Change::Began(call_id)), call),
    }
}

/// Adds the effects of the beginning of a run: the run and its timers.
pub(super) fn run(decision: Decision, call: &Call) -> Decision {
    let mut decision = decision.effect(Effect::Run(call.id));
    if let Some(span) = call.policy.execution_timeout {
        decision = decision.effect(Effect::Arm(call.id, Timer::Execution, span));
    }
    if let Some(span) = call.policy.idle_timeout {
        decision = decision.effect(Effect::Arm(call.id, Timer::Idle, span));
    }
    decision
}
