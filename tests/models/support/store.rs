//! The store in memory, with time for others before and after each of its operations.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use shuttle::rand::Rng;

use super::pause;
use crate::model::{Call, CallId, FollowUp, PayloadKind, Session, SessionId, Tenant, Timestamp};
use crate::store::{
    Append, CallPage, CallQuery, ChangePage, ChangeQuery, DueFollowUps, DueQuery, DueSessions,
    EventPage, EventQuery, Expired, ExpiryPolicy, FollowUpPage, FollowUpQuery, FollowUpWithTask,
    MemoryStore, MessagePage, MessageSlice, OutputPage, OutputQuery, PageTokenKey, RequestRecord,
    SessionPage, SessionQuery, Store, StoreError,
};

/// The store, and what was appended to it.
#[derive(Debug, Default)]
pub struct Log {
    store: MemoryStore,
    events: Mutex<HashMap<CallId, Vec<PayloadKind>>>,
    breaks: AtomicBool,
    fails: AtomicUsize,
}

impl Log {
    /// Breaks the caller of the next append, before or after it is stored.
    pub fn break_next(&self) {
        self.breaks.store(true, Ordering::SeqCst);
    }

    fn break_now(&self) {
        if self.breaks.load(Ordering::SeqCst) && shuttle::rand::thread_rng().r#gen() {
            self.breaks.store(false, Ordering::SeqCst);
            // Without the words of a panic: it is what the model wants.
            std::panic::resume_unwind(Box::new("a break"));
        }
    }

    /// Of the next appends so many find no room; which ones is for chance to say.
    pub fn fail_some(&self, count: usize) {
        self.fails.store(count, Ordering::SeqCst);
    }

    fn has_room(&self) -> Result<(), StoreError> {
        let fails = self.fails.load(Ordering::SeqCst);
        if fails > 0 && shuttle::rand::thread_rng().r#gen() {
            self.fails.store(fails - 1, Ordering::SeqCst);
            return Err(StoreError::Full("a model".into()));
        }
        Ok(())
    }

    /// Returns the number of events of this kind that the log has of the call.
    pub fn count(&self, call_id: CallId, kind: PayloadKind) -> usize {
        let events = self.events();
        events.get(&call_id).map_or(0, |kinds| kinds.iter().filter(|k| **k == kind).count())
    }

    /// The calls that have events in the log.
    pub fn calls(&self) -> Vec<CallId> {
        self.events().keys().copied().collect()
    }

    fn events(&self) -> MutexGuard<'_, HashMap<CallId, Vec<PayloadKind>>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An operation takes effect between two moments at which others may do something.
macro_rules! between {
    ($operation:expr) => {{
        pause().await;
        let done = $operation.await;
        pause().await;
        done
    }};
}

#[async_trait]
impl Store for Log {
    fn page_token_key(&self) -> PageTokenKey {
        self.store.page_token_key()
    }

    async fn append(&self, append: Append) -> Result<(), StoreError> {
        let kinds: Vec<_> =
            append.events.iter().filter_map(|e| Some((e.call_id?, e.kind))).collect();
        between!(async {
            self.break_now();
            self.has_room()?;
            let appended = self.store.append(append).await;
            if appended.is_ok() {
                let mut events = self.events();
                kinds.into_iter().for_each(|(id, kind)| events.entry(id).or_default().push(kind));
            }
            self.break_now();
            appended
        })
    }

    async fn session(&self, id: SessionId) -> Result<Option<Session>, StoreError> {
        between!(self.store.session(id))
    }

    async fn sessions(&self, query: SessionQuery) -> Result<SessionPage, StoreError> {
        between!(self.store.sessions(query))
    }

    async fn events(&self, query: EventQuery) -> Result<EventPage, StoreError> {
        between!(self.store.events(query))
    }

    async fn call(&self, id: CallId) -> Result<Option<Call>, StoreError> {
        between!(self.store.call(id))
    }

    async fn live_calls(&self, session_id: SessionId) -> Result<Vec<Call>, StoreError> {
        between!(self.store.live_calls(session_id))
    }

    async fn calls(&self, query: CallQuery) -> Result<CallPage, StoreError> {
        between!(self.store.calls(query))
    }

    async fn changes(&self, query: ChangeQuery) -> Result<ChangePage, StoreError> {
        between!(self.store.changes(query))
    }

    async fn output(&self, query: OutputQuery) -> Result<Option<OutputPage>, StoreError> {
        between!(self.store.output(query))
    }

    async fn messages(
        &self,
        session_id: SessionId,
        bytes_max: u64,
    ) -> Result<MessagePage, StoreError> {
        between!(self.store.messages(session_id, bytes_max))
    }

    async fn messages_after(
        &self,
        session_id: SessionId,
        after: u64,
        limit: u32,
        bytes_max: usize,
    ) -> Result<MessageSlice, StoreError> {
        between!(self.store.messages_after(session_id, after, limit, bytes_max))
    }

    async fn follow_up(&self, id: CallId) -> Result<Option<FollowUp>, StoreError> {
        between!(self.store.follow_up(id))
    }

    async fn follow_up_with_task(
        &self,
        id: CallId,
    ) -> Result<Option<FollowUpWithTask>, StoreError> {
        between!(self.store.follow_up_with_task(id))
    }

    async fn follow_ups(&self, query: FollowUpQuery) -> Result<FollowUpPage, StoreError> {
        between!(self.store.follow_ups(query))
    }

    async fn due_follow_ups(&self, query: DueQuery) -> Result<DueFollowUps, StoreError> {
        between!(self.store.due_follow_ups(query))
    }

    async fn sessions_with_due_follow_ups(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> Result<DueSessions, StoreError> {
        between!(self.store.sessions_with_due_follow_ups(now, limit))
    }

    async fn leased_follow_ups(
        &self,
        tenant: &Tenant,
        request_id: &str,
    ) -> Result<Vec<FollowUp>, StoreError> {
        between!(self.store.leased_follow_ups(tenant, request_id))
    }

    async fn request(
        &self,
        tenant: &Tenant,
        request_id: &str,
    ) -> Result<Option<RequestRecord>, StoreError> {
        between!(self.store.request(tenant, request_id))
    }

    async fn sessions_with_live_calls(
        &self,
        after: Option<SessionId>,
        limit: u32,
    ) -> Result<Vec<SessionId>, StoreError> {
        between!(self.store.sessions_with_live_calls(after, limit))
    }

    async fn expire(&self, policy: ExpiryPolicy) -> Result<Expired, StoreError> {
        between!(self.store.expire(policy))
    }

    async fn open_sessions(&self, tenant: &Tenant, count_max: u32) -> Result<u32, StoreError> {
        between!(self.store.open_sessions(tenant, count_max))
    }

    async fn newest_time(&self) -> Result<Option<Timestamp>, StoreError> {
        between!(self.store.newest_time())
    }

    async fn check(&self) -> Result<(), StoreError> {
        between!(self.store.check())
    }

    async fn close(&self) {
        between!(self.store.close());
    }
}
