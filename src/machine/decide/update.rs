//! `Update`: the settings of a session are changed.

use super::super::{Change, Decision, Projection, Refusal, Update};
use crate::model::SessionState;

/// Sets the fields, or refuses if the session is closed.
pub(super) fn decide(projection: &Projection, update: Update) -> Decision {
    let session = &projection.session;
    if session.state != SessionState::Open {
        return Decision::refused(Refusal::SessionClosed { session_id: session.id });
    }
    Decision::nothing().change(Change::Updated(update))
}
