//! A turn tells of tasks that have ended.

use super::super::{Change, Decision, Projection, Reply};
use crate::model::{Call, CallId, FollowUp, FollowUpState};

/// It takes those that are still pending.
pub(super) fn decide(projection: &Projection, call_id: CallId, records: Vec<FollowUp>) -> Decision {
    let takes = |call: &&Call| call.turn.is_some() && call.stopping.is_none();
    if projection.call(call_id).filter(takes).is_none() {
        return Decision::not_live();
    }
    let mut decision = Decision::nothing();
    let mut taken = Vec::new();
    for record in records.into_iter().filter(|record| record.state == FollowUpState::Pending) {
        taken.push(record.call_id);
        decision = decision.change(Change::FollowUpClaimed { call_id, record: Box::new(record) });
    }
    decision.reply = Ok(Reply::Taken(taken));
    decision
}
