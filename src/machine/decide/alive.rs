//! `Alive`: a process wrote output that isn't kept.

use super::super::{Decision, Effect, Projection, Timer};
use crate::model::CallId;

/// Restarts the idle timeout, and changes nothing else.
pub(super) fn decide(projection: &Projection, call_id: CallId) -> Decision {
    let Some(call) = projection.call(call_id) else { return Decision::not_live() };
    match call.policy.idle_timeout {
        Some(span) if call.stopping.is_none() => {
            Decision::nothing().effect(Effect::Arm(call_id, Timer::Idle, span))
        }
        _ => Decision::nothing(),
    }
}
