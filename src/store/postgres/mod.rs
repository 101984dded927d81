//! A store in a database of PostgreSQL.
//!
//! One server has a database alone, or several replicas share it. The writer of each has a connection of its
//! own, which holds an advisory lock for as long as it exists, and on which everything is written in grouped
//! commits. A few other connections read, and a replica has one for its lease. The tables are in the schema
//! `callpark`.

mod availability;
mod claims;
mod columns;
mod error;
mod expire;
mod follow_ups;
mod group;
mod identity;
mod import;
mod lists;
mod load;
mod membership;
mod open;
mod open_error;
mod options;
mod output;
mod ownership;
mod passfile;
mod pending;
mod pipeline;
mod pool;
mod read;
mod reconnect;
mod replicas;
mod report;
mod schema;
mod write;
mod writer;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use self::availability::Availability;
use self::membership::Membership;
use self::open::Sharing;
use self::options::Target;
use self::pool::ReaderPool;
use self::replicas::PostgresReplicas;
use self::writer::{Writer, WriterCommand};
use super::session_cache::SessionCache;
use super::writer_queue::WriterQueue;
use super::{
    Append, CallPage, CallQuery, ChangePage, ChangeQuery, DueFollowUps, DueQuery, DueSessions,
    EventPage, EventQuery, Expired, ExpiryPolicy, FollowUpPage, FollowUpQuery, FollowUpWithTask,
    MessagePage, MessageSlice, OutputPage, OutputQuery, PageTokenKey, Replicas, RequestRecord,
    SessionPage, SessionQuery, Store, StoreError,
};
use crate::model::{Call, CallId, FollowUp, Session, SessionId, Tenant, Timestamp};
use crate::telemetry::Metrics;

pub(super) use self::columns::label_values;
pub(super) use self::import::{Import, ImportTransaction};
pub use self::open_error::OpenError as PostgresOpenError;
pub use self::options::{PostgresOptions, ReplicaOptions};
pub use self::report::{PostgresReport, inspect_postgres, list_replicas};

/// A store in a database of PostgreSQL, in its schema `callpark`.
///
/// A server has a database alone, or shares it with other replicas. Its writer holds an advisory lock, and
/// writes on the connection that has it: a server that has lost the connection writes nothing until it has
/// the lock again, and reports [`StoreError::Unavailable`] until then. Beside a server that has the database
/// alone, every other one is refused. The lock is one of a session: a proxy that shares connections among
/// transactions cannot stand in between.
///
/// An append that was acknowledged is as durable as the database makes its commits. A connection that is
/// lost during a commit delays the answers of its appends until the database is back and says whether it
/// was made.
///
/// The role of the URL needs the right to create a schema in the database: it is its owner, or has
/// `CREATE` on it. A database that was restored from a dump, or that has failed over to a standby, gets new
/// stream epochs, so that readers start again. Files of a cluster that were put back as they had been are
/// not noticed.
pub struct PostgresStore {
    queue: Arc<WriterQueue<WriterCommand>>,
    pool: ReaderPool,
    availability: Arc<Availability>,
    closing: CancellationToken,
    page_token_key: PageTokenKey,
    writer: TaskTracker,
    replicas: Option<Arc<PostgresReplicas>>,
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").finish_non_exhaustive()
    }
}

