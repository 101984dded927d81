//! The replicas of a database, as the port has them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio_stream::wrappers::BroadcastStream;
use uuid::Uuid;

use super::membership::Membership;
use super::writer::WriterCommand;
use crate::model::{SessionId, Timestamp};
use crate::store::writer_queue::WriterQueue;
use crate::store::{Claimed, RemoteChange, Renewed, Replica, Replicas, StoreError};

/// The replicas of a database.
pub(super) struct PostgresReplicas {
    membership: Membership,
    queue: Arc<WriterQueue<WriterCommand>>,
    key: [u8; 32],
}

impl PostgresReplicas {
    pub(super) fn new(
        membership: Membership,
        queue: Arc<WriterQueue<WriterCommand>>,
        key: [u8; 32],
    ) -> Self {
        Self { membership, queue, key }
    }

    pub(super) fn own_id(&self) -> Uuid {
        self.membership.member.id()
    }
}

#[async_trait]
impl Replicas for PostgresReplicas {
    async fn renew(&self) -> Result<Renewed, StoreError> {
        self.membership.renew().await
    }

    async fn rejoin(&self) -> Result<(), StoreError> {
        self.membership.rejoin().await
    }

    async fn claim(&self, session_id: SessionId) -> Result<Claimed, StoreError> {
        self.queue.ask(|reply| WriterCommand::Claim(session_id, reply)).await
    }

    async fn release(&self, session_id: SessionId, claim: u64) -> Result<(), StoreError> {
        self.queue.send(WriterCommand::Release(session_id, claim)).await
    }

    async fn take_over(&self, limit: u32) -> Result<Vec<SessionId>, StoreError> {
        self.membership.take_over(limit).await
    }

    async fn leave(&self, restart: Duration) -> Result<(), StoreError> {
        self.membership.leave(restart).await
    }

    async fn list(&self) -> Result<Vec<Replica>, StoreError> {
        self.membership.list().await
    }

    fn changes(&self) -> BoxStream<'static, RemoteChange> {
        let changes = BroadcastStream::new(self.membership.member.subscribe());
        // The only error is that changes were missed.
        changes.map(|change| change.unwrap_or(RemoteChange::Everything)).boxed()
    }

    fn key(&self) -> [u8; 32] {
        self.key
    }

    fn time(&self) -> Timestamp {
        self.membership.member.time()
    }
}
