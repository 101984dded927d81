//! Who hears of a batch once it is durable: readers, those who wait, whoever delivers follow-ups, and
//! the counters.

use std::sync::atomic::Ordering;

use super::batch::{Batch, News};
use super::{Shared, Watched};
use crate::machine::{Projection, Written};
use crate::model::{Delivery, FollowUpState};

impl Shared {
    /// Tells readers what is new, now that it is durable.
    pub(super) fn tell(&self, projection: &Projection, batch: &Batch) {
        let session = &projection.session;
        let Some(head) = batch.news.head else { return };
        self.heads.publish(&session.id, head);
        for (id, version) in &batch.news.calls {
            self.calls.publish(id, *version);
        }
        self.count(&batch.written);
        if batch.news.tasks_changed {
            let count = self.change_count.fetch_add(1, Ordering::Relaxed) + 1;
            self.changes.publish(&Watched::Tenant(session.tenant.clone()), count);
            self.changes.publish(&Watched::Session(session.id), count);
        }
        self.tell_follow_ups(projection, &batch.news);
    }

    /// Wakes whoever delivers. While a turn runs nobody is woken: it takes them between two rounds, and
    /// its end is news, too: what it left waiting can be told then.
    fn tell_follow_ups(&self, projection: &Projection, news: &News) {
        if news.follow_ups.is_empty() && !news.turn_ended {
            return;
        }
        let session = &projection.session;
        let is_busy = projection.live_calls().any(|call| call.turn.is_some());
        let now = self.clock.now();
        let (mut is_ready, mut is_for_lease) = (news.turn_ended, false);
        for follow_up in &news.follow_ups {
            self.metrics.follow_ups().changed(follow_up.is_new, follow_up.failed, follow_up.state);
            let is_pending = follow_up.state == FollowUpState::Pending;
            is_for_lease |= is_pending && follow_up.delivery == Delivery::Lease;
            match follow_up.due_time {
                Some(due) if due > now => self.wake_queue.arm(due),
                _ => is_ready |= is_pending && follow_up.delivery == Delivery::Engine,
            }
        }
        if is_ready && !is_busy && !self.wake_queue.wake(&session.tenant, session.id) {
            tracing::debug!(session_id = %session.id, "its follow-ups wait for the next sweep");
        }
        if is_for_lease {
            let count = self.change_count.fetch_add(1, Ordering::Relaxed) + 1;
            self.leases.publish(&Watched::Tenant(session.tenant.clone()), count);
            self.leases.publish(&Watched::Session(session.id), count);
        }
    }

    fn count(&self, written: &Written) {
        for kind in &written.accepted {
            self.metrics.call_started(*kind);
        }
        for kind in &written.parked {
            self.metrics.call_parked(*kind);
        }
        let ended = written.settled.iter().filter(|call| call.acknowledge_time.is_none());
        let mut change = i32::try_from(written.accepted.len()).unwrap_or(i32::MAX);
        for call in ended {
            self.metrics.call_finished(call.kind, call.state);
            change -= 1;
        }
        self.metrics.live_calls_changed(change);
    }
}
