//! `Interrupt`: the server stops while a call runs.

use super::super::{Change, Decision, Projection};
use crate::model::CallId;

/// Records the time. The call stays as it is: the next server ends it as lost, and knows how long it
/// ran.
pub(super) fn decide(projection: &Projection, call_id: CallId) -> Decision {
    match projection.call(call_id) {
        Some(_) => Decision::nothing().change(Change::Interrupted(call_id)),
        None => Decision::not_live(),
    }
}
