//! A process wrote.

use super::super::{Change, Decision, Effect, Projection, Timer};
use crate::model::{CallId, ToolOutput};

/// The bytes go into the log, and the clock of the call's silence starts anew. Output of a call
/// that has ended is dropped: its end has been told with all that came before.
pub(super) fn decide(projection: &Projection, call_id: CallId, output: ToolOutput) -> Decision {
    let Some(call) = projection.call(call_id) else { return Decision::not_live() };
    let decision = Decision::nothing().change(Change::Output(call_id, output));
    match call.policy.idle_timeout {
        Some(span) if call.stopping.is_none() => {
            decision.effect(Effect::Arm(call_id, Timer::Idle, span))
        }
        _ => decision,
    }
}
