//! The sessions of replicas that are gone: their actors start here, and take their calls up.

use std::sync::Arc;

use futures::future::join_all;

use crate::engine::Shared;
use crate::engine::actor::ActorSource;
use crate::model::SessionId;
use crate::store::Replicas;

/// The sessions that are claimed in one step: so many that the sessions of agents stay with those of the
/// agents above them.
const SESSIONS_PER_CLAIM: u32 = 10_000;

/// The actors that read their sessions at the same time.
const ACTORS_PER_STEP: usize = 64;

/// Takes over the sessions with live calls of replicas that are gone, until none is left.
pub(super) async fn take_over(shared: &Arc<Shared>, replicas: &dyn Replicas) {
    loop {
        let sessions = match replicas.take_over(SESSIONS_PER_CLAIM).await {
            Ok(sessions) => sessions,
            Err(error) => {
                tracing::debug!(%error, "cannot search for sessions to take over");
                return;
            }
        };
        if sessions.is_empty() {
            return;
        }
        let count = sessions.len();
        tracing::warn!(sessions = count, "sessions of a server that is gone are taken over");
        shared.metrics.replicas().sessions_taken_over(count);
        for sessions in sessions.chunks(ACTORS_PER_STEP) {
            join_all(sessions.iter().map(|id| start(shared, *id))).await;
        }
    }
}

/// Starts the actor of a session, and waits until it has read the session.
async fn start(shared: &Arc<Shared>, id: SessionId) {
    shared.actor(ActorSource::Stored(id)).loaded().await;
}
