//! `Timeout`: a run has reached a timeout.

use super::super::{Change, Decision, Effect, Projection};
use crate::model::{CallId, State, StopCause};

/// Stops the run, parked or not. A run that is being stopped keeps its first cause.
pub(super) fn decide(projection: &Projection, call_id: CallId, cause: StopCause) -> Decision {
    match projection.call(call_id) {
        None => Decision::not_live(),
        Some(call) if call.stopping.is_some() || call.state == State::Pending => {
            Decision::nothing()
        }
        Some(_) => Decision::nothing()
            .change(Change::Stopping(call_id, cause))
            .effect(Effect::Terminate(call_id, projection.settings.grace)),
    }
}
