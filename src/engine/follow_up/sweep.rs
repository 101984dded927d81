//! The regular sweep: the end of expired leases, and the sessions whose follow-ups have become due.

use std::time::Duration;

use tokio::time::Instant;

use super::FollowUps;
use crate::engine::Error;
use crate::machine::FollowUpOrder;
use crate::model::Timestamp;
use crate::model::limits::{FOLLOW_UP_SESSIONS_MAX, FOLLOW_UP_SWEEP_MS};
use crate::store::{DueQuery, DueScope};

/// The number of expired leases that one step of a sweep ends.
const EXPIRED_LEASES_PER_STEP: u32 = 100;

impl FollowUps {
    /// Wakes all sessions with follow-ups that are due, and ends expired leases. Returns the time of
    /// the next sweep.
    pub(super) async fn sweep_follow_ups(&self) -> Instant {
        let interval = Duration::from_millis(FOLLOW_UP_SWEEP_MS);
        let next_due = match self.sweep_due().await {
            Ok(next_due) => next_due,
            Err(error) => {
                tracing::warn!(%error, "cannot search for follow-ups that are due");
                None
            }
        };
        let pause = next_due.map_or(interval, |due| due.since(self.shared.now()).min(interval));
        // The clock of the store is finer than that of the timer: a pause of 0 would spin.
        Instant::now() + pause.max(Duration::from_millis(1))
    }

    async fn sweep_due(&self) -> Result<Option<Timestamp>, Error> {
        let store = &self.shared.store;
        let limit = u32::try_from(FOLLOW_UP_SESSIONS_MAX).unwrap_or(u32::MAX);
        let due = store.sessions_with_due_follow_ups(self.shared.now(), limit).await?;
        for (tenant, session_id) in &due.sessions {
            self.shared.wake_queue.wake(tenant, *session_id);
        }
        loop {
            let (scope, limit) = (DueScope::Leased, EXPIRED_LEASES_PER_STEP);
            let query = DueQuery { scope, now: self.shared.now(), limit };
            let expired = store.due_follow_ups(query).await?;
            self.report_unreadable(&expired.unreadable);
            for record in &expired.records {
                match self.apply_order(record, FollowUpOrder::LeaseExpired, None).await {
                    // The replica that has the session ends the lease.
                    Ok(_) | Err(Error::NotOwner { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            if expired.records.is_empty() {
                return Ok([due.next, expired.next].into_iter().flatten().min());
            }
        }
    }
}
