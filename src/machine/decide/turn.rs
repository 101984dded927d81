//! A turn reports.

use super::super::{Change, Decision, Projection};
use super::alive;
use crate::model::{CallId, TurnReport};

/// What a model says is a sign of life, as output is. A retry is none: nothing came of the attempt.
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
