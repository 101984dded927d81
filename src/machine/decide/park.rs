//! `Park`: a foreground call moves to the background.

use super::super::{Change, Decision, Effect, Projection, Timer};
use crate::model::{CallId, ParkReason};

/// Marks the call as parked. Its process and its run are not touched.
pub(super) fn decide(projection: &Projection, call_id: CallId, reason: ParkReason) -> Decision {
    match projection.call(call_id) {
        None => Decision::not_live(),
        Some(call) if call.is_task() => Decision::nothing(),
        Some(_) => Decision::nothing()
            .change(Change::Parked(call_id, reason))
            .effect(Effect::Disarm(call_id, Timer::Budget)),
    }
}
