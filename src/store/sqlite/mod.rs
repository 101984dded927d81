//! A store in one SQLite database.
//!
//! The store uses a write-ahead log, one writer thread with group commit, and a few readers. An
//! append that was acknowledged has been synced. The files are `callpark.db`, SQLite's own `-wal`
//! and `-shm`, `callpark.db.lock`, which is locked while the store is open, and
//! `callpark.db.continuity`, which names the newest commit.

mod append;
mod backup;
mod calls;
mod columns;
mod continuity;
mod error;
mod event_row;
mod expire;
#[cfg(feature = "postgres")]
mod export;
#[cfg(feature = "postgres")]
mod export_rows;
mod files;
mod follow_up_lists;
mod follow_ups;
mod identity;
mod lists;
mod lock;
mod messages;
mod open;
mod open_error;
mod output;
mod pool;
mod read;
mod record;
mod report;
mod schema;
mod session_cache;
#[cfg(test)]
mod tests;
mod verify;
mod writer;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;

use self::pool::{READ_TIMEOUT, ReaderPool};
use self::writer::{Writer, WriterCommand};
use super::writer_queue::WriterQueue;
use super::{
    Append, CallPage, CallQuery, ChangePage, ChangeQuery, DueFollowUps, DueQuery, DueSessions,
    EventPage, EventQuery, Expired, ExpiryPolicy, FollowUpPage, FollowUpQuery, FollowUpWithTask,
    MessagePage, MessageSlice, OutputPage, OutputQuery, PageTokenKey, RequestRecord, SessionPage,
    SessionQuery, Store, StoreError,
};
use crate::model::{Call, CallId, FollowUp, Session, SessionId, Tenant, Timestamp};
use crate::telemetry::Metrics;

pub use self::backup::{BackupError, RestoreOptions, Restored, backup, restore};
#[cfg(feature = "postgres")]
pub(super) use self::export::Source;
pub use self::lock::DataLock;
pub use self::open_error::OpenError;
pub use self::report::{StoreReport, inspect_store};
pub use self::verify::{Verification, VerifyDepth};

/// The path of a store, and its durability.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqliteOptions {
    /// The folder of the database, which is created if it does not exist, or the database itself if
    /// the path ends in `.db`.
    pub path: PathBuf,
    /// The point at which an append counts as durable.
    pub synchronous: Synchronous,
}

/// The point at which an append counts as durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Synchronous {
    /// The append is on the disk, and survives a loss of power.
    #[default]
    Full,
    /// The operating system has the append, which survives a crash of the server, but not one of
    /// the machine.
    Normal,
}

/// A store in one SQLite database.
#[derive(Debug)]
pub struct SqliteStore {
    queue: WriterQueue<WriterCommand>,
    pool: Arc<ReaderPool>,
    /// The reason why nothing is written any more. The writer sets it.
    broken: Arc<OnceLock<String>>,
    page_token_key: PageTokenKey,
    /// The thread, or `None` once a caller has closed the store. Other callers wait for the lock.
    writer: tokio::sync::Mutex<Option<JoinHandle<()>>>,
}

impl SqliteStore {
    /// Opens or creates a store. Commits are counted in `metrics`. Blocks while the disk works.
    pub fn open(options: &SqliteOptions, metrics: Metrics) -> Result<Self, OpenError> {
        Self::open_with(options, metrics, READ_TIMEOUT)
    }

