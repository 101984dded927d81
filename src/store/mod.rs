//! The port to durable state: one log a session, and the projections beside it.
//!
//! A change is one [`Append`]: events, calls, the session and the request id go in together or
//! not at all. Reads never see a part of an append, and what an append was acknowledged for is
//! there after any crash of the process.

mod cache;
#[cfg(any(test, feature = "testing"))]
pub mod conformance;
mod memory;
mod query;
mod rules;
mod sqlite;

use async_trait::async_trait;
use bytes::Bytes;

use crate::model::{
    Call, CallId, FollowUp, FollowUpPut, OutputPosition, PayloadKind, Session, SessionId, Tenant,
    Timestamp,
};

pub use cache::CachedStore;
pub use memory::MemoryStore;
pub use query::{
    CallCursor, CallPage, CallQuery, ChangePage, ChangeQuery, DueFollowUps, DueQuery, DueScope,
    DueSessions, EventPage, EventQuery, FollowUpPage, FollowUpQuery, FollowUpWithTask, OutputFrom,
    OutputPage, OutputQuery, OutputSelection, SessionCursor, SessionPage, SessionQuery,
};
pub use sqlite::{OpenError, SqliteOptions, SqliteStore, Synchronous};

/// An event, encoded, with what a store must know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its place in the log.
    pub sequence: u64,
    /// What kind of payload it has.
    pub kind: PayloadKind,
    /// The call that it belongs to.
    pub call_id: Option<CallId>,
    /// Of a piece of output: its place and its length in bytes.
    pub output: Option<(OutputPosition, u64)>,
    /// The encoded event, sent to readers as it is.
    pub bytes: Bytes,
}

/// An event as a reader of its log gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEvent {
    /// Its place in the log.
    pub sequence: u64,
    /// What kind of payload it has.
    pub kind: PayloadKind,
    /// The encoded event, sent to readers as it is.
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
    /// Its place in the history, from 1.
    pub number: u64,
    /// The message, as JSON.
    pub body: String,
}

/// The newest messages of a session's history.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MessagePage {
    /// The messages, oldest first, without a gap up to the newest.
    pub messages: Vec<StoredMessage>,
    /// How many older ones there were: forgotten, or beyond the size that was asked for.
    pub omitted: u64,
}

/// What became of a request that carried an id.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RequestRecord {
    /// Whose id it is. Ids of different tenants never meet.
    pub tenant: Tenant,
    /// The id, as the caller wrote it.
    pub request_id: String,
    /// A digest of the method and the content, to tell a repetition from a reuse.
    pub fingerprint: [u8; 32],
    /// What the request did, so that a repetition gives the same answer.
    pub effect: RequestEffect,
    /// When it was first seen.
    pub create_time: Timestamp,
}

/// What a request with an id did.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestEffect {
    /// Made a session.
    SessionCreated(SessionId),
    /// Closed one.
    SessionClosed(SessionId),
    /// Started a call.
    CallStarted {
        /// Its session.
        session_id: SessionId,
        /// The call.
        call_id: CallId,
    },
    /// Asked a task to stop.
    CallCancelled(CallId),
    /// Forgot a finished task.
    CallDeleted(CallId),
    /// Leased follow-ups: those that have its id.
    FollowUpsLeased,
    /// Said how the delivery of a task's follow-up went.
    FollowUpAcknowledged(CallId),
    /// Brought a task's follow-up back.
    FollowUpRetried(CallId),
}

impl RequestEffect {
    /// The call whose record this effect is kept with, if it is about one. A request about a
    /// call is forgotten with the call (a deletion: after the retention time).
    pub fn call_id(&self) -> Option<CallId> {
        match self {
            Self::CallStarted { call_id, .. } | Self::CallCancelled(call_id) => Some(*call_id),
            // A follow-up may outlast its task.
            Self::SessionCreated(_)
            | Self::SessionClosed(_)
            | Self::CallDeleted(_)
            | Self::FollowUpsLeased
            | Self::FollowUpAcknowledged(_)
            | Self::FollowUpRetried(_) => None,
        }
    }
}

/// One change, atomic and durable.
#[derive(Debug, Clone)]
pub struct Append {
    /// The session that it belongs to.
    pub session_id: SessionId,
    /// The head that the writer knows: the append is refused with [`StoreError::Conflict`] if
    /// the log has another. None: the session is new, and must not exist.
    pub expected_head: Option<u64>,
    /// New events, `expected_head + 1` and on, without a gap. May be empty.
    pub events: Vec<StoredEvent>,
    /// The session as it is now; its `head_sequence` is that of the last event.
    pub session: Session,
    /// Calls that are new or have changed, as they are now.
    pub calls: Vec<Call>,
    /// Calls to forget. Their follow-ups stay.
    pub deleted_calls: Vec<CallId>,
    /// New messages of the session's history, each with the number after the one before. Of those
    /// that are there the oldest are forgotten: `HISTORY_MESSAGES_MAX` are kept.
    pub messages: Vec<StoredMessage>,
    /// Follow-ups that are new or have changed, in the order of their changes; one that changes
    /// twice stands here twice. A new one has its task, which stays as it is then: a later one is
    /// ignored. A record that can't be read back may be put again like any other.
    pub follow_ups: Vec<FollowUpPut>,
    /// Requests that this change answers. Refused with [`StoreError::RequestTaken`] if the
    /// tenant has used one of the ids before.
    pub requests: Vec<RequestRecord>,
}

