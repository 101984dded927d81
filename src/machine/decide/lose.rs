//! `Lose`: the work of a call is lost.

use super::super::{Decision, Projection};
use crate::model::{CallId, Failure, FailureCode, Outcome, State, Timestamp};

/// Ends the call as lost, without a result.
pub(super) fn decide(projection: &Projection, call_id: CallId, last_known: Timestamp) -> Decision {
    let Some(call) = projection.call(call_id) else { return Decision::not_live() };
    let message = if call.state == State::Pending {
        "the server stopped before this call could run: start it again"
    } else {
        "the server stopped while this call ran, and its process with it: its output up to then \
         can be read; start it again if it is safe to repeat"
    };
    let failure = Failure { code: FailureCode::HostLost, message: message.into() };
    let end = super::CallEnd {
        call_id,
        state: State::Lost,
        reason: "the server stopped".into(),
        outcome: Outcome::Failure(failure),
        survivors: Vec::new(),
        // The real end is unknown: the last known activity is the closest time.
        end_time: call.update_time.max(last_known),
    };
    super::end(projection, end)
}
