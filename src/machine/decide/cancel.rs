//! `Cancel`: a call is stopped on request.

use super::super::{Cancel, Change, Decision, Effect, Projection};
use crate::model::{Cancellation, Outcome, State, Timestamp, ToolResult};

/// Asks a running call to stop, which ends when its process does, and ends a pending call at once. A
/// call that is being stopped is asked again only if it is to be killed now.
pub(super) fn decide(projection: &Projection, cancel: Cancel, now: Timestamp) -> Decision {
    let Some(call) = projection.call(cancel.call_id) else { return Decision::not_live() };
    if call.stopping.is_some() {
        return if cancel.force {
            Decision::nothing().effect(Effect::Kill(cancel.call_id))
        } else {
            Decision::nothing()
        };
    }
    let was_pending = call.state == State::Pending;
    let reason = cancel.reason.clone();
    let stop = request_stop(cancel, now);
    if !was_pending {
        return stop;
    }
    let call_id = call.id;
    let result = ToolResult { is_error: true, end_time: now, ..ToolResult::default() };
    let end = super::CallEnd {
        call_id,
        state: State::Cancelled,
        reason,
        outcome: Outcome::Result(result),
        survivors: Vec::new(),
        end_time: now,
    };
    let end = super::end(projection, end);
    Decision {
        changes: stop.changes.into_iter().chain(end.changes).collect(),
        effects: [Effect::Release(call_id)].into_iter().chain(end.effects).collect(),
        reply: end.reply,
    }
}

/// Records the request and stops the process.
fn request_stop(cancel: Cancel, now: Timestamp) -> Decision {
    let Cancel { call_id, requested_by, reason, cause, force, grace } = cancel;
    let cancellation = Cancellation {
        request_time: now,
        requested_by,
        reason,
        acknowledged_time: None,
        cause,
        survivors: Vec::new(),
    };
    let effect = if force { Effect::Kill(call_id) } else { Effect::Terminate(call_id, grace) };
    Decision::nothing().change(Change::Cancelling { call_id, cancellation, force }).effect(effect)
}
