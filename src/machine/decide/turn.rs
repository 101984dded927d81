//! `Turn`: a turn reports.

use super::super::{Change, Decision, Projection};
use super::alive;
use crate::model::{CallId, TurnReport};

/// Records the report, which restarts the idle timeout as output does. A retry doesn't, because its
/// attempt produced nothing.
pub(super) fn decide(projection: &Projection, call_id: CallId, report: TurnReport) -> Decision {
    if projection.call(call_id).is_none() {
        return Decision::not_live();
    }
    let mut decision = match report {
        TurnReport::Retrying { .. } => Decision::nothing(),
        _ => alive::decide(projection, call_id),
    };
    decision.changes.push(Change::Turn(call_id, report));
    decision
}
