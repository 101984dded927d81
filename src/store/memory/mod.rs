//! A store in memory, for tests and simulations. It is deterministic: it has no threads and no
//! clock.

mod append;
mod expire;
mod follow_ups;
mod list;
mod log;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::rules::{self, OutputCounts};
use super::{
    Append, CallPage, CallQuery, ChangePage, ChangeQuery, DueFollowUps, DueQuery, DueSessions,
    EventPage, EventQuery, Expired, ExpiryPolicy, FollowUpPage, FollowUpQuery, FollowUpWithTask,
    MessagePage, MessageSlice, OutputPage, OutputQuery, PageTokenKey, RequestRecord, SessionPage,
    SessionQuery, Store, StoreError, StoredEvent, StoredMessage,
};
use crate::model::{Call, CallId, FollowUp, Session, SessionId, Tenant, Timestamp};

/// A store whose content is lost when it is dropped.
#[derive(Debug)]
pub struct MemoryStore {
    page_token_key: PageTokenKey,
    /// Locked for one operation, never across an await.
    state: Mutex<MemoryState>,
}

impl MemoryStore {
    /// Creates an empty store.
    pub fn new() -> Self {
        Self { page_token_key: PageTokenKey::random(), state: Mutex::default() }
    }

    fn open(&self) -> Result<MutexGuard<'_, MemoryState>, StoreError> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return Err(StoreError::Unavailable("it is closed".to_owned()));
        }
        Ok(state)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

/// The content of the store. An operation checks first and changes afterwards, so that one that is
/// refused changes nothing.
#[derive(Debug, Default)]
struct MemoryState {
    closed: bool,
    /// The newest change number.
    change: u64,
    sessions: BTreeMap<SessionId, SessionLog>,
    calls: BTreeMap<CallId, StoredCall>,
    outputs: BTreeMap<CallId, StoredOutput>,
    /// The number of the newest follow-up.
    follow_up: u64,
    follow_ups: BTreeMap<CallId, StoredFollowUp>,
    requests: BTreeMap<(Tenant, String), StoredRequest>,
}

/// A session and its log: the events from `first_sequence` to `head_sequence`.
#[derive(Debug)]
struct SessionLog {
    session: Session,
    events: VecDeque<StoredEvent>,
    /// The newest messages of the history.
    messages: VecDeque<StoredMessage>,
}

impl SessionLog {
    /// Returns the index of the first event after `sequence`, at most the length of the queue.
    pub(super) fn index_after(&self, sequence: u64) -> usize {
        let trimmed = self.session.first_sequence.saturating_sub(1);
        let index = usize::try_from(sequence.saturating_sub(trimmed)).unwrap_or(usize::MAX);
        index.min(self.events.len())
    }
}

/// A call and the number of its last change.
#[derive(Debug)]
struct StoredCall {
    call: Call,
    change: u64,
}

/// The positions of a call's output in the log of its session.
#[derive(Debug)]
struct StoredOutput {
    session_id: SessionId,
    counts: OutputCounts,
    sequences: VecDeque<u64>,
}

/// A follow-up with its task, and its number in the order of first storing.
#[derive(Debug)]
struct StoredFollowUp {
    follow_up: FollowUpWithTask,
    number: u64,
}

/// A request, with the call or the session together with which it expires. With neither it expires
/// by its age.
#[derive(Debug)]
struct StoredRequest {
    record: RequestRecord,
    call_id: Option<CallId>,
    session_id: Option<SessionId>,
}

#[async_trait]
impl Store for MemoryStore {
    fn page_token_key(&self) -> PageTokenKey {
        self.page_token_key.clone()
    }

    async fn append(&self, append: Append) -> Result<(), StoreError> {
        append::append(&mut *self.open()?, append)
    }

    async fn session(&self, id: SessionId) -> Result<Option<Session>, StoreError> {
        Ok(self.open()?.sessions.get(&id).map(|log| log.session.clone()))
    }

    async fn sessions(&self, query: SessionQuery) -> Result<SessionPage, StoreError> {
        Ok(list::list_sessions(&*self.open()?, &query))
    }

    async fn events(&self, query: EventQuery) -> Result<EventPage, StoreError> {
        Ok(log::events(&*self.open()?, &query))
    }

