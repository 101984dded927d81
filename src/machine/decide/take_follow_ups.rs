//! `TakeFollowUps`: a running turn claims follow-ups.

use super::super::{Change, Decision, Projection, Reply};
use crate::model::{Call, CallId, FollowUp, FollowUpState};

/// Claims the follow-ups that are still pending.
pub(super) fn decide(projection: &Projection, call_id: CallId, records: Vec<FollowUp>) -> Decision {
    let may_claim = |call: &&Call| call.turn.is_some() && call.stopping.is_none();
    if projection.call(call_id).filter(may_claim).is_none() {
        return Decision::not_live();
    }
    let mut decision = Decision::nothing();
    let mut claimed = Vec::new();
    for record in records.into_iter().filter(|record| record.state == FollowUpState::Pending) {
        claimed.push(record.call_id);
        decision = decision.change(Change::FollowUpClaimed { call_id, record: Box::new(record) });
    }
    decision.reply = Ok(Reply::Claimed(claimed));
    decision
}
