//! Somebody says that the result of a finished task has arrived.

use super::super::{Change, Decision};
use crate::model::Call;

/// Marks the record, once. The result stays until it expires.
pub(super) fn decide(call: Box<Call>) -> Decision {
    if call.acknowledge_time.is_some() || !call.state.is_terminal() {
        return Decision::nothing();
    }
    Decision::nothing().change(Change::Acknowledged(call))
}
