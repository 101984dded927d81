//! A process wrote.

use super::super::{Change, Decision, Projection};
use super::alive;
use crate::model::{CallId, ToolOutput};

/// The bytes go into the log, and the clock of the call's silence starts anew. Output of a call
/// that has ended is dropped: its end has been told with all that came before.
pub(super) fn decide(projection: &Projection, call_id: CallId, output: ToolOutput) -> Decision {
    if projection.call(call_id).is_none() {
        return Decision::not_live();
    }
    let mut decision = alive::decide(projection, call_id);
    decision.changes.push(Change::Output(call_id, output));
    decision
}