impl PostgresStore {
    /// Opens a store, and creates its tables if there are none. Commits are counted in `metrics`.
    pub async fn open(
        options: &PostgresOptions,
        metrics: Metrics,
    ) -> Result<Self, PostgresOpenError> {
        let target = Target::parse(options)?;
        let server = Uuid::new_v4();
        let sharing = match options.replica {
            Some(_) => Sharing::Replicas,
            None => Sharing::Alone,
        };
        let (connection, keys) = open::open(&target, server, sharing, options.wait).await?;
        let pool = ReaderPool::new(&target)?;
        let availability = Arc::new(Availability::default());
        let closing = CancellationToken::new();
        let tracker = TaskTracker::new();
        let membership = match options.replica.clone() {
            Some(replica) => {
                let closing = closing.clone();
                Some(Membership::join(&target, replica, &tracker, closing).await?)
            }
            None => None,
        };
        let writer = Writer {
            target,
            server,
            member: membership.as_ref().map(|membership| Arc::clone(&membership.member)),
            connection: Some(connection),
            availability: Arc::clone(&availability),
            closing: closing.clone(),
            metrics,
            commit: 0,
            bodies: SessionCache::default(),
            retry: Instant::now(),
        };
        let (queue, commands) = WriterQueue::new();
        let queue = Arc::new(queue);
        tracker.spawn(writer.run(commands));
        tracker.close();
        let replicas = membership.map(|membership| {
            Arc::new(PostgresReplicas::new(membership, Arc::clone(&queue), keys.replicas))
        });
        let page_token_key = keys.page_tokens;
        Ok(Self { queue, pool, availability, closing, page_token_key, writer: tracker, replicas })
    }

    /// Returns the present id of this replica, or `None` if this server has the database alone.
    fn own_id(&self) -> Option<Uuid> {
        self.replicas.as_ref().map(|replicas| replicas.own_id())
    }
}

#[async_trait]
impl Store for PostgresStore {
    fn page_token_key(&self) -> PageTokenKey {
        self.page_token_key.clone()
    }

    fn replicas(&self) -> Option<Arc<dyn Replicas>> {
        self.replicas.clone().map(|replicas| replicas as Arc<dyn Replicas>)
    }

    async fn append(&self, append: Append) -> Result<(), StoreError> {
        // This replica may have another id by the time at which the append is written.
        let owner = self.own_id();
        self.queue.append(append, |pending| WriterCommand::Append(pending, owner)).await
    }

    async fn session(&self, id: SessionId) -> Result<Option<Session>, StoreError> {
        self.pool.read(move |client| Box::pin(read::session(client, id))).await
    }

    async fn sessions(&self, query: SessionQuery) -> Result<SessionPage, StoreError> {
        let query = Arc::new(query);
        self.pool
            .snapshot(move |snapshot| {
                let query = Arc::clone(&query);
                Box::pin(async move { lists::sessions(snapshot, &query).await })
            })
            .await
    }

    async fn events(&self, query: EventQuery) -> Result<EventPage, StoreError> {
        let query = Arc::new(query);
        self.pool
            .read(move |client| {
                let query = Arc::clone(&query);
                Box::pin(async move { read::events(client, &query).await })
            })
            .await
    }

    async fn call(&self, id: CallId) -> Result<Option<Call>, StoreError> {
        self.pool.read(move |client| Box::pin(read::call(client, id))).await
    }

    async fn live_calls(&self, session_id: SessionId) -> Result<Vec<Call>, StoreError> {
        let read = self.pool.read(move |client| Box::pin(read::live_calls(client, session_id)));
        let (calls, unreadable) = read.await?;
        for call_id in unreadable {
            tracing::error!(%call_id, "the record of a live call cannot be read");
        }
        Ok(calls)
    }

    async fn calls(&self, query: CallQuery) -> Result<CallPage, StoreError> {
        let query = Arc::new(query);
        self.pool
            .snapshot(move |snapshot| {
                let query = Arc::clone(&query);
                Box::pin(async move { lists::calls(snapshot, &query).await })
            })
            .await
    }

    async fn changes(&self, query: ChangeQuery) -> Result<ChangePage, StoreError> {
        let query = Arc::new(query);
        self.pool
            .snapshot(move |snapshot| {
                let query = Arc::clone(&query);
                Box::pin(async move { lists::changes(snapshot, &query).await })
            })
            .await
    }

    async fn output(&self, query: OutputQuery) -> Result<Option<OutputPage>, StoreError> {
        self.pool
            .snapshot(move |snapshot| {
                Box::pin(async move { output::output(snapshot, &query).await })
            })
            .await
    }

    async fn messages(
        &self,
        session_id: SessionId,
        bytes_max: u64,
    ) -> Result<MessagePage, StoreError> {
        self.pool.snapshot(move |s| Box::pin(read::newest_messages(s, session_id, bytes_max))).await
    }

