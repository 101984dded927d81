//! A store in memory whose appends a test makes in its own way.

use std::sync::Arc;

use async_trait::async_trait;
use callpark::model::{Call, CallId, FollowUp, Session, SessionId, Tenant, Timestamp};
use callpark::store::*;

/// The appends of a store.
#[async_trait]
pub trait Appends: Send + Sync + 'static {
    /// The store behind them, which answers everything else.
    fn store(&self) -> &MemoryStore;

    /// Makes one change, or does not.
    async fn append(&self, append: Append) -> Result<(), StoreError>;

    /// The replicas that share the store.
    fn replicas(&self) -> Option<Arc<dyn Replicas>> {
        None
    }

    /// Ends the work of the store.
    async fn close(&self) {
        self.store().close().await;
    }
}

/// A store with these appends.
pub struct StoreWith<A>(pub A);

#[async_trait]
impl<A: Appends> Store for StoreWith<A> {
    fn page_token_key(&self) -> PageTokenKey {
        self.0.store().page_token_key()
    }

    fn replicas(&self) -> Option<Arc<dyn Replicas>> {
        self.0.replicas()
    }

    async fn append(&self, append: Append) -> Result<(), StoreError> {
        self.0.append(append).await
    }

    async fn session(&self, id: SessionId) -> Result<Option<Session>, StoreError> {
        self.0.store().session(id).await
    }

    async fn sessions(&self, query: SessionQuery) -> Result<SessionPage, StoreError> {
        self.0.store().sessions(query).await
    }

    async fn events(&self, query: EventQuery) -> Result<EventPage, StoreError> {
        self.0.store().events(query).await
    }

    async fn call(&self, id: CallId) -> Result<Option<Call>, StoreError> {
        self.0.store().call(id).await
    }

    async fn live_calls(&self, session_id: SessionId) -> Result<Vec<Call>, StoreError> {
        self.0.store().live_calls(session_id).await
    }

    async fn calls(&self, query: CallQuery) -> Result<CallPage, StoreError> {
        self.0.store().calls(query).await
    }

    async fn changes(&self, query: ChangeQuery) -> Result<ChangePage, StoreError> {
        self.0.store().changes(query).await
    }

    async fn output(&self, query: OutputQuery) -> Result<Option<OutputPage>, StoreError> {
        self.0.store().output(query).await
    }

    async fn messages(
        &self,
        session_id: SessionId,
        bytes_max: u64,
    ) -> Result<MessagePage, StoreError> {
        self.0.store().messages(session_id, bytes_max).await
    }

    async fn messages_after(
        &self,
        session_id: SessionId,
        after: u64,
        limit: u32,
        bytes_max: usize,
    ) -> Result<MessageSlice, StoreError> {
        self.0.store().messages_after(session_id, after, limit, bytes_max).await
    }

    async fn follow_up(&self, id: CallId) -> Result<Option<FollowUp>, StoreError> {
        self.0.store().follow_up(id).await
    }

    async fn follow_up_with_task(
        &self,
        id: CallId,
    ) -> Result<Option<FollowUpWithTask>, StoreError> {
        self.0.store().follow_up_with_task(id).await
    }

    async fn follow_ups(&self, query: FollowUpQuery) -> Result<FollowUpPage, StoreError> {
        self.0.store().follow_ups(query).await
    }

    async fn due_follow_ups(&self, query: DueQuery) -> Result<DueFollowUps, StoreError> {
        self.0.store().due_follow_ups(query).await
    }

    async fn sessions_with_due_follow_ups(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> Result<DueSessions, StoreError> {
        self.0.store().sessions_with_due_follow_ups(now, limit).await
    }

    async fn leased_follow_ups(
        &self,
        tenant: &Tenant,
        request_id: &str,
    ) -> Result<Vec<FollowUp>, StoreError> {
        self.0.store().leased_follow_ups(tenant, request_id).await
    }

    async fn request(
        &self,
        tenant: &Tenant,
        request_id: &str,
    ) -> Result<Option<RequestRecord>, StoreError> {
        self.0.store().request(tenant, request_id).await
    }

    async fn sessions_with_live_calls(
        &self,
        after: Option<SessionId>,
        limit: u32,
    ) -> Result<Vec<SessionId>, StoreError> {
        self.0.store().sessions_with_live_calls(after, limit).await
    }

    async fn open_sessions(&self, tenant: &Tenant, count_max: u32) -> Result<u32, StoreError> {
        self.0.store().open_sessions(tenant, count_max).await
    }

    async fn newest_time(&self) -> Result<Option<Timestamp>, StoreError> {
        self.0.store().newest_time().await
    }

    async fn expire(&self, policy: ExpiryPolicy) -> Result<Expired, StoreError> {
        self.0.store().expire(policy).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.0.store().check().await
    }

    async fn close(&self) {
        self.0.close().await;
    }
}
