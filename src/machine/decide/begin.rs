//! A place to run is held for a pending call.

use super::super::{Change, Decision, Effect, Projection, Timer};
use crate::model::{Call, CallId, State};

/// The run begins, unless the call is gone or has to wait after all: then the place is free again.
pub(super) fn decide(projection: &Projection, call_id: CallId) -> Decision {
    let free = |decision: Decision| decision.effect(Effect::Release(call_id));
    match projection.call(call_id) {
        None => free(Decision::not_live()),
        Some(call) if call.state != State::Pending || projection.is_blocked(call, &[]) => {
            free(Decision::nothing())
        }
        Some(call) => run(Decision::nothing().change(Change::Began(call_id)), call),
    }
}

/// Adds what the beginning of a run needs: the run and its clocks.
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
