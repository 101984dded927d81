//! Which sessions have follow-ups to deliver, and how many turns may do so at the same time.
//!
//! What is here is only who was woken: the follow-ups themselves are in the store, so forgetting all
//! of it costs a sweep's time and nothing else. Tenants take turns, and a session is delivered to by
//! one at a time.

use std::collections::{HashMap, HashSet, VecDeque};

use tokio::sync::watch;

use crate::model::limits::{
    FOLLOW_UP_SESSIONS_MAX, FOLLOW_UP_TURNS_MAX, FOLLOW_UP_TURNS_TENANT_MAX,
};
use crate::model::{SessionId, Tenant, Timestamp};
use crate::sync::{Mutex, MutexGuard, PoisonError};

/// Sessions that wait for a delivery.
#[derive(Debug)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    /// Counts what there is to look at.
    news: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    /// Sessions that wait, by tenant.
    waiting: HashMap<Tenant, VecDeque<SessionId>>,
    /// Tenants that have some, in the order in which they are served.
    tenants: VecDeque<Tenant>,
    /// All sessions that wait.
    known: HashSet<SessionId>,
    /// Sessions that are delivered to, and whether they were woken since.
    busy: HashMap<SessionId, bool>,
    /// How many of each tenant's are.
    running: HashMap<Tenant, usize>,
    /// When something is due that isn't yet.
    due_time: Option<Timestamp>,
}

/// A session that may be delivered to.
pub(super) struct Turn {
    pub(super) tenant: Tenant,
    pub(super) session_id: SessionId,
}

impl Default for Outbox {
    fn default() -> Self {
        Self { state: Mutex::default(), news: watch::channel(0).0 }
    }
}

impl Outbox {
    /// The session has follow-ups, or may have some. False: too many wait, and the next sweep finds
    /// it.
    pub(crate) fn wake(&self, tenant: &Tenant, session_id: SessionId) -> bool {
        let is_noted = self.lock().wake(tenant, session_id);
        self.tell();
        is_noted
    }

    /// Something will be due at that time.
    pub(crate) fn arm(&self, due_time: Timestamp) {
        let is_earlier = self.lock().arm(due_time);
        if is_earlier {
            self.tell();
        }
    }

    /// When something is due, if that is known. It is forgotten: whoever asks looks then.
    pub(super) fn take_due_time(&self) -> Option<Timestamp> {
        self.lock().due_time.take()
    }

    /// The next session that may be delivered to.
    pub(super) fn next(&self) -> Option<Turn> {
        self.lock().next()
    }

    /// Hears of news from now on.
    pub(super) fn listen(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    fn tell(&self) {
        self.news.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// The session isn't delivered to any more.
    pub(super) fn done(&self, turn: &Turn) {
        self.lock().done(turn);
        self.tell();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What a panic left behind is at worst a session that the next sweep wakes again.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// True: nothing was known to be due so early.
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

    fn next(&mut self) -> Option<Turn> {
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
            return Some(Turn { tenant, session_id });
        }
        None
    }

    fn done(&mut self, turn: &Turn) {
        if let Some(running) = self.running.get_mut(&turn.tenant) {
            *running = running.saturating_sub(1);
            if *running == 0 {
                self.running.remove(&turn.tenant);
            }
        }
        if self.busy.remove(&turn.session_id) == Some(true) {
            self.wake(&turn.tenant, turn.session_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_delivered_to_by_one_at_a_time_and_again_when_it_was_woken_meanwhile() {
        let (mut outbox, tenant) = (State::default(), Tenant::new("a"));
        let session_id = SessionId::random();
        assert!(outbox.wake(&tenant, session_id) && outbox.wake(&tenant, session_id));
        let turn = outbox.next().expect("waits");
        assert!(outbox.next().is_none(), "it waited twice");
        outbox.wake(&tenant, session_id);
        assert!(outbox.next().is_none(), "two deliver to it");
        outbox.done(&turn);
        let turn = outbox.next().expect("was woken");
        outbox.done(&turn);
        assert!(outbox.next().is_none());
    }

    #[test]
    fn a_tenant_with_many_sessions_leaves_room_for_others() {
        let (mut outbox, many, few) = (State::default(), Tenant::new("many"), Tenant::new("few"));
        for _ in 0..=FOLLOW_UP_TURNS_TENANT_MAX {
            outbox.wake(&many, SessionId::random());
        }
        outbox.wake(&few, SessionId::random());
        let first: Vec<Turn> = std::iter::from_fn(|| outbox.next()).collect();
        let of = |tenant: &Tenant| first.iter().filter(|turn| turn.tenant == *tenant).count();
        assert_eq!((of(&many), of(&few)), (FOLLOW_UP_TURNS_TENANT_MAX, 1));
        assert_eq!(first[1].tenant, few, "tenants take turns");
        outbox.done(&first[0]);
        assert_eq!(outbox.next().map(|turn| turn.tenant), Some(many));
    }

    #[test]
    fn more_sessions_than_there_is_room_for_are_left_to_the_sweep() {
        let (mut outbox, tenant) = (State::default(), Tenant::new("a"));
        for _ in 0..FOLLOW_UP_SESSIONS_MAX {
            assert!(outbox.wake(&tenant, SessionId::random()));
        }
        assert!(!outbox.wake(&tenant, SessionId::random()));
    }

    #[test]
    fn the_earliest_time_counts() {
        let mut outbox = State::default();
        let earlier = [5, 3, 4].map(|micros| outbox.arm(Timestamp::from_micros(micros)));
        assert_eq!(earlier, [true, true, false]);
        assert_eq!(outbox.due_time, Some(Timestamp::from_micros(3)));
    }
}
