//! A store with a cache of the records that were read or appended last.
//!
//! A reader that follows a log or waits for a call wants what has just been committed. It gets that
//! from memory, without a thread, a lock on the database, or JSON. The cache holds only what the
//! store behind it has acknowledged, and clearing it changes no answer.
//!
//! The entries that an append touches are removed before the append and added after it. In between,
//! readers ask the store. For that reason no reader sees an older state after another has seen a
//! newer one.

mod calls;
mod generations;
mod pages;
mod replicas;
mod tails;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;

use self::calls::CallCache;
use self::pages::Pages;
use self::replicas::CachedReplicas;
use self::tails::Tails;
use super::{
    Append, CallPage, CallQuery, ChangePage, ChangeQuery, DueFollowUps, DueQuery, DueSessions,
    EventPage, EventQuery, Expired, ExpiryPolicy, FollowUpPage, FollowUpQuery, FollowUpWithTask,
    MessagePage, MessageSlice, OutputPage, OutputQuery, PageTokenKey, Replicas, RequestRecord,
    SessionPage, SessionQuery, Store, StoreError,
};
use crate::model::{Call, CallId, FollowUp, Session, SessionId, Tenant, Timestamp};
use crate::telemetry::{LogSource, Metrics};

/// A store that caches the records of another.
pub struct CachedStore {
    inner: Arc<dyn Store>,
    calls: CallCache,
    tails: Arc<Tails>,
    pages: Pages,
    /// With replicas only what this one owns is cached.
    replicas: Option<Arc<CachedReplicas>>,
    metrics: Metrics,
}

impl CachedStore {
    /// Creates a cache in front of a store. Reads of logs are counted in `metrics`.
    pub fn new(inner: Arc<dyn Store>, metrics: Metrics) -> Self {
        let tails = Arc::new(Tails::default());
        let replicas = inner.replicas();
        let replicas = replicas.map(|all| Arc::new(CachedReplicas::new(all, tails.clone())));
        Self {
            inner,
            calls: CallCache::default(),
            tails,
            replicas,
            pages: Pages::default(),
            metrics,
        }
    }

    /// Brings a page that another reader has read up to date, with the events that the tail has
    /// after it. Returns `None` if the tail does not have them.
    fn extend_to_head(&self, query: &EventQuery, page: &EventPage) -> Option<EventPage> {
        let mut page = page.clone();
        if page.scanned_to < page.head {
            return Some(page);
        }
        let rest = EventQuery { after: page.scanned_to, ..query.clone() };
        let rest = self.tails.read(&rest)?;
        page.events.extend(rest.events);
        Some(EventPage { events: page.events, stream_epoch: page.stream_epoch, ..rest })
    }

    fn read_store(&self, query: EventQuery) -> BoxFuture<'static, Result<EventPage, StoreError>> {
        self.metrics.log_read(LogSource::Store);
        let inner = self.inner.clone();
        async move { inner.events(query).await }.boxed()
    }
}

#[async_trait]
impl Store for CachedStore {
    fn page_token_key(&self) -> PageTokenKey {
        self.inner.page_token_key()
    }

    fn replicas(&self) -> Option<Arc<dyn Replicas>> {
        self.replicas.clone().map(|replicas| replicas as Arc<dyn Replicas>)
    }

    async fn append(&self, append: Append) -> Result<(), StoreError> {
        let created = append.expected_head.is_none().then_some(append.session_id);
        // Calls are found by their ids, from which their owner cannot be seen.
        let calls = self.replicas.is_none().then(|| self.calls.begin(&append));
        let tail = self.tails.begin(&append);
        self.inner.append(append).await?;
        if let Some(calls) = calls {
            calls.complete();
        }
        tail.complete();
        if let (Some(replicas), Some(session_id)) = (&self.replicas, created) {
            replicas.add(session_id);
        }
        Ok(())
    }

    async fn events(&self, query: EventQuery) -> Result<EventPage, StoreError> {
        if self.replicas.as_ref().is_some_and(|replicas| !replicas.owns(query.session_id)) {
            return self.read_store(query).await;
        }
        if let Some(page) = self.tails.read(&query) {
            self.metrics.log_read(LogSource::Memory);
            return Ok(page);
        }
        // If the page reaches the end of the log, the tail begins there.
        let tail_read = self.tails.begin_read(query.session_id);
        if !Pages::is_cacheable(&query) {
            let page = self.read_store(query.clone()).await?;
            tail_read.complete(&page);
            return Ok(page);
        }
        let read = || self.read_store(query.clone());
        let (mut page, is_shared) = self.pages.read(&query, read).await?;
        if is_shared {
            if let Some(page) = self.extend_to_head(&query, &page) {
                self.metrics.log_read(LogSource::Memory);
                return Ok(page);
            }
            // A read that begins from here on is new enough.
            self.pages.forget(&query, &page);
            (page, _) = self.pages.read(&query, read).await?;
        }
        tail_read.complete(&page);
        Ok(EventPage::clone(&page))
    }

    async fn call(&self, id: CallId) -> Result<Option<Call>, StoreError> {
        match self.calls.get(id) {
            Some(call) => Ok(Some(Call::clone(&call))),
            None => self.inner.call(id).await,
        }
    }

    async fn expire(&self, policy: ExpiryPolicy) -> Result<Expired, StoreError> {
        let expired = self.inner.expire(policy).await;
        self.calls.clear();
        self.tails.clear();
        self.pages.clear();
        expired
    }

    async fn session(&self, id: SessionId) -> Result<Option<Session>, StoreError> {
        self.inner.session(id).await
    }

    async fn sessions(&self, query: SessionQuery) -> Result<SessionPage, StoreError> {
        self.inner.sessions(query).await
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

    async fn open_sessions(&self, tenant: &Tenant, count_max: u32) -> Result<u32, StoreError> {
        self.inner.open_sessions(tenant, count_max).await
    }

    async fn newest_time(&self) -> Result<Option<Timestamp>, StoreError> {
        self.inner.newest_time().await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.inner.check().await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}
