//! A store whose appends take long, or end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use callpark::model::{Call, CallId, FollowUp, Session, SessionId, Tenant, Timestamp};
use callpark::store::*;

/// A store in memory, each append of which takes this time, as if the disk were slow. After so many of
/// them none returns, as if the server had been killed.
pub struct SlowStore {
    inner: Arc<MemoryStore>,
    append_time: Duration,
    appends_left: AtomicUsize,
    exhausted: tokio::sync::Notify,
    /// Appends are made one after the other.
    turn: tokio::sync::Mutex<()>,
}

impl SlowStore {
    /// An empty store.
    pub fn new(append_time: Duration) -> Arc<Self> {
        Arc::new(Self { append_time, ..Self::over(Arc::default()) })
    }

    /// A store over another one, which has what was appended before the end of this one.
    pub fn over(inner: Arc<MemoryStore>) -> Self {
        Self {
            inner,
            append_time: Duration::ZERO,
            appends_left: AtomicUsize::new(usize::MAX),
            exhausted: Default::default(),
            turn: Default::default(),
        }
    }

    /// Ends it after so many more appends.
    pub fn end_after(&self, appends: usize) {
        self.appends_left.store(appends, Ordering::SeqCst);
    }

    /// Waits for the first append that does not return.
    pub async fn ended(&self) {
        self.exhausted.notified().await;
    }
}

#[async_trait]
impl Store for SlowStore {
    fn page_token_key(&self) -> PageTokenKey {
        self.inner.page_token_key()
    }

    async fn append(&self, append: Append) -> Result<(), StoreError> {
        let _turn = self.turn.lock().await;
        tokio::time::sleep(self.append_time).await;
        if self.appends_left.load(Ordering::SeqCst) == 0 {
            self.exhausted.notify_one();
            return std::future::pending().await;
        }
        self.appends_left.fetch_sub(1, Ordering::SeqCst);
        self.inner.append(append).await
    }

    async fn session(&self, id: SessionId) -> Result<Option<Session>, StoreError> {
        self.inner.session(id).await
    }

    async fn sessions(&self, query: SessionQuery) -> Result<SessionPage, StoreError> {
        self.inner.sessions(query).await
    }

    async fn events(&self, query: EventQuery) -> Result<EventPage, StoreError> {
        self.inner.events(query).await
    }

    async fn call(&self, id: CallId) -> Result<Option<Call>, StoreError> {
        self.inner.call(id).await
    }

    async fn live_calls(&self, session_id: SessionId) -> Result<Vec<Call>, StoreError> {
        self.inner.live_calls(session_id).await
    }

    async fn calls(&self, query: CallQuery) -> Result<CallPage, StoreError> {
        self.inner.calls(query).await
    }

    async fn changes(&self, query: ChangeQuery) -> Result<ChangePage, StoreError> {
        self.inner.changes(query).await
    }

    async fn output(&self, query: OutputQuery) -> Result<Option<OutputPage>, StoreError> {
        self.inner.output(query).await
    }

    async fn messages(
        &self,
        session_id: SessionId,
        bytes_max: u64,
    ) -> Result<MessagePage, StoreError> {
        self.inner.messages(session_id, bytes_max).await
    }

    async fn messages_after(
        &self,
        session_id: SessionId,
        after: u64,
        limit: u32,
        bytes_max: usize,
    ) -> Result<MessageSlice, StoreError> {
        self.inner.messages_after(session_id, after, limit, bytes_max).await
    }

    async fn follow_up(&self, id: CallId) -> Result<Option<FollowUp>, StoreError> {
        self.inner.follow_up(id).await
    }

    async fn follow_up_with_task(
        &self,
        id: CallId,
    ) -> Result<Option<FollowUpWithTask>, StoreError> {
        self.inner.follow_up_with_task(id).await
    }

    async fn follow_ups(&self, query: FollowUpQuery) -> Result<FollowUpPage, StoreError> {
        self.inner.follow_ups(query).await
    }

    async fn due_follow_ups(&self, query: DueQuery) -> Result<DueFollowUps, StoreError> {
        self.inner.due_follow_ups(query).await
    }

    async fn sessions_with_due_follow_ups(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> Result<DueSessions, StoreError> {
        self.inner.sessions_with_due_follow_ups(now, limit).await
    }

    async fn leased_follow_ups(
        &self,
        tenant: &Tenant,
        request_id: &str,
    ) -> Result<Vec<FollowUp>, StoreError> {
        self.inner.leased_follow_ups(tenant, request_id).await
    }

    async fn request(
        &self,
        tenant: &Tenant,
        request_id: &str,
    ) -> Result<Option<RequestRecord>, StoreError> {
        self.inner.request(tenant, request_id).await
    }

    async fn sessions_with_live_calls(
        &self,
        after: Option<SessionId>,
        limit: u32,
    ) -> Result<Vec<SessionId>, StoreError> {
        self.inner.sessions_with_live_calls(after, limit).await
    }

    async fn newest_time(&self) -> Result<Option<Timestamp>, StoreError> {
        self.inner.newest_time().await
    }

    async fn expire(&self, policy: ExpiryPolicy) -> Result<Expired, StoreError> {
        self.inner.expire(policy).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.inner.check().await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}
