//! The store and the replicas, as an engine has them behind a connection.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use callpark::model::{Call, CallId, FollowUp, Session, SessionId, Tenant, Timestamp};
use callpark::store::*;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio_stream::wrappers::BroadcastStream;

use super::database::at_once;
use super::link::{LEASE_TIMEOUT, Lane, Link, TAKE_OVER_TIMEOUT, WRITE_TIMEOUT};

/// A connection as the engine has it.
pub struct LinkedStore(pub Arc<Link>);

/// The replicas, as the engine behind a connection has them.
struct LinkedReplicas(Arc<Link>);

#[async_trait]
impl Replicas for LinkedReplicas {
    async fn renew(&self) -> Result<Renewed, StoreError> {
        let renew = |link: &Link| Ok(link.database.renew(link.id()));
        self.0.change(Lane::Member, LEASE_TIMEOUT, renew).await
    }

    async fn rejoin(&self) -> Result<(), StoreError> {
        let register = |link: &Link| Ok(link.database.register(link.home));
        let id = self.0.change(Lane::Member, TAKE_OVER_TIMEOUT, register).await?;
        self.0.set_id(id);
        Ok(())
    }

    async fn claim(&self, session_id: SessionId) -> Result<Claimed, StoreError> {
        let claim = move |link: &Link| link.database.claim(link.id(), session_id);
        self.0.change(Lane::Writer, WRITE_TIMEOUT, claim).await
    }

    async fn release(&self, session_id: SessionId, claim: u64) -> Result<(), StoreError> {
        let release = move |link: &Link| {
            link.database.release(link.id(), session_id, claim);
            Ok(())
        };
        self.0.change(Lane::Writer, WRITE_TIMEOUT, release).await
    }

    async fn take_over(&self, limit: u32) -> Result<Vec<SessionId>, StoreError> {
        let take_over = move |link: &Link| Ok(link.database.take_over(link.id(), limit));
        self.0.change(Lane::Member, TAKE_OVER_TIMEOUT, take_over).await
    }

    async fn leave(&self, restart: Duration) -> Result<(), StoreError> {
        let leave = move |link: &Link| {
            link.database.leave(link.id(), restart);
            Ok(())
        };
        self.0.change(Lane::Member, TAKE_OVER_TIMEOUT, leave).await
    }

    async fn list(&self) -> Result<Vec<Replica>, StoreError> {
        Err(StoreError::Unavailable("no engine lists replicas".to_owned()))
    }

    fn changes(&self) -> BoxStream<'static, RemoteChange> {
        let changes = BroadcastStream::new(self.0.changes.subscribe());
        changes.map(|change| change.unwrap_or(RemoteChange::Everything)).boxed()
    }

    fn key(&self) -> [u8; 32] {
        [0; 32]
    }

    fn time(&self) -> Timestamp {
        self.0.database.now()
    }
}

#[async_trait]
impl Store for LinkedStore {
    fn page_token_key(&self) -> PageTokenKey {
        self.0.database.store.page_token_key()
    }

    fn replicas(&self) -> Option<Arc<dyn Replicas>> {
        Some(Arc::new(LinkedReplicas(self.0.clone())))
    }

    async fn append(&self, append: Append) -> Result<(), StoreError> {
        // An append is made under the id at which it was asked for.
        let id = self.0.id();
        let make = move |link: &Link| link.database.append(id, append);
        self.0.commit(make).await
    }

    async fn open_sessions(&self, tenant: &Tenant, count_max: u32) -> Result<u32, StoreError> {
        self.0.read().await?.open_sessions(tenant, count_max).await
    }

    async fn session(&self, id: SessionId) -> Result<Option<Session>, StoreError> {
        self.0.read().await?.session(id).await
    }

    async fn sessions(&self, query: SessionQuery) -> Result<SessionPage, StoreError> {
        self.0.read().await?.sessions(query).await
    }

    async fn events(&self, query: EventQuery) -> Result<EventPage, StoreError> {
        self.0.read().await?.events(query).await
    }

    async fn call(&self, id: CallId) -> Result<Option<Call>, StoreError> {
        self.0.read().await?.call(id).await
    }

    async fn live_calls(&self, session_id: SessionId) -> Result<Vec<Call>, StoreError> {
        self.0.read().await?.live_calls(session_id).await
    }

    async fn calls(&self, query: CallQuery) -> Result<CallPage, StoreError> {
        self.0.read().await?.calls(query).await
    }

    async fn changes(&self, query: ChangeQuery) -> Result<ChangePage, StoreError> {
        self.0.read().await?.changes(query).await
    }

    async fn output(&self, query: OutputQuery) -> Result<Option<OutputPage>, StoreError> {
        self.0.read().await?.output(query).await
    }

    async fn messages(
        &self,
        session_id: SessionId,
        bytes_max: u64,
    ) -> Result<MessagePage, StoreError> {
        self.0.read().await?.messages(session_id, bytes_max).await
    }

    async fn messages_after(
        &self,
        session_id: SessionId,
        after: u64,
        limit: u32,
        bytes_max: usize,
    ) -> Result<MessageSlice, StoreError> {
        self.0.read().await?.messages_after(session_id, after, limit, bytes_max).await
    }

    async fn follow_up(&self, id: CallId) -> Result<Option<FollowUp>, StoreError> {
        self.0.read().await?.follow_up(id).await
    }

    async fn follow_up_with_task(
        &self,
        id: CallId,
    ) -> Result<Option<FollowUpWithTask>, StoreError> {
        self.0.read().await?.follow_up_with_task(id).await
    }

    async fn follow_ups(&self, query: FollowUpQuery) -> Result<FollowUpPage, StoreError> {
        self.0.read().await?.follow_ups(query).await
    }

    async fn due_follow_ups(&self, query: DueQuery) -> Result<DueFollowUps, StoreError> {
        self.0.read().await?;
        self.0.database.due(self.0.id(), query)
    }

    async fn sessions_with_due_follow_ups(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> Result<DueSessions, StoreError> {
        self.0.read().await?.sessions_with_due_follow_ups(now, limit).await
    }

    async fn leased_follow_ups(
        &self,
        tenant: &Tenant,
        request_id: &str,
    ) -> Result<Vec<FollowUp>, StoreError> {
        self.0.read().await?.leased_follow_ups(tenant, request_id).await
    }

    async fn request(
        &self,
        tenant: &Tenant,
        request_id: &str,
    ) -> Result<Option<RequestRecord>, StoreError> {
        self.0.read().await?.request(tenant, request_id).await
    }

    async fn sessions_with_live_calls(
        &self,
        after: Option<SessionId>,
        limit: u32,
    ) -> Result<Vec<SessionId>, StoreError> {
        let store = self.0.read().await?;
        let mut all = at_once(store.sessions_with_live_calls(after, u32::MAX))?;
        all.retain(|session_id| self.0.database.owns(self.0.id(), *session_id));
        all.truncate(limit as usize);
        Ok(all)
    }

    async fn newest_time(&self) -> Result<Option<Timestamp>, StoreError> {
        self.0.read().await?.newest_time().await
    }

    async fn expire(&self, policy: ExpiryPolicy) -> Result<Expired, StoreError> {
        let expire = move |link: &Link| at_once(link.database.store.expire(policy));
        self.0.commit(expire).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.0.read().await.map(|_| ())
    }

    /// The database stays.
    async fn close(&self) {}
}
