//! The sessions with follow-ups to deliver, and a bound on simultaneous deliveries.
//!
//! The queue holds sessions only. The follow-ups are in the store, so a sweep rebuilds what is lost
//! with the queue. Tenants are served in turn, and a session has at most one delivery at a time.

use std::collections::{HashMap, HashSet, VecDeque};

use tokio::sync::watch;

use crate::model::limits::{
    FOLLOW_UP_SESSIONS_MAX, FOLLOW_UP_TURNS_MAX, FOLLOW_UP_TURNS_TENANT_MAX,
};
use crate::model::{SessionId, Tenant, Timestamp};
use crate::sync::{Mutex, MutexGuard, PoisonError};

/// The sessions that wait for a delivery.
#[derive(Debug)]
pub(crate) struct WakeQueue {
    state: Mutex<QueueState>,
    /// The number of changes so far.
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct QueueState {
    /// The waiting sessions of each tenant.
    waiting: HashMap<Tenant, VecDeque<SessionId>>,
    /// The tenants with waiting sessions, in the order in which they are served.
    tenants: VecDeque<Tenant>,
    /// All waiting sessions.
    known: HashSet<SessionId>,
    /// The sessions with a delivery under way, and whether they were woken since it began.
    busy: HashMap<SessionId, bool>,
    /// The number of deliveries under way of each tenant.
    running: HashMap<Tenant, usize>,
    /// The earliest time at which another follow-up becomes due, or `None` if it isn't known.
    due_time: Option<Timestamp>,
}

/// The right to deliver the follow-ups of a session.
pub(super) struct Ticket {
    pub(super) tenant: Tenant,
    pub(super) session_id: SessionId,
}

impl Default for WakeQueue {
    fn default() -> Self {
        Self { state: Mutex::default(), changes: watch::channel(0).0 }
    }
}

impl WakeQueue {
    /// Enqueues a session that may have follow-ups to deliver. Returns `false` if the queue is full;
    /// the next sweep finds the session.
    pub(crate) fn wake(&self, tenant: &Tenant, session_id: SessionId) -> bool {
        let is_enqueued = self.lock().wake(tenant, session_id);
        self.notify();
        is_enqueued
    }

    /// Notes the time at which a follow-up becomes due.
    pub(crate) fn arm(&self, due_time: Timestamp) {
        let is_earlier = self.lock().arm(due_time);
        if is_earlier {
            self.notify();
        }
    }

    /// Takes the earliest known time at which a follow-up becomes due. The caller must look again at
    /// that time.
    pub(super) fn take_due_time(&self) -> Option<Timestamp> {
        self.lock().due_time.take()
    }

    /// Takes the next session that may have a delivery, or returns `None` if there is none.
    pub(super) fn next(&self) -> Option<Ticket> {
        self.lock().next()
    }

    /// Subscribes to changes of the queue.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Ends a delivery.
    pub(super) fn finish(&self, ticket: &Ticket) {
        self.lock().finish(ticket);
        self.notify();
    }

    fn notify(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        // A panic loses at most a session, which the next sweep wakes again.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl QueueState {
    /// Returns `true` if no earlier time was known.
    fn arm(&mut self, due_time: Timestamp) -> bool {
        let is_earlier = self.due_time.is_none_or(|known| due_time < known);
        if is_earlier {
            self.due_time = Some(due_time);
        }
        is_earlier
    }

    fn wake(&mut self, tenant: &Tenant, session_id: SessionId) -> bool {
        if let Some(again) = self.busy.get_mut(&session_id) {
            *again = true;
            return true;
        }
        if self.known.contains(&session_id) {
            return true;
        }
        if self.known.len() >= FOLLOW_UP_SESSIONS_MAX {
            return false;
        }
        self.known.insert(session_id);
        let waiting = self.waiting.entry(tenant.clone()).or_default();
        if waiting.is_empty() {
            self.tenants.push_back(tenant.clone());
        }
        waiting.push_back(session_id);
        true
    }

    fn next(&mut self) -> Option<Ticket> {
        if self.busy.len() >= FOLLOW_UP_TURNS_MAX {
            return None;
        }
        for _ in 0..self.tenants.len() {
            let tenant = self.tenants.pop_front()?;
            let running = self.running.get(&tenant).copied().unwrap_or_default();
            if running >= FOLLOW_UP_TURNS_TENANT_MAX {
                self.tenants.push_back(tenant);
                continue;
            }
            let Some(waiting) = self.waiting.get_mut(&tenant) else { continue };
            let session_id = waiting.pop_front();
            if waiting.is_empty() {
                self.waiting.remove(&tenant);
            } else {
                self.tenants.push_back(tenant.clone());
            }
            let Some(session_id) = session_id else { continue };
            self.known.remove(&session_id);
            self.busy.insert(session_id, false);
            *self.running.entry(tenant.clone()).or_default() += 1;
            return Some(Ticket { tenant, session_id });
        }
        None
    }

    fn finish(&mut self, ticket: &Ticket) {
        if let Some(running) = self.running.get_mut(&ticket.tenant) {
            *running = running.saturating_sub(1);
            if *running == 0 {
                self.running.remove(&ticket.tenant);
            }
        }
        if self.busy.remove(&ticket.session_id) == Some(true) {
            self.wake(&ticket.tenant, ticket.session_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_has_one_delivery_at_a_time_and_another_if_it_was_woken_meanwhile() {
        let (mut queue, tenant) = (QueueState::default(), Tenant::new("a"));
        let session_id = SessionId::random();
        assert!(queue.wake(&tenant, session_id) && queue.wake(&tenant, session_id));
        let ticket = queue.next().expect("waits");
        assert!(queue.next().is_none(), "it was enqueued twice");
        queue.wake(&tenant, session_id);
        assert!(queue.next().is_none(), "it has two deliveries");
        queue.finish(&ticket);
        let ticket = queue.next().expect("was woken");
        queue.finish(&ticket);
        assert!(queue.next().is_none());
    }

    #[test]
    fn a_tenant_with_many_sessions_leaves_slots_for_others() {
        let (mut queue, many, few) =
            (QueueState::default(), Tenant::new("many"), Tenant::new("few"));
        for _ in 0..=FOLLOW_UP_TURNS_TENANT_MAX {
            queue.wake(&many, SessionId::random());
        }
        queue.wake(&few, SessionId::random());
        let first: Vec<Ticket> = std::iter::from_fn(|| queue.next()).collect();
        let of = |tenant: &Tenant| first.iter().filter(|ticket| ticket.tenant == *tenant).count();
        assert_eq!((of(&many), of(&few)), (FOLLOW_UP_TURNS_TENANT_MAX, 1));
        assert_eq!(first[1].tenant, few, "tenants are served in turn");
        queue.finish(&first[0]);
        assert_eq!(queue.next().map(|ticket| ticket.tenant), Some(many));
    }

    #[test]
    fn a_full_queue_leaves_sessions_to_the_sweep() {
        let (mut queue, tenant) = (QueueState::default(), Tenant::new("a"));
        for _ in 0..FOLLOW_UP_SESSIONS_MAX {
            assert!(queue.wake(&tenant, SessionId::random()));
        }
        assert!(!queue.wake(&tenant, SessionId::random()));
    }

    #[test]
    fn the_earliest_time_counts() {
        let mut queue = QueueState::default();
        let earlier = [5, 3, 4].map(|micros| queue.arm(Timestamp::from_micros(micros)));
        assert_eq!(earlier, [true, true, false]);
        assert_eq!(queue.due_time, Some(Timestamp::from_micros(3)));
    }
}
