//! The last caller of a foreground call went away.

use super::super::{Cancel, Decision, Projection};
use super::{cancel, park};
use crate::model::{CallId, OnDisconnect, ParkReason, Timestamp};

/// A call that is parked has no caller to lose. Another does what it was told to do then.
pub(super) fn decide(projection: &Projection, call_id: CallId, now: Timestamp) -> Decision {
    let Some(call) = projection.call(call_id) else { return Decision::not_live() };
    if call.is_task() {
        return Decision::nothing();
    }
    match call.policy.on_disconnect {
        OnDisconnect::Park => park::decide(projection, call_id, ParkReason::Disconnected),
        OnDisconnect::Cancel => {
            let cancel = Cancel {
                call_id,
                requested_by: "callpark".into(),
                reason: "the caller went away and on_disconnect is CANCEL".into(),
                force: false,
                grace: projection.settings.grace,
            };
            cancel::decide(projection, cancel, now)
        }
    }
}
