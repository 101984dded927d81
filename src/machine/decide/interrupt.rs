//! `Interrupt`: the server stops while a call runs.

use super::super::{Change, Decision, Projection};
use crate::model::{CallId, TurnLoss};

/// Records the time. The call stays as it is: the next server goes on with a turn that has no `loss`,
/// and ends other calls as lost, and knows how long they ran.
pub(super) fn decide(projection: &Projection, call_id: CallId, loss: Option<TurnLoss>) -> Decision {
    match projection.call(call_id) {
        Some(_) => Decision::nothing().change(Change::Interrupted(call_id, loss)),
        None => Decision::not_live(),
    }
}
