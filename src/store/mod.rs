//! The port to durable state: one log per session, and the records beside it.
//!
//! A change is one [`Append`]: its events, calls, session and request ids are stored together or
//! not at all. Reads never see a part of an append. An append that was acknowledged survives any
//! crash of the process.
//!
//! The adapters are [`SqliteStore`], [`MemoryStore`] and, with the feature `postgres`,
//! `PostgresStore`; [`CachedStore`] stands in front of one. Each passes the suite in `conformance/`.

mod cache;
#[cfg(any(test, feature = "testing"))]
pub mod conformance;
mod event_row;
mod memory;
#[cfg(feature = "postgres")]
mod migrate;
mod page_token_key;
#[cfg(feature = "postgres")]
mod postgres;
mod prepared;
mod query;
mod record;
mod replicas;
mod request;
mod rules;
mod session_cache;
mod session_row;
mod sqlite;
mod writer_queue;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::model::{
    Call, CallId, FollowUp, FollowUpPut, OutputPosition, PayloadKind, Session, SessionId, Tenant,
    Timestamp,
};

pub use cache::CachedStore;
pub use memory::MemoryStore;
#[cfg(feature = "postgres")]
pub use migrate::{MigrateError, MigrationReport, TableContents, TableReport, migrate_store};
pub use page_token_key::PageTokenKey;
#[cfg(feature = "postgres")]
pub use postgres::{
    PostgresOpenError, PostgresOptions, PostgresReport, PostgresStore, ReplicaOptions,
    inspect_postgres, list_replicas,
};
pub use query::{
    CallCursor, CallPage, CallQuery, ChangePage, ChangeQuery, DueFollowUps, DueQuery, DueScope,
    DueSessions, EventPage, EventQuery, FollowUpPage, FollowUpQuery, FollowUpWithTask, OutputFrom,
    OutputPage, OutputQuery, OutputSelection, SessionCursor, SessionPage, SessionQuery,
};
pub use replicas::{
    Claimed, REPLICA_LEASE, REPLICA_RESTART, REPLICA_RUNS_KEPT, RemoteChange, Renewed, Replica,
    ReplicaId, ReplicaState, Replicas,
};
pub use request::{RequestEffect, RequestRecord};
pub use sqlite::{
    BackupError, DataLock, OpenError, RestoreOptions, Restored, SqliteOptions, SqliteStore,
    StoreReport, Synchronous, Verification, VerifyDepth, backup, inspect_store, restore,
};

/// An encoded event, with the columns by which a store finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// The position in the log, from 1.
    pub sequence: u64,
    /// The kind of the payload.
    pub kind: PayloadKind,
    /// The call that the event belongs to, or `None` if it belongs to none.
    pub call_id: Option<CallId>,
    /// The position and the length in bytes of a piece of output, or `None` for other events.
    pub output: Option<(OutputPosition, u64)>,
    /// The encoded event, which is sent to readers unchanged.
    pub bytes: Bytes,
}

/// An event as a reader of the log gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEvent {
    /// The position in the log, from 1.
    pub sequence: u64,
    /// The kind of the payload.
    pub kind: PayloadKind,
    /// The encoded event, which is sent to readers unchanged.
    pub bytes: Bytes,
}

impl From<&StoredEvent> for LogEvent {
    fn from(event: &StoredEvent) -> Self {
        Self { sequence: event.sequence, kind: event.kind, bytes: event.bytes.clone() }
    }
}

/// A message of a session's history, encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMessage {
    /// The position in the history, from 1.
    pub number: u64,
    /// The message, as JSON.
    pub body: String,
}

/// The newest messages of a session's history.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MessagePage {
    /// The messages, oldest first, without a gap up to the newest.
    pub messages: Vec<StoredMessage>,
    /// The number of older messages: forgotten, or beyond the requested size.
    pub omitted: u64,
}

/// A page of a session's history.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MessageSlice {
    /// The messages, oldest first.
    pub messages: Vec<StoredMessage>,
    /// `true` if newer messages follow.
    pub has_more: bool,
}

