//! `BlockOutput`: the output of a process could not be kept while no server was there.

use super::super::{Change, Decision, Projection};
use crate::model::CallId;

/// Records the cause. The call goes on.
pub(super) fn decide(projection: &Projection, call_id: CallId, cause: String) -> Decision {
    match projection.call(call_id) {
        Some(_) => Decision::nothing().change(Change::OutputBlocked(call_id, cause)),
        None => Decision::not_live(),
    }
}