/// Why the store didn't do as it was asked. An append that failed has changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another writer has been there: the log's head is not the expected one. Also, by its
    /// writer's mistake: the append contradicts itself, with a gap in its events, a call of
    /// another session, a call twice, or a new follow-up without its task.
    #[error("the session's log has head {head:?}, not the one that its writer expected")]
    Conflict {
        /// The head that the log has; none if there is no such session.
        head: Option<u64>,
    },
    /// The request id is taken.
    #[error("request id `{request_id}` has been used before")]
    RequestTaken {
        /// The id.
        request_id: String,
    },
    /// The disk is full. Writes work again once there is space.
    #[error("the disk that holds the store is full: {0}")]
    Full(String),
    /// The disk failed at a write. Nothing is written any more until the server is restarted.
    /// Reads don't show the append that met the failure; only after the restart it is certain
    /// whether it is there.
    #[error("the store failed and takes no more writes, restart the server: {0}")]
    Broken(String),
    /// The store can't be used now: it is closing, or a query failed.
    #[error("the store can't be used: {0}")]
    Unavailable(String),
    /// What is stored can't be read back.
    #[error("the store holds something that can't be read: {0}")]
    Corrupt(String),
}

/// What a round of expiry removed.
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
    /// There is more to remove: call again.
    pub more: bool,
}

/// What may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpiryPolicy {
    /// The time: calls and follow-ups whose `expire_time` is not after it go, calls with their
    /// requests.
    pub now: Timestamp,
    /// Requests about no call, and closed or implicit sessions that hold no call and no follow-up
    /// any more, go when their last change is older than this.
    pub older_than: Timestamp,
    /// Events kept of a session: beyond it the oldest are trimmed.
    pub session_events_max: u64,
    /// Rows removed in one round, at most, so that a round is short.
    pub rows_max: u32,
}

/// Durable state.
///
/// Every adapter passes the suite in `store/conformance/`.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Makes one change, and returns once it is durable.
    ///
    /// Appends of one session may be under way at the same time. They are made in the order in
    /// which they were first polled: one whose head the one before it would have left is refused
    /// if that one has failed.
    async fn append(&self, append: Append) -> Result<(), StoreError>;

    /// A session with its current head, first sequence and number of live calls.
    async fn session(&self, id: SessionId) -> Result<Option<Session>, StoreError>;

    /// Sessions, newest first.
    async fn sessions(&self, query: SessionQuery) -> Result<SessionPage, StoreError>;

    /// Events of one session, in order.
    async fn events(&self, query: EventQuery) -> Result<EventPage, StoreError>;

    /// A call, live or finished, in the background or not.
    async fn call(&self, id: CallId) -> Result<Option<Call>, StoreError>;

    /// Calls of one session that haven't ended, oldest first.
    async fn live_calls(&self, session_id: SessionId) -> Result<Vec<Call>, StoreError>;

    /// Background tasks, newest first, with the change number as of the same moment.
    async fn calls(&self, query: CallQuery) -> Result<CallPage, StoreError>;

    /// Background tasks that changed after a change number, in the order of their last change.
    async fn changes(&self, query: ChangeQuery) -> Result<ChangePage, StoreError>;

    /// Pieces of a call's output; none if there is no such call, or none any more.
    async fn output(&self, query: OutputQuery) -> Result<Option<OutputPage>, StoreError>;

    /// The newest messages of a session's history that together take at most `bytes_max`; of a
    /// session that isn't known there are none.
    async fn messages(
        &self,
        session_id: SessionId,
        bytes_max: u64,
    ) -> Result<MessagePage, StoreError>;

    /// The record of a task's follow-up. One that can't be read back is [`StoreError::Corrupt`].
    async fn follow_up(&self, id: CallId) -> Result<Option<FollowUp>, StoreError>;

    /// A follow-up with its task as it ended. If either can't be read back, that is
    /// [`StoreError::Corrupt`].
    async fn follow_up_with_task(&self, id: CallId)
    -> Result<Option<FollowUpWithTask>, StoreError>;

    /// Follow-ups with their tasks, newest first.
    async fn follow_ups(&self, query: FollowUpQuery) -> Result<FollowUpPage, StoreError>;

    /// Follow-ups that something is due for.
    async fn due_follow_ups(&self, query: DueQuery) -> Result<DueFollowUps, StoreError>;

    /// Sessions with a follow-up that the engine is to deliver and that is due, those that have
    /// waited the longest first.
    async fn sessions_with_due_follow_ups(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> Result<DueSessions, StoreError>;

    /// Follow-ups of a tenant that are leased for the request with this id, oldest first. Those
    /// that can't be read back are left out.
    async fn leased_follow_ups(
        &self,
        tenant: &Tenant,
        request_id: &str,
    ) -> Result<Vec<FollowUp>, StoreError>;

    /// What a request id did.
    async fn request(
        &self,
        tenant: &Tenant,
        request_id: &str,
    ) -> Result<Option<RequestRecord>, StoreError>;

    /// Sessions that hold a call that hasn't ended, after `after` in the order of their ids.
    async fn sessions_with_live_calls(
        &self,
        after: Option<SessionId>,
        limit: u32,
    ) -> Result<Vec<SessionId>, StoreError>;

    /// Removes some of what may go.
    async fn expire(&self, policy: ExpiryPolicy) -> Result<Expired, StoreError>;

    /// Whether writes are possible: an error says why not.
    async fn check(&self) -> Result<(), StoreError>;

    /// Waits for what is under way and closes. Later calls give [`StoreError::Unavailable`].
    async fn close(&self);
}