    async fn call(&self, id: CallId) -> Result<Option<Call>, StoreError> {
        Ok(self.open()?.calls.get(&id).map(|entry| entry.call.clone()))
    }

    async fn live_calls(&self, session_id: SessionId) -> Result<Vec<Call>, StoreError> {
        Ok(list::live_calls(&*self.open()?, session_id))
    }

    async fn calls(&self, query: CallQuery) -> Result<CallPage, StoreError> {
        Ok(list::list_calls(&*self.open()?, &query))
    }

    async fn changes(&self, query: ChangeQuery) -> Result<ChangePage, StoreError> {
        Ok(list::changes(&*self.open()?, &query))
    }

    async fn output(&self, query: OutputQuery) -> Result<Option<OutputPage>, StoreError> {
        Ok(log::output(&*self.open()?, &query))
    }

    async fn messages(
        &self,
        session_id: SessionId,
        bytes_max: u64,
    ) -> Result<MessagePage, StoreError> {
        let state = self.open()?;
        let Some(log) = state.sessions.get(&session_id) else { return Ok(MessagePage::default()) };
        Ok(rules::newest_that_fit(log.messages.iter().rev().cloned(), bytes_max))
    }

    async fn messages_after(
        &self,
        session_id: SessionId,
        after: u64,
        limit: u32,
        bytes_max: usize,
    ) -> Result<MessageSlice, StoreError> {
        let state = self.open()?;
        let Some(log) = state.sessions.get(&session_id) else {
            return Ok(MessageSlice::default());
        };
        let newer = log.messages.iter().filter(|message| message.number > after).cloned();
        Ok(rules::first_that_fit(newer, limit, bytes_max))
    }

    async fn follow_up(&self, id: CallId) -> Result<Option<FollowUp>, StoreError> {
        Ok(self.open()?.follow_ups.get(&id).map(|stored| stored.follow_up.record.clone()))
    }

    async fn follow_up_with_task(
        &self,
        id: CallId,
    ) -> Result<Option<FollowUpWithTask>, StoreError> {
        Ok(self.open()?.follow_ups.get(&id).map(|stored| stored.follow_up.clone()))
    }

    async fn follow_ups(&self, query: FollowUpQuery) -> Result<FollowUpPage, StoreError> {
        Ok(follow_ups::list_follow_ups(&*self.open()?, &query))
    }

    async fn due_follow_ups(&self, query: DueQuery) -> Result<DueFollowUps, StoreError> {
        Ok(follow_ups::due_follow_ups(&*self.open()?, &query))
    }

    async fn sessions_with_due_follow_ups(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> Result<DueSessions, StoreError> {
        Ok(follow_ups::sessions_with_due_follow_ups(&*self.open()?, now, limit))
    }

    async fn leased_follow_ups(
        &self,
        tenant: &Tenant,
        request_id: &str,
    ) -> Result<Vec<FollowUp>, StoreError> {
        Ok(follow_ups::leased_follow_ups(&*self.open()?, tenant, request_id))
    }

    async fn request(
        &self,
        tenant: &Tenant,
        request_id: &str,
    ) -> Result<Option<RequestRecord>, StoreError> {
        let key = (tenant.clone(), request_id.to_owned());
        Ok(self.open()?.requests.get(&key).map(|kept| kept.record.clone()))
    }

    async fn sessions_with_live_calls(
        &self,
        after: Option<SessionId>,
        limit: u32,
    ) -> Result<Vec<SessionId>, StoreError> {
        Ok(list::sessions_with_live_calls(&*self.open()?, after, limit))
    }

    async fn expire(&self, policy: ExpiryPolicy) -> Result<Expired, StoreError> {
        Ok(expire::expire(&mut *self.open()?, &policy))
    }

    async fn open_sessions(&self, tenant: &Tenant, count_max: u32) -> Result<u32, StoreError> {
        Ok(list::open_sessions(&*self.open()?, tenant, count_max))
    }

    async fn newest_time(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.open()?.sessions.values().map(|log| log.session.update_time).max())
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.open().map(|_| ())
    }

    async fn close(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
    }
}