    async fn messages_after(
        &self,
        session_id: SessionId,
        after: u64,
        limit: u32,
        bytes_max: usize,
    ) -> Result<MessageSlice, StoreError> {
        self.pool
            .snapshot(move |s| {
                Box::pin(read::messages_after(s, session_id, after, limit, bytes_max))
            })
            .await
    }

    async fn follow_up(&self, id: CallId) -> Result<Option<FollowUp>, StoreError> {
        self.pool.read(move |client| Box::pin(follow_ups::record(client, id))).await
    }

    async fn follow_up_with_task(
        &self,
        id: CallId,
    ) -> Result<Option<FollowUpWithTask>, StoreError> {
        self.pool.read(move |client| Box::pin(follow_ups::with_task(client, id))).await
    }

    async fn follow_ups(&self, query: FollowUpQuery) -> Result<FollowUpPage, StoreError> {
        let query = Arc::new(query);
        self.pool
            .snapshot(move |snapshot| {
                let query = Arc::clone(&query);
                Box::pin(async move { lists::follow_ups(snapshot, &query).await })
            })
            .await
    }

    async fn due_follow_ups(&self, query: DueQuery) -> Result<DueFollowUps, StoreError> {
        let owner = self.own_id();
        let query = Arc::new(query);
        self.pool
            .snapshot(move |snapshot| {
                let query = Arc::clone(&query);
                Box::pin(async move { follow_ups::due(snapshot, owner, &query).await })
            })
            .await
    }

    async fn sessions_with_due_follow_ups(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> Result<DueSessions, StoreError> {
        let owner = self.own_id();
        self.pool.snapshot(move |s| Box::pin(follow_ups::sessions(s, owner, now, limit))).await
    }

    async fn leased_follow_ups(
        &self,
        tenant: &Tenant,
        request_id: &str,
    ) -> Result<Vec<FollowUp>, StoreError> {
        let names = Arc::new((tenant.clone(), request_id.to_owned()));
        self.pool
            .read(move |client| {
                let names = Arc::clone(&names);
                Box::pin(async move { follow_ups::leased(client, &names.0, &names.1).await })
            })
            .await
    }

    async fn request(
        &self,
        tenant: &Tenant,
        request_id: &str,
    ) -> Result<Option<RequestRecord>, StoreError> {
        let names = Arc::new((tenant.clone(), request_id.to_owned()));
        self.pool
            .read(move |client| {
                let names = Arc::clone(&names);
                Box::pin(async move { read::request(client, &names.0, &names.1).await })
            })
            .await
    }

    async fn sessions_with_live_calls(
        &self,
        after: Option<SessionId>,
        limit: u32,
    ) -> Result<Vec<SessionId>, StoreError> {
        let owner = self.own_id();
        self.pool
            .read(move |c| Box::pin(read::sessions_with_live_calls(c, owner, after, limit)))
            .await
    }

    async fn open_sessions(&self, tenant: &Tenant, count_max: u32) -> Result<u32, StoreError> {
        let tenant = tenant.clone();
        self.pool.read(move |c| Box::pin(read::open_sessions(c, tenant.clone(), count_max))).await
    }

    async fn newest_time(&self) -> Result<Option<Timestamp>, StoreError> {
        self.pool.read(|client| Box::pin(read::newest_time(client))).await
    }

    async fn expire(&self, policy: ExpiryPolicy) -> Result<Expired, StoreError> {
        self.queue.ask(|reply| WriterCommand::Expire(policy, reply)).await
    }

    /// A full disk is not an error here: the next append finds out whether there is space again.
    async fn check(&self) -> Result<(), StoreError> {
        self.queue.check()?;
        match self.availability.cause() {
            Some(cause) => Err(StoreError::Unavailable(cause)),
            None => Ok(()),
        }
    }

    async fn close(&self) {
        self.queue.close();
        self.closing.cancel();
        self.pool.close().await;
        self.writer.wait().await;
    }
}
