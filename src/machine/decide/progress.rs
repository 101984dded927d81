//! A call says how far it is.

use super::super::{Change, Decision, Effect, Projection, Timer};
use crate::model::{CallId, Progress};

/// Progress is a sign of life, as output is.
pub(super) fn decide(projection: &Projection, call_id: CallId, progress: Progress) -> Decision {
    let Some(call) = projection.call(call_id) else { return Decision::not_live() };
    let decision = Decision::nothing().change(Change::Progressed(call_id, progress));
    match call.policy.idle_timeout {
        Some(span) if call.stopping.is_none() => {
            decision.effect(Effect::Arm(call_id, Timer::Idle, span))
        }
        _ => decision,
    }
}
