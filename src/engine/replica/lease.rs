//! The lease of a replica: renewed while the store can be reached, and given up in time when it cannot, so
//! that no work of this server goes on once others may take it over.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::take_over;
use crate::engine::Shared;
use crate::store::{REPLICA_LEASE, REPLICA_RUNS_KEPT, Renewed, Replicas};

/// The interval between two looks at the lease.
const TICK: Duration = Duration::from_millis(250);
/// The age of a lease at which it is renewed.
const RENEW_AFTER: Duration = Duration::from_secs(2);
/// The longest time for a renewal. If the store hangs for all, each of the others knows that by the time at
/// which it is asked: after `RENEW_AFTER`, a tick and this.
const RENEW_TIMEOUT: Duration = Duration::from_secs(1);
/// The age of a lease at which the others are asked whether only this server cannot reach the store.
const ASK_AFTER: Duration = Duration::from_millis(5_500);
/// The longest time for the answer of another replica: the processes end a little later.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(750);
/// The longest time for a new id.
const REJOIN_TIMEOUT: Duration = Duration::from_secs(6);

/// Starts the task that keeps a lease that has just been renewed, until the engine has stopped. `others` are
/// the addresses of the other replicas. Does nothing for a server that has its store alone.
pub(super) fn spawn(shared: &Arc<Shared>, others: Vec<String>) {
    let Some(replicas) = shared.ownership.replicas().cloned() else { return };
    let keeper = Keeper {
        shared: shared.clone(),
        replicas,
        renewed: Instant::now(),
        steady_since: Instant::now(),
        others,
        is_judge: watch::channel(false).0,
        is_lost: false,
    };
    keeper.keep_runs(keeper.renewed);
    // Beside the keeper: a lease is renewed however long a take-over takes.
    shared.tracker.spawn(take_over::search(shared.clone(), keeper.is_judge.subscribe()));
    shared.tracker.spawn(keeper.run());
}

struct Keeper {
    shared: Arc<Shared>,
    replicas: Arc<dyn Replicas>,
    /// The start of the last renewal that succeeded.
    renewed: Instant,
    /// The time since which no renewal has failed. A server that has just found the store again gives the
    /// others the time to do so, too, before it declares one of them dead.
    steady_since: Instant,
    /// The addresses of the other replicas at the last renewal.
    others: Vec<String>,
    /// This replica has been steady for long enough to judge others.
    is_judge: watch::Sender<bool>,
    is_lost: bool,
}

impl Keeper {
    async fn run(mut self) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let closing = self.shared.closing.clone();
        while closing.run_until_cancelled(ticks.tick()).await.is_some() {
            if self.is_lost {
                self.rejoin().await;
            } else if self.renewed.elapsed() >= RENEW_AFTER {
                self.renew().await;
            }
            let is_steady = self.steady_since.elapsed() >= REPLICA_LEASE;
            self.is_judge.send_replace(is_steady && !self.is_lost);
        }
    }

    async fn renew(&mut self) {
        let start = Instant::now();
        let renewed = within(RENEW_TIMEOUT, self.replicas.renew()).await;
        self.shared.ownership.note_renewal(matches!(renewed, Some(Ok(Renewed::Renewed { .. }))));
        match renewed {
            Some(Ok(Renewed::Renewed { others, .. })) => {
                self.renewed = start;
                self.others = others;
                self.keep_runs(start);
            }
            Some(Ok(Renewed::Dead)) => self.lose("other servers have declared this one dead"),
            failed => {
                self.steady_since = Instant::now();
                tracing::debug!(?failed, "the lease was not renewed");
                if self.renewed.elapsed() >= ASK_AFTER {
                    self.ask_others().await;
                }
            }
        }
    }

    /// Gives the lease up if others could declare this server dead. They cannot as long as the store is
    /// away for all of them.
    async fn ask_others(&mut self) {
        let Some(peers) = self.shared.peers.clone() else { return };
        let asked = self.others.iter();
        let asked = asked.map(|address| within(ANSWER_TIMEOUT, peers.can_write(address)));
        let answers = join_all(asked).await;
        let answers: Vec<Option<bool>> = answers.into_iter().map(Option::flatten).collect();
        let is_away_for_all = answers.contains(&Some(false)) && !answers.contains(&Some(true));
        if is_away_for_all || answers.is_empty() {
            self.keep_runs(Instant::now());
        } else {
            self.lose("this server cannot reach the store, and others may");
        }
    }

    /// Lets the processes of calls go on until this server has to give up a lease that was valid at this time.
    fn keep_runs(&self, valid: Instant) {
        let left = REPLICA_RUNS_KEPT.saturating_sub(valid.elapsed());
        self.shared.runner.keep_for(Some(left));
    }

    fn lose(&mut self, cause: &str) {
        tracing::error!(cause, "the lease of this server is lost: its sessions and their work end");
        self.is_lost = true;
        self.shared.metrics.replicas().lease_lost();
        // The owner of the processes kills them, and keeps their ends.
        self.shared.runner.keep_for(Some(Duration::ZERO));
        // What was prepared for calls that others may have by now.
        self.shared.restarts.clear();
        self.shared.ownership.end_term();
    }

    async fn rejoin(&mut self) {
        let start = Instant::now();
        match within(REJOIN_TIMEOUT, self.replicas.rejoin()).await {
            Some(Ok(())) => {
                self.renewed = start;
                self.steady_since = start;
                self.is_lost = false;
                self.shared.ownership.note_renewal(true);
                self.shared.ownership.begin_term();
                self.keep_runs(start);
                tracing::info!("this server has a lease again, under another id");
            }
            failed => tracing::debug!(?failed, "this server has no lease"),
        }
    }
}

/// Returns the output of a future, or `None` if it takes longer.
async fn within<T>(bound: Duration, future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        output = future => Some(output),
        () = tokio::time::sleep(bound) => None,
    }
}
