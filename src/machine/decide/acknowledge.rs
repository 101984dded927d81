//! `Acknowledge`: the receipt of a finished task's result is acknowledged.

use super::super::{Change, Decision, Projection, Reply};
use super::follow_up;
use crate::model::{Call, FollowUp, Timestamp};

/// Marks the record once, and suppresses the follow-up if it is still pending. The result is kept until
/// it expires.
pub(super) fn decide(
    projection: &Projection,
    call: Box<Call>,
    record: Option<Box<FollowUp>>,
    now: Timestamp,
) -> Decision {
    if call.acknowledge_time.is_some() || !call.state.is_terminal() {
        return Decision::nothing();
    }
    let mut decision = match record {
        Some(record) => follow_up::acknowledged(projection, *record, now),
        None => Decision::nothing(),
    };
    decision.reply = Ok(Reply::Done);
    decision.change(Change::Acknowledged(call))
}