/// One atomic and durable change of a session.
#[derive(Debug, Clone)]
pub struct Append {
    /// The session that is changed.
    pub session_id: SessionId,
    /// The head that the writer knows, or `None` if the session is new. If the log has another
    /// head, the append is refused with [`StoreError::Conflict`].
    pub expected_head: Option<u64>,
    /// New events, from `expected_head + 1` on without a gap. May be empty.
    pub events: Vec<StoredEvent>,
    /// The new state of the session. Its `head_sequence` is that of the last event.
    pub session: Session,
    /// The new state of calls that are new or have changed.
    pub calls: Vec<Call>,
    /// Calls to delete. Their follow-ups stay.
    pub deleted_calls: Vec<CallId>,
    /// New messages of the session's history, with consecutive numbers. The newest
    /// `HISTORY_MESSAGES_MAX` messages are kept.
    pub messages: Vec<StoredMessage>,
    /// Follow-ups that are new or have changed, in the order of their changes. One that changes
    /// twice is listed twice. A new one has its task, which never changes: a task that comes with a
    /// later change is ignored. A record that cannot be read back may be replaced like any other.
    pub follow_ups: Vec<FollowUpPut>,
    /// Requests that this change answers. If the tenant has used one of the ids before, the append
    /// is refused with [`StoreError::RequestTaken`].
    pub requests: Vec<RequestRecord>,
}

/// An error of a store. An append that failed has changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The head of the log is not the expected one: another writer has appended. Also returned for
    /// an append that contradicts itself: with a gap in its events, a call of another session, a
    /// call twice, or a new follow-up without its task.
    #[error("the session's log has head {head:?}, not the one that its writer expected")]
    Conflict {
        /// The head of the log, or `None` if there is no such session.
        head: Option<u64>,
    },
    /// The session belongs to another replica.
    #[error("the session belongs to another server")]
    NotOwner,
    /// The request id has been used before.
    #[error("request id `{request_id}` has been used before")]
    RequestTaken {
        /// The id.
        request_id: String,
    },
    /// The disk is full. Writes succeed again once there is space.
    #[error("the disk that holds the store is full: {0}")]
    Full(String),
    /// The disk failed at a write. Nothing is written until the server is restarted. Reads do not
    /// show the append that failed; whether it is stored is certain only after the restart.
    #[error("the store failed and takes no more writes, restart the server: {0}")]
    Broken(String),
    /// The store cannot be used now: it is closing, or a query failed.
    #[error("the store cannot be used: {0}")]
    Unavailable(String),
    /// A stored record cannot be read back.
    #[error("the store holds a record that cannot be read: {0}")]
    Corrupt(String),
}

/// The number of rows that a round of expiry removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Expired {
    /// Finished calls.
    pub calls: u64,
    /// Request ids.
    pub requests: u64,
    /// Sessions with their logs.
    pub sessions: u64,
    /// Follow-ups.
    pub follow_ups: u64,
    /// Events trimmed from the front of long logs.
    pub events: u64,
    /// `true` if there is more to remove in another round.
    pub more: bool,
}

/// The rule by which rows expire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpiryPolicy {
    /// The current time. Calls and follow-ups whose `expire_time` is not after it are removed,
    /// calls together with their requests.
    pub now: Timestamp,
    /// The time before which the last change must be for the removal of requests about no call, and
    /// of closed or implicit sessions without calls and follow-ups.
    pub older_than: Timestamp,
    /// The most events that a session keeps. Beyond it the oldest are trimmed.
    pub session_events_max: u64,
    /// The most rows that one round removes, so that a round is short.
    pub rows_max: u32,
}

