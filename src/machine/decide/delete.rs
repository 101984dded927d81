//! `Delete`: a finished task is removed.

use super::super::{Change, Decision, Projection, Refusal};
use crate::model::CallId;

/// Removes the task, or refuses if it is live.
pub(super) fn decide(projection: &Projection, call_id: CallId) -> Decision {
    if projection.call(call_id).is_some() {
        return Decision::refused(Refusal::TaskRunning { call_id });
    }
    Decision::nothing().change(Change::Deleted(call_id))
}
