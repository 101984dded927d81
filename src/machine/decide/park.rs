//! The time for an answer is up.

use super::super::{Change, Decision, Effect, Projection, Timer};
use crate::model::{CallId, ParkReason};

/// Parking is a state, not a place: one event is appended, and the work goes on where it is. A
/// call that has ended, or is parked already, stays as it is.
pub(super) fn decide(projection: &Projection, call_id: CallId, reason: ParkReason) -> Decision {
    match projection.call(call_id) {
        None => Decision::not_live(),
        Some(call) if call.is_task() => Decision::nothing(),
        Some(_) => Decision::nothing()
            .change(Change::Parked(call_id, reason))
            .effect(Effect::Disarm(call_id, Timer::Budget)),
    }
}
