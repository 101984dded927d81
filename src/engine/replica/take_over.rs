//! The sessions of replicas that are gone: their actors start here, and take their calls up.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::engine::Shared;
use crate::engine::actor::ActorSource;
use crate::model::SessionId;
use crate::store::Replicas;

/// The sessions that are claimed in one step: so many that the sessions of agents mostly stay with those of
/// the agents above them.
const SESSIONS_PER_CLAIM: u32 = 1_000;

/// The actors that read their sessions at the same time.
const ACTORS_PER_STEP: usize = 64;

/// The interval between two looks for own sessions with live calls that have no actor.
const REVIVAL_INTERVAL: Duration = Duration::from_secs(10);

/// The sessions that are read in one step of that.
const SESSIONS_PER_PAGE: u32 = 256;

/// The interval between two searches.
const SEARCH_INTERVAL: Duration = Duration::from_millis(500);

/// Searches for the sessions of replicas that are gone while this one may judge others, until the engine
/// stops.
pub(super) async fn search(shared: Arc<Shared>, is_judge: watch::Receiver<bool>) {
    let Some(replicas) = shared.ownership.replicas().cloned() else { return };
    let mut ticks = interval(SEARCH_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let stopping = shared.stopping.clone();
    let mut revived = Instant::now();
    while stopping.run_until_cancelled(ticks.tick()).await.is_some() {
        if !*is_judge.borrow() {
            continue;
        }
        take_over(&shared, replicas.as_ref()).await;
        if revived.elapsed() >= REVIVAL_INTERVAL {
            revived = Instant::now();
            revive(&shared).await;
        }
    }
}

/// Starts the actors of own sessions with live calls that have none: a session was claimed, and what should
/// have followed has failed.
async fn revive(shared: &Arc<Shared>) {
    let mut after = None;
    loop {
        let page = shared.store.sessions_with_live_calls(after, SESSIONS_PER_PAGE).await;
        let Ok(page) = page.inspect_err(|error| tracing::debug!(%error, "cannot look for calls"))
        else {
            return;
        };
        after = page.last().copied();
        if after.is_none() {
            return;
        }
        let idle: Vec<_> = page.into_iter().filter(|id| !shared.directory.has(*id)).collect();
        join_all(idle.into_iter().map(|id| start(shared, id))).await;
    }
}

/// Takes over the sessions with live calls of replicas that are gone, until none is left.
async fn take_over(shared: &Arc<Shared>, replicas: &dyn Replicas) {
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
