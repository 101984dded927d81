//! The sessions of replicas that are gone: their calls go on here, are run again, or are lost.

use std::collections::HashMap;
use std::sync::Arc;

use crate::engine::actor::ActorSource;
use crate::engine::call::Calls;
use crate::engine::restart;
use crate::engine::{Error, Shared};
use crate::model::{Call, SessionId};
use crate::store::{Replicas, StoreError};

/// The sessions that are claimed in one step: so many that the sessions of agents stay with those of the
/// agents above them.
const SESSIONS_PER_CLAIM: u32 = 10_000;

/// The sessions whose calls are prepared in one step.
const SESSIONS_PER_STEP: usize = 256;

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
        for sessions in sessions.chunks(SESSIONS_PER_STEP) {
            if let Err(error) = take_up(shared, sessions).await {
                // Their actors begin with the next requests, and take the calls up then.
                tracing::error!(%error, "calls of a server that is gone are not all prepared");
            }
        }
    }
}

/// Starts the actors of sessions, with the work of the calls that are run again.
async fn take_up(shared: &Arc<Shared>, sessions: &[SessionId]) -> Result<(), Error> {
    let mut calls: HashMap<SessionId, Vec<Call>> = HashMap::new();
    for id in sessions {
        match shared.store.live_calls(*id).await {
            Ok(live) => drop(calls.insert(*id, live)),
            Err(error @ StoreError::Corrupt(_)) => {
                tracing::error!(session_id = %id, %error, "the session is not taken over");
            }
            Err(error) => return Err(error.into()),
        }
    }
    let live = calls.into_values().flatten().collect();
    let restarts = restart::prepare_foreign(&Calls::new(shared), live).await;
    shared.restarts.add(restarts);
    for id in sessions {
        shared.actor(ActorSource::Stored(*id));
    }
    Ok(())
}
