//! What a new server does about what an older one has left, and about what has expired.

use tokio::time::{Instant, MissedTickBehavior};

use super::inbox::Origin;
use super::{Engine, Error};
use crate::model::{CallId, Timestamp};
use crate::store::ExpiryPolicy;

/// Sessions looked at in one step of a recovery.
const SESSIONS_PER_STEP: u32 = 256;

/// Rows that one step of an expiry removes.
const EXPIRED_ROWS_MAX: u32 = 500;

impl Engine {
    /// Ends, as LOST, every call that an older server has left unfinished, once what is left of
    /// its processes is killed. Returns how many there were.
    pub async fn recover(&self) -> Result<usize, Error> {
        let (mut sessions, mut calls) = (Vec::new(), Vec::<CallId>::new());
        loop {
            let after = sessions.last().copied();
            let store = &self.shared.store;
            let page = store.sessions_with_live_calls(after, SESSIONS_PER_STEP).await?;
            if page.is_empty() {
                break;
            }
            for id in &page {
                calls.extend(store.live_calls(*id).await?.iter().map(|call| call.id));
            }
            sessions.extend(page);
        }
        if calls.is_empty() {
            return Ok(0);
        }
        let executor = self.shared.executor.clone();
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
            // Its actor finds calls that nothing runs for, and ends them.
            self.shared.actor(Origin::Stored(id));
        }
        for id in &calls {
            self.until_ended(*id).await?;
        }
        tracing::warn!(calls = calls.len(), "calls that ran when the last server stopped are lost");
        Ok(calls.len())
    }

    async fn until_ended(&self, id: CallId) -> Result<(), Error> {
        let mut changes = self.shared.calls.subscribe(&id);
        loop {
            changes.newest();
            let call = self.shared.store.call(id).await?;
            if call.is_none_or(|call| call.state.is_terminal()) {
                return Ok(());
            }
            changes.changed().await;
        }
    }

    /// Removes what has expired, again and again, until the engine stops.
    pub fn sweep(&self) {
        let engine = self.clone();
        self.shared.tracker.spawn(async move {
            let mut ticks = tokio::time::interval(engine.shared.options.sweep_interval);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    _ = ticks.tick() => {}
                    () = engine.shared.stopping.cancelled() => return,
                }
                if let Err(error) = engine.sweep_once().await {
                    tracing::warn!(%error, "what has expired could not be removed");
                }
            }
        });
    }

    /// Removes all that has expired by now.
    pub async fn sweep_once(&self) -> Result<(), Error> {
        let began = Instant::now();
        loop {
            let now = self.now();
            let options = &self.shared.options;
            let age = i64::try_from(options.machine.retention.as_micros()).unwrap_or(i64::MAX);
            let older_than = Timestamp::from_micros(now.as_micros().saturating_sub(age));
            let policy = ExpiryPolicy {
                now,
                older_than,
                session_events_max: options.session_events_max,
                rows_max: EXPIRED_ROWS_MAX,
            };
            let expired = self.shared.store.expire(policy).await?;
            self.shared.metrics.tasks_expired(expired.calls);
            self.shared.metrics.sequences_trimmed(expired.events);
            if !expired.more || self.shared.stopping.is_cancelled() {
                let elapsed_ms = began.elapsed().as_millis();
                tracing::debug!(elapsed_ms, "what has expired is removed");
                return Ok(());
            }
        }
    }
}
