//! `KeepHandle`: the work of a call is done outside of this server, under a handle.

use super::super::{Change, Decision, Projection};
use crate::model::{CallId, WorkHandle};

/// Records the handle under which a later server goes on with the work.
pub(super) fn decide(projection: &Projection, call_id: CallId, handle: WorkHandle) -> Decision {
    match projection.call(call_id) {
        Some(_) => Decision::nothing().change(Change::HandleKept(call_id, handle)),
        None => Decision::not_live(),
    }
}