    /// Opens a store with another timeout for reads.
    fn open_with(
        options: &SqliteOptions,
        metrics: Metrics,
        read_timeout: Duration,
    ) -> Result<Self, OpenError> {
        let database = open::open(options)?;
        let page_token_key = database.identity.page_token_key.clone();
        let unusable = |cause: String| OpenError::Unusable { path: options.path.clone(), cause };
        let pool = ReaderPool::new(database.files.clone(), read_timeout)
            .map_err(|error| unusable(error.to_string()))?;
        let broken = Arc::new(OnceLock::new());
        let writer = Writer::new(database, Arc::clone(&broken), metrics)
            .map_err(|error| unusable(error.to_string()))?;
        let (queue, commands) = WriterQueue::new();
        let thread = std::thread::Builder::new().name("store-writer".to_owned());
        let thread = thread
            .spawn(move || writer.run(commands))
            .map_err(|error| unusable(format!("no thread for its writer: {error}")))?;
        Ok(Self {
            queue,
            pool: Arc::new(pool),
            broken,
            page_token_key,
            writer: tokio::sync::Mutex::new(Some(thread)),
        })
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn page_token_key(&self) -> PageTokenKey {
        self.page_token_key.clone()
    }

    async fn append(&self, append: Append) -> Result<(), StoreError> {
        self.queue.append(append, WriterCommand::Append).await
    }

    async fn session(&self, id: SessionId) -> Result<Option<Session>, StoreError> {
        self.pool.read(move |reader| read::session(reader, id)).await
    }

    async fn sessions(&self, query: SessionQuery) -> Result<SessionPage, StoreError> {
        self.pool.read(move |reader| lists::sessions(reader, &query)).await
    }

    async fn events(&self, query: EventQuery) -> Result<EventPage, StoreError> {
        self.pool.read(move |reader| read::events(reader, &query)).await
    }

    async fn call(&self, id: CallId) -> Result<Option<Call>, StoreError> {
        self.pool.read(move |reader| read::call(reader, id)).await
    }

    async fn live_calls(&self, session_id: SessionId) -> Result<Vec<Call>, StoreError> {
        let read = move |reader: &_| read::live_calls(reader, session_id);
        let (calls, unreadable) = self.pool.read(read).await?;
        for call_id in unreadable {
            tracing::error!(%call_id, "the record of a live call cannot be read");
        }
        Ok(calls)
    }

    async fn calls(&self, query: CallQuery) -> Result<CallPage, StoreError> {
        self.pool.read(move |reader| lists::calls(reader, &query)).await
    }

    async fn changes(&self, query: ChangeQuery) -> Result<ChangePage, StoreError> {
        self.pool.read(move |reader| lists::changes(reader, &query)).await
    }

    async fn output(&self, query: OutputQuery) -> Result<Option<OutputPage>, StoreError> {
        self.pool.read(move |reader| output::output(reader, &query)).await
    }

    async fn messages(
        &self,
        session_id: SessionId,
        bytes_max: u64,
    ) -> Result<MessagePage, StoreError> {
        self.pool.read(move |reader| messages::newest(reader, session_id, bytes_max)).await
    }

    async fn messages_after(
        &self,
        session_id: SessionId,
        after: u64,
        limit: u32,
        bytes_max: usize,
    ) -> Result<MessageSlice, StoreError> {
        let read = move |reader: &rusqlite::Connection| {
            messages::after(reader, session_id, after, limit, bytes_max)
        };
        self.pool.read(read).await
    }

    async fn follow_up(&self, id: CallId) -> Result<Option<FollowUp>, StoreError> {
        self.pool.read(move |reader| follow_ups::record(reader, id)).await
    }

    async fn follow_up_with_task(
        &self,
        id: CallId,
    ) -> Result<Option<FollowUpWithTask>, StoreError> {
        self.pool.read(move |reader| follow_ups::with_task(reader, id)).await
    }

    async fn follow_ups(&self, query: FollowUpQuery) -> Result<FollowUpPage, StoreError> {
        self.pool.read(move |reader| follow_up_lists::list(reader, &query)).await
    }

    async fn due_follow_ups(&self, query: DueQuery) -> Result<DueFollowUps, StoreError> {
        self.pool.read(move |reader| follow_up_lists::due(reader, &query)).await
    }

    async fn sessions_with_due_follow_ups(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> Result<DueSessions, StoreError> {
        self.pool.read(move |reader| follow_up_lists::sessions(reader, now, limit)).await
    }

    async fn leased_follow_ups(
        &self,
        tenant: &Tenant,
        request_id: &str,
    ) -> Result<Vec<FollowUp>, StoreError> {
        let (tenant, request_id) = (tenant.clone(), request_id.to_owned());
        self.pool.read(move |reader| follow_up_lists::leased(reader, &tenant, &request_id)).await
    }

    async fn request(
        &self,
        tenant: &Tenant,
        request_id: &str,
    ) -> Result<Option<RequestRecord>, StoreError> {
        let (tenant, request_id) = (tenant.clone(), request_id.to_owned());
        self.pool.read(move |reader| read::request(reader, &tenant, &request_id)).await
    }

    async fn sessions_with_live_calls(
        &self,
        after: Option<SessionId>,
        limit: u32,
    ) -> Result<Vec<SessionId>, StoreError> {
        let find = move |reader: &_| read::sessions_with_live_calls(reader, after, limit);
        self.pool.read(find).await
    }

    async fn open_sessions(&self, tenant: &Tenant, count_max: u32) -> Result<u32, StoreError> {
        let tenant = tenant.clone();
        self.pool.read(move |reader| lists::open_sessions(reader, &tenant, count_max)).await
    }

    async fn newest_time(&self) -> Result<Option<Timestamp>, StoreError> {
        self.pool.read(read::newest_time).await
    }

    async fn expire(&self, policy: ExpiryPolicy) -> Result<Expired, StoreError> {
        self.queue.ask(|reply| WriterCommand::Expire(policy, reply)).await
    }

    /// A full disk is not an error here: the next append checks whether there is space again.
    async fn check(&self) -> Result<(), StoreError> {
        if let Some(cause) = self.broken.get() {
            return Err(StoreError::Broken(cause.clone()));
        }
        self.queue.check()
    }

    async fn close(&self) {
        self.queue.close();
        self.pool.close().await;
        let mut writer = self.writer.lock().await;
        if let Some(thread) = writer.take() {
            let joined = tokio::task::spawn_blocking(move || thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("the store's writer has panicked");
            }
        }
    }
}