/// Durable state.
///
/// Every adapter passes the suite in `store/conformance/`, which is public with the cargo feature
/// `testing`.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Returns the key that authenticates page tokens. It is the same whenever the store is opened.
    fn page_token_key(&self) -> PageTokenKey;

    /// Returns the replicas that share the store, or `None` if one server has it alone. With replicas,
    /// an append to a session that this one does not own is refused with [`StoreError::NotOwner`].
    fn replicas(&self) -> Option<Arc<dyn Replicas>> {
        None
    }

    /// Makes one change, and returns once it is durable.
    ///
    /// Several appends to one session may be under way at the same time. They are made in the order
    /// in which they were first polled. If one fails, the next, which expects its head, is refused.
    async fn append(&self, append: Append) -> Result<(), StoreError>;

    /// Returns a session with its current head, first sequence and number of live calls.
    async fn session(&self, id: SessionId) -> Result<Option<Session>, StoreError>;

    /// Lists sessions, newest first.
    async fn sessions(&self, query: SessionQuery) -> Result<SessionPage, StoreError>;

    /// Reads events of one session, in order.
    async fn events(&self, query: EventQuery) -> Result<EventPage, StoreError>;

    /// Returns a call, live or finished, in the background or not.
    async fn call(&self, id: CallId) -> Result<Option<Call>, StoreError>;

    /// Returns the calls of one session that have not ended, oldest first, without those that cannot
    /// be read back.
    async fn live_calls(&self, session_id: SessionId) -> Result<Vec<Call>, StoreError>;

    /// Lists background tasks, newest first, with the change number of the same moment.
    async fn calls(&self, query: CallQuery) -> Result<CallPage, StoreError>;

    /// Lists background tasks that changed after a change number, in the order of their last
    /// change.
    async fn changes(&self, query: ChangeQuery) -> Result<ChangePage, StoreError>;

    /// Reads pieces of a call's output. Returns `None` if there is no such call.
    async fn output(&self, query: OutputQuery) -> Result<Option<OutputPage>, StoreError>;

    /// Returns the newest messages of a session's history that together take at most `bytes_max`. A
    /// session that does not exist has none.
    async fn messages(
        &self,
        session_id: SessionId,
        bytes_max: u64,
    ) -> Result<MessagePage, StoreError>;

    /// Returns messages of a session's history after the number `after`, oldest first: at most `limit`
    /// that together take at most `bytes_max`, but at least one. A session that is not known has none.
    async fn messages_after(
        &self,
        session_id: SessionId,
        after: u64,
        limit: u32,
        bytes_max: usize,
    ) -> Result<MessageSlice, StoreError>;

    /// Returns the record of a task's follow-up. One that cannot be read back is
    /// [`StoreError::Corrupt`].
    async fn follow_up(&self, id: CallId) -> Result<Option<FollowUp>, StoreError>;

    /// Returns a follow-up with its task as it ended. If either cannot be read back, that is
    /// [`StoreError::Corrupt`].
    async fn follow_up_with_task(&self, id: CallId)
    -> Result<Option<FollowUpWithTask>, StoreError>;

    /// Lists follow-ups with their tasks, newest first.
    async fn follow_ups(&self, query: FollowUpQuery) -> Result<FollowUpPage, StoreError>;

    /// Returns the follow-ups that are due.
    async fn due_follow_ups(&self, query: DueQuery) -> Result<DueFollowUps, StoreError>;

    /// Returns the sessions with a follow-up that is due for delivery by the engine, those that
    /// have waited the longest first.
    async fn sessions_with_due_follow_ups(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> Result<DueSessions, StoreError>;

    /// Returns the follow-ups of a tenant that are leased for the request with this id, oldest
    /// first. Those that cannot be read back are left out.
    async fn leased_follow_ups(
        &self,
        tenant: &Tenant,
        request_id: &str,
    ) -> Result<Vec<FollowUp>, StoreError>;

    /// Returns the record of a request, or `None` if the id has not been used.
    async fn request(
        &self,
        tenant: &Tenant,
        request_id: &str,
    ) -> Result<Option<RequestRecord>, StoreError>;

    /// Returns the sessions with a call that has not ended, after `after` in the order of their
    /// ids.
    async fn sessions_with_live_calls(
        &self,
        after: Option<SessionId>,
        limit: u32,
    ) -> Result<Vec<SessionId>, StoreError>;

    /// Counts the open sessions of a tenant that are not implicit, up to `count_max`.
    async fn open_sessions(&self, tenant: &Tenant, count_max: u32) -> Result<u32, StoreError>;

    /// Returns the time of the newest change of a session, or `None` if there is no session.
    async fn newest_time(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Removes expired rows, as many as one round may remove.
    async fn expire(&self, policy: ExpiryPolicy) -> Result<Expired, StoreError>;

    /// Checks that writes are possible. The error is the reason why they are not.
    async fn check(&self) -> Result<(), StoreError>;

    /// Waits for the operations under way, and closes the store. Later ones fail with
    /// [`StoreError::Unavailable`].
    async fn close(&self);
}
