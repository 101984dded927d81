//! A finished task is to be forgotten.

use super::super::{Change, Decision, Projection, Refusal};
use crate::model::CallId;

/// A live task is refused: it must end first.
pub(super) fn decide(projection: &Projection, call_id: CallId) -> Decision {
    if projection.call(call_id).is_some() {
        return Decision::refused(Refusal::TaskRunning);
    }
    Decision::nothing().change(Change::Deleted(call_id))
}
