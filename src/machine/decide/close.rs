//! `Close`: the session is closed.

use super::super::{Cancel, Change, Close, Decision, Projection, Reply};
use super::cancel;
use crate::model::{Call, CancelCause, SessionState, State, Timestamp};

/// Closes the session for new calls and cancels those that aren't detached. The log ends with the last
/// live call. Closing it again returns the same reply.
pub(super) fn decide(projection: &Projection, close: Close, now: Timestamp) -> Decision {
    let session = &projection.session;
    let mut decision = Decision::nothing();
    if session.state != SessionState::Open {
        let (cancelled_tasks, detached_tasks) = (session.cancelled_tasks, session.detached_tasks);
        decision.reply = Ok(Reply::Closed { cancelled_tasks, detached_tasks, again: true });
        return decision;
    }
    let mut cancelled: Vec<&Call> =
        projection.live_calls().filter(|call| !call.policy.detached).collect();
    cancelled.sort_by_key(|call| call.accept_sequence);
    let cancelled_tasks = u32::try_from(cancelled.len()).unwrap_or(u32::MAX);
    let detached = projection.live.len() - cancelled.len();
    let detached_tasks = u32::try_from(detached).unwrap_or(u32::MAX);
    let reason = close.reason;
    decision = decision.change(Change::Closing { reason, cancelled_tasks, detached_tasks });
    let mut ended = 0;
    for call in cancelled {
        ended += usize::from(call.state == State::Pending);
        let stop = cancel::decide(projection, closing(projection, call, &close.requested_by), now);
        decision.changes.extend(stop.changes);
        decision.effects.extend(stop.effects);
    }
    if ended == projection.live.len() {
        decision = decision.change(Change::Closed);
    }
    decision.reply = Ok(Reply::Closed { cancelled_tasks, detached_tasks, again: false });
    decision
}

fn closing(projection: &Projection, call: &Call, requested_by: &str) -> Cancel {
    let reason = "its session was closed";
    let cancel = Cancel::new(call.id, requested_by, reason, projection.settings.grace);
    Cancel { cause: CancelCause::SessionClosed, ..cancel }
}
