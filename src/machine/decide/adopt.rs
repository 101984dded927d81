//! `Adopt`: the run of a call has outlived the server that started it.

use super::super::{Decision, Effect, Projection, Timer};
use super::resume;
use crate::model::{Call, CallId, Timestamp};

/// Sets the timers of the run to what is left of them, and stops it again if it was being stopped. The
/// callers of a foreground call have gone with that server, so `on_disconnect` applies, unless the
/// caller is a turn that goes on.
pub(super) fn decide(projection: &Projection, call_id: CallId, now: Timestamp) -> Decision {
    let Some(call) = projection.call(call_id) else { return Decision::not_live() };
    if let Some(stopping) = call.stopping {
        let grace = projection.settings.grace.saturating_sub(now.since(stopping.time));
        return Decision::nothing().effect(Effect::Terminate(call_id, grace));
    }
    let mut decision = resume::leave(projection, call, now);
    decision.effects.extend(timers(call, now));
    decision
}

/// Returns the timers of a run that goes on, with what is left of them.
pub(super) fn timers(call: &Call, now: Timestamp) -> impl Iterator<Item = Effect> + use<> {
    let (id, elapsed) = (call.id, call.elapsed(now));
    let execution = call.policy.execution_timeout.map(|span| span.saturating_sub(elapsed));
    let execution = execution.map(|left| Effect::Arm(id, Timer::Execution, left));
    let idle = call.policy.idle_timeout.map(|span| Effect::Arm(id, Timer::Idle, span));
    execution.into_iter().chain(idle)
}
