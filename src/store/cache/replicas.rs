//! The cache of a replica: it holds what other replicas cannot change, which are the logs of the sessions
//! that this one owns.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;

use super::tails::Tails;
use crate::model::{SessionId, Timestamp};
use crate::store::{Claimed, RemoteChange, Renewed, Replica, Replicas, StoreError};

/// The replicas of a store behind a cache.
pub(super) struct CachedReplicas {
    inner: Arc<dyn Replicas>,
    tails: Arc<Tails>,
    /// The sessions that this replica owns.
    own: Mutex<HashSet<SessionId>>,
}

impl CachedReplicas {
    pub(super) fn new(inner: Arc<dyn Replicas>, tails: Arc<Tails>) -> Self {
        Self { inner, tails, own: Mutex::default() }
    }

    /// Returns whether this replica owns a session.
    pub(super) fn owns(&self, session_id: SessionId) -> bool {
        self.lock().contains(&session_id)
    }

    /// Notes that this replica owns a session. Others may have written in it before.
    pub(super) fn add(&self, session_id: SessionId) {
        self.tails.forget(session_id);
        self.lock().insert(session_id);
    }

    fn remove(&self, session_id: SessionId) {
        self.lock().remove(&session_id);
        self.tails.forget(session_id);
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<SessionId>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Replicas for CachedReplicas {
    async fn renew(&self) -> Result<Renewed, StoreError> {
        self.inner.renew().await
    }

    async fn rejoin(&self) -> Result<(), StoreError> {
        let rejoined = self.inner.rejoin().await;
        self.lock().clear();
        self.tails.clear();
        rejoined
    }

    async fn claim(&self, session_id: SessionId) -> Result<Claimed, StoreError> {
        let claimed = self.inner.claim(session_id).await?;
        match claimed {
            Claimed::Own { .. } => self.add(session_id),
            Claimed::Other { .. } | Claimed::Missing => self.remove(session_id),
        }
        Ok(claimed)
    }

    async fn release(&self, session_id: SessionId, claim: u64) -> Result<(), StoreError> {
        // If it is claimed again meanwhile, it is read from the store until the next claim.
        self.remove(session_id);
        self.inner.release(session_id, claim).await
    }

    async fn take_over(&self, limit: u32) -> Result<Vec<SessionId>, StoreError> {
        self.inner.take_over(limit).await
    }

    async fn leave(&self, restart: Duration) -> Result<(), StoreError> {
        self.inner.leave(restart).await
    }

    async fn list(&self) -> Result<Vec<Replica>, StoreError> {
        self.inner.list().await
    }

    fn changes(&self) -> BoxStream<'static, RemoteChange> {
        self.inner.changes()
    }

    fn key(&self) -> [u8; 32] {
        self.inner.key()
    }

    fn time(&self) -> Timestamp {
        self.inner.time()
    }
}
