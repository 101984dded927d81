//! `Restart`: the work of a call is lost, or was never begun, and can be done again.

use super::super::{Change, Decision, Effect, Projection};
use super::resume;
use crate::model::{CallId, Timestamp};

/// Makes the call pending again. The callers of a foreground call have gone with their server, so
/// `on_disconnect` applies, unless the caller is a turn that goes on.
pub(super) fn decide(projection: &Projection, call_id: CallId, now: Timestamp) -> Decision {
    let Some(call) = projection.call(call_id) else { return Decision::not_live() };
    let decision = Decision::nothing().change(Change::Restarted(call_id));
    let left = resume::leave(projection, call, now);
    let decision = left.changes.into_iter().fold(decision, Decision::change);
    let decision = left.effects.into_iter().fold(decision, Decision::effect);
    match projection.is_blocked(call, &[]) {
        true => decision,
        false => decision.effect(Effect::Reserve(call_id)),
    }
}
