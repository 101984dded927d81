//! Recovery from a server that stopped before its calls ended.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::actor::ActorSource;
use super::call::{CallWatch, Calls};
use super::restart::{self, Restart};
use super::{CallVersion, Error, Shared};
use crate::exec::Survivor;
use crate::model::{Call, CallId, SessionId, State};
use crate::store::StoreError;

/// Sessions that are read in one step of a recovery.
const SESSIONS_PER_STEP: u32 = 256;

/// The longest time for which a start waits for the next decision about a call. A store that takes no writes,
/// or one call that cannot be taken up, does not keep the server from its other work.
const DECISION_TIMEOUT: Duration = Duration::from_secs(10);

/// The calls that an earlier server left unfinished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovered {
    /// The number of those that go on, because their runs are still there or are found again.
    pub adopted: usize,
    /// The number of those that are run again.
    pub restarted: usize,
    /// The number of those that are lost.
    pub lost: usize,
}

/// Takes up the calls whose runs have outlived their server, and ends the others as LOST, after killing
/// what is left of their processes.
pub(super) async fn recover(shared: &Arc<Shared>) -> Result<Recovered, Error> {
    if let Some(newest) = shared.store.newest_time().await?
        && let Some(behind) = shared.time.go_on_from(newest)
    {
        tracing::warn!(
            ?behind,
            "the clock of the machine is behind the newest time in the store: \
            times go on from there"
        );
    }
    let (sessions, calls) = live_calls(shared).await?;
    let revisions: HashMap<CallId, u64> =
        calls.iter().map(|call| (call.id, call.revision)).collect();
    let live: Vec<CallId> = calls.iter().map(|call| call.id).collect();
    let without_run = sort_runs(shared, calls);
    let lost: Vec<CallId> = without_run.iter().map(|call| call.id).collect();
    let survivors = kill_leftovers(shared, &lost, &live).await?;
    for survivor in survivors {
        let (pid, command) = (survivor.pid, survivor.command);
        tracing::warn!(pid, command, "a process of a lost call could not be killed");
    }
    let restarts = restart::prepare(&Calls::new(shared), without_run).await;
    let lost: Vec<CallId> = lost.into_iter().filter(|id| !restarts.contains_key(id)).collect();
    let is_again = |restart: &&Restart| matches!(restart, Restart::Again { .. });
    let restarted = restarts.values().filter(is_again).count();
    let goes_on = |(_, restart): &(&CallId, &Restart)| !matches!(restart, Restart::Again { .. });
    let begun: Vec<CallId> = restarts.iter().filter(goes_on).map(|(id, _)| *id).collect();
    shared.restarts.add(restarts);
    for id in sessions.iter().copied() {
        // The actor takes up the calls whose runs are there, and ends the others.
        shared.actor(ActorSource::Stored(id));
    }
    if shared.quotas.counts_calls() {
        // New calls are admitted beside all that are live.
        for id in sessions {
            shared.actor(ActorSource::Stored(id)).loaded().await;
        }
    }
    // The owners of runs must be known until it is durable what becomes of the calls.
    let (lost, undecided) = decided(shared, lost.iter().chain(&begun), &revisions).await?;
    match undecided {
        0 => shared.runner.recovered(),
        // Their actors go on, and the next start still finds the owners of their runs.
        calls => tracing::error!(
            calls,
            "calls of the last server are not taken up yet: it could not be stored in time what \
             becomes of them"
        ),
    }
    let adopted = live.len() - lost - restarted - undecided;
    let recovered = Recovered { adopted, restarted, lost };
    if recovered.adopted > 0 {
        tracing::info!(calls = recovered.adopted, "running calls of the last server are taken up");
    }
    if recovered.restarted > 0 {
        tracing::info!(calls = recovered.restarted, "calls of the last server are run again");
    }
    if recovered.lost > 0 {
        tracing::warn!(calls = recovered.lost, "calls that ended with the last server are lost");
    }
    Ok(recovered)
}

/// Waits until actors have decided about calls, which had these revisions, as long as there are decisions.
/// Returns the number of those that are lost, and of those that are not decided.
async fn decided(
    shared: &Arc<Shared>,
    calls: impl Iterator<Item = &CallId>,
    revisions: &HashMap<CallId, u64>,
) -> Result<(usize, usize), Error> {
    let (mut lost, mut undecided) = (0, 0);
    let mut deadline = Instant::now() + DECISION_TIMEOUT;
    for id in calls {
        let mut watch = CallWatch::new(shared, *id);
        // The actor has decided about a call as soon as it has another revision.
        let seen = revisions.get(id).copied().unwrap_or_default();
        let is_decided = |version: CallVersion| version.ended || version.revision > seen;
        let call = watch.wait_until(is_decided, Some(deadline), &shared.stopping).await?;
        if call.as_ref().is_some_and(|call| !is_decided(CallVersion::from(call))) {
            undecided += 1;
            continue;
        }
        lost += usize::from(call.is_none_or(|call| call.state == State::Lost));
        // Behind one that is late, the others are only looked at.
        if Instant::now() < deadline {
            deadline = Instant::now() + DECISION_TIMEOUT;
        }
    }
    Ok((lost, undecided))
}

/// Returns the sessions with live calls, and these calls. Those of a session that cannot be read are left
/// out.
async fn live_calls(shared: &Shared) -> Result<(Vec<SessionId>, Vec<Call>), Error> {
    let (mut sessions, mut calls) = (Vec::new(), Vec::<Call>::new());
    let mut after = None;
    loop {
        let page = shared.store.sessions_with_live_calls(after, SESSIONS_PER_STEP).await?;
        if page.is_empty() {
            return Ok((sessions, calls));
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
            calls.extend(shared.store.live_calls(id).await?);
            sessions.push(id);
        }
    }
}

/// Returns the live calls whose runs are gone. Runs of calls that are not live are ended: the store is
/// an older one, or the end of the call was stored just before the last server stopped.
fn sort_runs(shared: &Shared, mut live: Vec<Call>) -> Vec<Call> {
    let runs: HashSet<CallId> = shared.runner.adoptable().into_iter().collect();
    let known: HashSet<CallId> = live.iter().map(|call| call.id).collect();
    for id in runs.difference(&known) {
        tracing::info!(call_id = %id, "a run of a call that is not live is ended");
        shared.runner.release(*id);
    }
    live.retain(|call| !runs.contains(&call.id));
    live
}

/// Kills what is left of the processes of the lost calls, and of all that the store knows and that are
/// not live. Returns those that could not be killed.
async fn kill_leftovers(
    shared: &Shared,
    lost: &[CallId],
    live: &[CallId],
) -> Result<Vec<Survivor>, Error> {
    let (mut leftovers, live) = (lost.to_vec(), live.iter().collect::<HashSet<_>>());
    let runner = shared.runner.clone();
    for id in blocking(move || runner.leftover_calls()).await? {
        // A call with a process that is not among the live ones has a record that is damaged, or ended
        // while a process of it could not be killed.
        let is_own = match shared.store.call(id).await {
            Ok(call) => call.is_some(),
            Err(StoreError::Corrupt(_)) => true,
            Err(error) => return Err(error.into()),
        };
        if is_own && !live.contains(&id) {
            tracing::warn!(call_id = %id, "a process of a call that is not live is killed");
            leftovers.push(id);
        }
    }
    let runner = shared.runner.clone();
    blocking(move || runner.kill_leftovers(&leftovers)).await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::Internal(error.to_string()))
}
