//! `Disconnect`: the last caller of a foreground call has disconnected.

use super::super::follow_up::CALLPARK;
use super::super::{Cancel, Decision, Projection};
use super::{cancel, park};
use crate::model::{CallId, CancelCause, OnDisconnect, ParkReason, Timestamp};

/// Parks or cancels the call, as it was requested. A parked call has no caller and continues.
pub(super) fn decide(
    projection: &Projection,
    call_id: CallId,
    reason: ParkReason,
    now: Timestamp,
) -> Decision {
    let Some(call) = projection.call(call_id) else { return Decision::not_live() };
    if call.is_task() {
        return Decision::nothing();
    }
    match call.policy.on_disconnect {
        OnDisconnect::Park => park::decide(projection, call_id, reason),
        OnDisconnect::Cancel => {
            let reason = match reason {
                ParkReason::Deadline => "the caller's deadline passed and on_disconnect is CANCEL",
                _ => "the caller disconnected and on_disconnect is CANCEL",
            };
            let cancel = Cancel::new(call_id, CALLPARK, reason, projection.settings.grace);
            let cancel = Cancel { cause: CancelCause::CallerGone, ..cancel };
            cancel::decide(projection, cancel, now)
        }
    }
}
