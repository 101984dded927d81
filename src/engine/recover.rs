//! Recovery from a server that stopped before its calls ended.

use std::sync::Arc;

use super::actor::ActorSource;
use super::call::CallWatch;
use super::{Error, Shared};
use crate::model::CallId;
use crate::store::StoreError;

/// Sessions that are read in one step of a recovery.
const SESSIONS_PER_STEP: u32 = 256;

/// Ends, as LOST, every call that an earlier server left unfinished, after killing what is left of
/// its processes. Returns the number of these calls.
pub(super) async fn recover(shared: &Arc<Shared>) -> Result<usize, Error> {
    let (mut sessions, mut calls) = (Vec::new(), Vec::<CallId>::new());
    let mut after = None;
    loop {
        let page = shared.store.sessions_with_live_calls(after, SESSIONS_PER_STEP).await?;
        if page.is_empty() {
            break;
        }
        after = page.last().copied();
        for id in page {
            match shared.store.session(id).await {
                Ok(_) => {}
                Err(error @ StoreError::Corrupt(_)) => {
                    tracing::error!(session_id = %id, %error, "the session is not recovered");
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            calls.extend(shared.store.live_calls(id).await?.iter().map(|call| call.id));
            sessions.push(id);
        }
    }
    if calls.is_empty() {
        return Ok(0);
    }
    let executor = shared.executor.clone();
    let (calls, survivors) = tokio::task::spawn_blocking(move || {
        let survivors = executor.kill_leftovers(&calls);
        (calls, survivors)
    })
    .await
    .map_err(|error| Error::Internal(error.to_string()))?;
    for survivor in survivors {
        let (pid, command) = (survivor.pid, survivor.command);
        tracing::warn!(pid, command, "a process of a lost call could not be killed");
    }
    for id in sessions {
        // The actor finds calls that no run belongs to, and ends them.
        shared.actor(ActorSource::Stored(id));
    }
    for id in &calls {
        let mut watch = CallWatch::new(shared, *id);
        watch.wait_until(|version| version.ended, None, &shared.stopping).await?;
    }
    tracing::warn!(calls = calls.len(), "calls that ran when the last server stopped are lost");
    Ok(calls.len())
}
