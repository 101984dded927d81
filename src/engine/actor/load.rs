//! Loading of a session for its actor.

use super::inbox::ActorSource;
use crate::engine::{Error, Shared};
use crate::machine::Projection;

/// Claims a session for its actor. Returns the number of the claim. A new session belongs to the server that
/// stores it.
pub(super) async fn claim(shared: &Shared, source: &ActorSource) -> Result<u64, Error> {
    match source {
        ActorSource::New(_) => shared.ownership.check().map(|()| 0),
        ActorSource::Stored(id) => shared.ownership.claim(*id).await,
    }
}

/// Returns a session with its live calls, and the head that the store has, or `None` if the session
/// is not stored yet.
pub(super) async fn load(
    shared: &Shared,
    source: ActorSource,
) -> Result<(Projection, Option<u64>), Error> {
    match source {
        ActorSource::New(session) => {
            Ok((Projection::new(*session, Vec::new(), shared.options.machine), None))
        }
        ActorSource::Stored(id) => {
            let session = shared.store.session(id).await?;
            let session = session.ok_or_else(|| Error::SessionNotFound(id.to_string()))?;
            let live = shared.store.live_calls(id).await?;
            let head = session.head_sequence;
            Ok((Projection::new(session, live, shared.options.machine), Some(head)))
        }
    }
}
