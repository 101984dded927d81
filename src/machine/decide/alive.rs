//! A process wrote what isn't kept.

use super::super::{Decision, Effect, Projection, Timer};
use crate::model::CallId;

/// A sign of life: the clock of the call's silence starts anew, and nothing else happens.
pub(super) fn decide(projection: &Projection, call_id: CallId) -> Decision {
    let Some(call) = projection.call(call_id) else { return Decision::not_live() };
    match call.policy.idle_timeout {
        Some(span) if call.stopping.is_none() => {
            Decision::nothing().effect(Effect::Arm(call_id, Timer::Idle, span))
        }
        _ => Decision::nothing(),
    }
}
