//! A store that outlives its server, has delays, and fails on request.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use callpark::model::{Call, CallId, FollowUp, Session, SessionId, Tenant, Timestamp};
use callpark::store::{
    Append, CallPage, CallQuery, ChangePage, ChangeQuery, DueFollowUps, DueQuery, DueSessions,
    EventPage, EventQuery, Expired, ExpiryPolicy, FollowUpPage, FollowUpQuery, FollowUpWithTask,
    MemoryStore, MessagePage, MessageSlice, OutputPage, OutputQuery, PageTokenKey, RequestRecord,
    SessionPage, SessionQuery, Store, StoreError,
};
use rand::RngExt as _;
use rand::rngs::StdRng;

/// The longest delay until an append is durable, and until its writer is notified.
const DELAY_MAX_MS: u64 = 8;

/// The stored data, and the state of the disk.
pub struct Disk {
    pub store: MemoryStore,
    delays: Mutex<StdRng>,
    /// Appends fail, and change nothing.
    fails: AtomicBool,
}

impl Disk {
    pub fn new(delays: StdRng) -> Self {
        Self { store: MemoryStore::new(), delays: Mutex::new(delays), fails: false.into() }
    }

    /// From now on appends fail, or don't.
    pub fn fail(&self, fails: bool) {
        self.fails.store(fails, Ordering::Relaxed);
    }

    fn delay(&self) -> Duration {
        let mut delays = self.delays.lock().expect("no panic");
        Duration::from_millis(delays.random_range(0..=DELAY_MAX_MS))
    }
}

/// The disk, as one life of the server sees it.
pub struct Mounted {
    disk: Arc<Disk>,
    /// Appends become durable in the order in which they are made.
    turn: tokio::sync::Mutex<()>,
}

impl Mounted {
    pub fn new(disk: &Arc<Disk>) -> Self {
        Self { disk: disk.clone(), turn: tokio::sync::Mutex::default() }
    }
}

#[async_trait]
impl Store for Mounted {
    fn page_token_key(&self) -> PageTokenKey {
        self.disk.store.page_token_key()
    }

    async fn append(&self, append: Append) -> Result<(), StoreError> {
        let appended = {
            let _turn = self.turn.lock().await;
            tokio::time::sleep(self.disk.delay()).await;
            if self.disk.fails.load(Ordering::Relaxed) {
                return Err(StoreError::Unavailable("the simulation says so".to_owned()));
            }
            self.disk.store.append(append).await
        };
        // A crash in this span: durable, but not acknowledged.
        tokio::time::sleep(self.disk.delay()).await;
        appended
    }

    async fn follow_up(&self, id: CallId) -> Result<Option<FollowUp>, StoreError> {
        self.disk.store.follow_up(id).await
    }

    async fn follow_up_with_task(
        &self,
        id: CallId,
    ) -> Result<Option<FollowUpWithTask>, StoreError> {
        self.disk.store.follow_up_with_task(id).await
    }

    async fn follow_ups(&self, query: FollowUpQuery) -> Result<FollowUpPage, StoreError> {
        self.disk.store.follow_ups(query).await
    }

    async fn due_follow_ups(&self, query: DueQuery) -> Result<DueFollowUps, StoreError> {
        self.disk.store.due_follow_ups(query).await
    }

    async fn sessions_with_due_follow_ups(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> Result<DueSessions, StoreError> {
        self.disk.store.sessions_with_due_follow_ups(now, limit).await
    }

    async fn leased_follow_ups(
        &self,
        tenant: &Tenant,
        request_id: &str,
    ) -> Result<Vec<FollowUp>, StoreError> {
        self.disk.store.leased_follow_ups(tenant, request_id).await
    }

    async fn session(&self, id: SessionId) -> Result<Option<Session>, StoreError> {
        self.disk.store.session(id).await
    }

    async fn sessions(&self, query: SessionQuery) -> Result<SessionPage, StoreError> {
        self.disk.store.sessions(query).await
    }

    async fn events(&self, query: EventQuery) -> Result<EventPage, StoreError> {
        self.disk.store.events(query).await
    }

    async fn call(&self, id: CallId) -> Result<Option<Call>, StoreError> {
        self.disk.store.call(id).await
    }

    async fn live_calls(&self, session_id: SessionId) -> Result<Vec<Call>, StoreError> {
        self.disk.store.live_calls(session_id).await
    }

    async fn calls(&self, query: CallQuery) -> Result<CallPage, StoreError> {
        self.disk.store.calls(query).await
    }

    async fn changes(&self, query: ChangeQuery) -> Result<ChangePage, StoreError> {
        self.disk.store.changes(query).await
    }

    async fn output(&self, query: OutputQuery) -> Result<Option<OutputPage>, StoreError> {
        self.disk.store.output(query).await
    }

    async fn messages(
        &self,
        session_id: SessionId,
        bytes_max: u64,
    ) -> Result<MessagePage, StoreError> {
        self.disk.store.messages(session_id, bytes_max).await
    }

    async fn messages_after(
        &self,
        session_id: SessionId,
        after: u64,
        limit: u32,
        bytes_max: usize,
    ) -> Result<MessageSlice, StoreError> {
        self.disk.store.messages_after(session_id, after, limit, bytes_max).await
    }

    async fn request(
        &self,
        tenant: &Tenant,
        request_id: &str,
    ) -> Result<Option<RequestRecord>, StoreError> {
        self.disk.store.request(tenant, request_id).await
    }

    async fn sessions_with_live_calls(
        &self,
        after: Option<SessionId>,
        limit: u32,
    ) -> Result<Vec<SessionId>, StoreError> {
        self.disk.store.sessions_with_live_calls(after, limit).await
    }

    async fn expire(&self, policy: ExpiryPolicy) -> Result<Expired, StoreError> {
        self.disk.store.expire(policy).await
    }

    async fn newest_time(&self) -> Result<Option<Timestamp>, StoreError> {
        self.disk.store.newest_time().await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.disk.store.check().await
    }

    /// The disk stays: the next life of the server finds it.
    async fn close(&self) {}
}
