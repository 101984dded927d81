//! Removal of expired records, and of the oldest events of sessions that have too many.

use std::sync::Arc;

use tokio::time::{Instant, MissedTickBehavior};

use super::{Error, Shared};
use crate::model::Timestamp;
use crate::store::ExpiryPolicy;

/// The maximum number of rows that one step removes.
const EXPIRED_ROWS_MAX: u32 = 500;

/// Starts a task that removes expired records at intervals until the engine stops.
pub(super) fn spawn(shared: &Arc<Shared>) {
    let tracker = &shared.tracker;
    let shared = shared.clone();
    tracker.spawn(async move {
        let mut ticks = tokio::time::interval(shared.options.sweep_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = shared.stopping.cancelled() => return,
            }
            if let Err(error) = remove_expired(&shared).await {
                tracing::warn!(%error, "expired records could not be removed");
            }
        }
    });
}

/// Removes everything that has expired by now, or as much as it can until the server stops.
async fn remove_expired(shared: &Shared) -> Result<(), Error> {
    let began = Instant::now();
    loop {
        let now = shared.now();
        let options = &shared.options;
        let age = i64::try_from(options.machine.retention.as_micros()).unwrap_or(i64::MAX);
        let older_than = Timestamp::from_micros(now.as_micros().saturating_sub(age));
        let policy = ExpiryPolicy {
            now,
            older_than,
            session_events_max: options.session_events_max,
            rows_max: EXPIRED_ROWS_MAX,
        };
        let expired = shared.store.expire(policy).await?;
        shared.metrics.tasks_expired(expired.calls);
        shared.metrics.sequences_trimmed(expired.events);
        if !expired.more || shared.stopping.is_cancelled() {
            let elapsed_ms = began.elapsed().as_millis();
            tracing::debug!(elapsed_ms, "expired records were removed");
            return Ok(());
        }
    }
}
