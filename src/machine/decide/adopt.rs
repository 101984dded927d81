//! `Adopt`: the run of a call has outlived the server that started it.

use super::super::{Decision, Effect, Projection};
use super::resume;
use crate::model::{CallId, Timestamp};

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
    decision.effects.extend(resume::timers(call, now));
    decision
}
