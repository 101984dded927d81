//! `Output`: a process wrote output.

use super::super::{Change, Decision, Projection};
use super::alive;
use crate::model::{CallId, ToolOutput};

/// Appends the output to the log and restarts the idle timeout. Output of a call that has ended is
/// dropped, because its terminal event must stay the last one.
pub(super) fn decide(projection: &Projection, call_id: CallId, output: ToolOutput) -> Decision {
    if projection.call(call_id).is_none() {
        return Decision::not_live();
    }
    let mut decision = alive::decide(projection, call_id);
    decision.changes.push(Change::Output(call_id, output));
    decision
}
