//! Queries of a store, and the pages that answer them.

use serde::{Deserialize, Serialize};

use super::{LogEvent, StoredEvent};
use crate::model::{
    Call, CallId, FollowUp, FollowUpState, IdRange, Labels, PayloadKind, Session, SessionId,
    SessionState, State, StreamSummary, Tenant, Timestamp, ToolKind,
};

/// A query for events of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventQuery {
    /// The session.
    pub session_id: SessionId,
    /// Only events after this sequence.
    pub after: u64,
    /// Only events of these kinds, or of all kinds if empty.
    pub kinds: Vec<PayloadKind>,
    /// Only events of this call, or of all calls and none if `None`.
    pub call_id: Option<CallId>,
    /// The most events to scan, matching or not.
    pub scan_max: usize,
    /// The most bytes of events to return. At least one event is returned, however large.
    pub bytes_max: usize,
}

/// Events of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventPage {
    /// The matching events, in order.
    pub events: Vec<LogEvent>,
    /// The last sequence that was scanned, after which the next page begins. At least the `after`
    /// of the query.
    pub scanned_to: u64,
    /// The newest sequence of the log.
    pub head: u64,
    /// The oldest sequence that can still be read.
    pub first: u64,
    /// `true` if the session is closed: nothing follows `head`.
    pub closed: bool,
    /// The epoch of the log, if the bytes of some of the events have an earlier one.
    pub stream_epoch: Option<String>,
}

/// The position at which a page of sessions ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionCursor {
    /// The creation time of the last session on the page.
    pub create_time: Timestamp,
    /// The id of that session.
    pub id: SessionId,
}

/// A query for sessions. The order is `create_time`, then id, both descending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionQuery {
    /// Only those of this tenant.
    pub tenant: Tenant,
    /// Only those in one of these states, or in any if empty.
    pub states: Vec<SessionState>,
    /// Only those with all of these labels.
    pub labels: Labels,
    /// Only those created after this time.
    pub created_after: Option<Timestamp>,
    /// Only those with an id in this range.
    pub ids: IdRange,
    /// Only those after this position, or from the beginning if `None`.
    pub cursor: Option<SessionCursor>,
    /// The most to return.
    pub limit: u32,
}

impl SessionQuery {
    /// Returns the query for the newest sessions of a tenant, without any filter.
    pub fn newest(tenant: Tenant, limit: u32) -> Self {
        Self {
            tenant,
            states: Vec::new(),
            labels: Labels::new(),
            created_after: None,
            ids: IdRange::ALL,
            cursor: None,
            limit,
        }
    }
}

/// Sessions, newest first.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionPage {
    /// The sessions, without those that cannot be read back.
    pub sessions: Vec<Session>,
    /// The sessions that are left out. They count as a part of the page.
    pub unreadable: Vec<SessionId>,
    /// The position at which the next page begins, or `None` if there are no more.
    pub next: Option<SessionCursor>,
}

/// The position at which a page of tasks or follow-ups ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallCursor {
    /// The creation time of the last one on the page.
    pub create_time: Timestamp,
    /// The id of that task.
    pub id: CallId,
}

/// A query for background tasks. The order is `create_time`, then id, both descending. Neither ever
/// changes, so a task that exists throughout is on exactly one page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallQuery {
    /// Only those of this tenant.
    pub tenant: Tenant,
    /// Only those of this session, or of all sessions if `None`.
    pub session_id: Option<SessionId>,
    /// Only those in one of these states, or in any if empty.
    pub states: Vec<State>,
    /// Only those of one of these kinds, or of any if empty.
    pub kinds: Vec<ToolKind>,
    /// Only those with all of these labels.
    pub labels: Labels,
    /// Only those accepted after this time.
    pub created_after: Option<Timestamp>,
    /// Only those with an id in this range.
    pub ids: IdRange,
    /// Only those after this position, or from the beginning if `None`.
    pub cursor: Option<CallCursor>,
    /// The most to return.
    pub limit: u32,
}

impl CallQuery {
    /// Returns the query for the newest tasks of a tenant, without any filter.
    pub fn newest(tenant: Tenant, limit: u32) -> Self {
        Self {
            tenant,
            session_id: None,
            states: Vec::new(),
            kinds: Vec::new(),
            labels: Labels::new(),
            created_after: None,
            ids: IdRange::ALL,
            cursor: None,
            limit,
        }
    }
}

/// Background tasks, newest first.
#[derive(Debug, Clone, PartialEq)]
pub struct CallPage {
    /// The tasks, without those that cannot be read back.
    pub calls: Vec<Call>,
    /// The tasks that are left out. They count as a part of the page.
    pub unreadable: Vec<CallId>,
    /// The position at which the next page begins, or `None` if there are no more.
    pub next: Option<CallCursor>,
    /// The newest change number, read at the same moment.
    pub change: u64,
}

/// A query for changes of background tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeQuery {
    /// Only those of this tenant.
    pub tenant: Tenant,
    /// Only those of this session, or of all sessions if `None`.
    pub session_id: Option<SessionId>,
    /// Only those after this change number.
    pub after: u64,
    /// The most to return.
    pub limit: u32,
}

/// Background tasks in their current state, in the order of their last change. Each change of a
/// call gets the next number of one sequence for the whole store.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangePage {
    /// The tasks, without those that cannot be read back.
    pub calls: Vec<Call>,
    /// The tasks that are left out. They count as a part of the page.
    pub unreadable: Vec<CallId>,
    /// The change number after which the next page begins: that of the last task here or, if there
    /// are no more, the newest.
    pub change: u64,
    /// `true` if there are more.
    pub more: bool,
}

/// A stream of a call's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutputSelection {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Both streams, in the order of arrival.
    Combined,
}

/// The position from which output is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputFrom {
    /// The piece that holds this offset of the selected stream, or else the next one.
    Offset(u64),
    /// The last pieces, which together have at least this many bytes, or all pieces.
    Tail(u64),
}

/// A query for pieces of a call's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputQuery {
    /// The call.
    pub call_id: CallId,
    /// The stream.
    pub selection: OutputSelection,
    /// The position from which to read.
    pub from: OutputFrom,
    /// The bytes after which a page from an offset is full. It holds at least one piece, if there
    /// is any. A tail is returned whole. Neither holds more than
    /// [`OUTPUT_PAGE_PIECES_MAX`](crate::model::limits::OUTPUT_PAGE_PIECES_MAX) pieces.
    pub bytes_max: u64,
}

/// Pieces of a call's output, whole, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputPage {
    /// Output events of the selected stream.
    pub pieces: Vec<StoredEvent>,
    /// The counts of standard output up to now. `total_bytes` ends after the last piece;
    /// `dropped_bytes` is the part that no piece holds.
    pub stdout: StreamSummary,
    /// The counts of standard error.
    pub stderr: StreamSummary,
    /// The counts of both streams.
    pub combined: StreamSummary,
}

/// A query for follow-ups. The order is `create_time`, then the id of the task, both descending.
/// Neither ever changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowUpQuery {
    /// Only those of this tenant.
    pub tenant: Tenant,
    /// Only those of this session, or of all sessions if `None`.
    pub session_id: Option<SessionId>,
    /// Only those in one of these states, or in any if empty.
    pub states: Vec<FollowUpState>,
    /// Only those after this position, or from the beginning if `None`.
    pub cursor: Option<CallCursor>,
    /// The most to return.
    pub limit: u32,
}

/// A follow-up with its task as it ended.
#[derive(Debug, Clone, PartialEq)]
pub struct FollowUpWithTask {
    /// The record.
    pub record: FollowUp,
    /// The task.
    pub task: Call,
}

/// Follow-ups, newest first.
#[derive(Debug, Clone, PartialEq)]
pub struct FollowUpPage {
    /// The follow-ups, without those that cannot be read back or whose task cannot.
    pub follow_ups: Vec<FollowUpWithTask>,
    /// The tasks of the follow-ups that are left out. They count as a part of the page.
    pub unreadable: Vec<CallId>,
    /// The position at which the next page begins, or `None` if there are no more.
    pub next: Option<CallCursor>,
}

/// The follow-ups among which to look for those that are due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DueScope {
    /// Pending ones of a session that the engine delivers.
    Session(SessionId),
    /// Pending ones of a tenant that wait for a lease, of one session or, if `None`, of all.
    Lease(Tenant, Option<SessionId>),
    /// Leased ones, which are due when their lease expires.
    Leased,
}

/// A query for follow-ups that are due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueQuery {
    /// The follow-ups among which to look.
    pub scope: DueScope,
    /// The current time.
    pub now: Timestamp,
    /// The most to return.
    pub limit: u32,
}

/// Follow-ups that are due.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DueFollowUps {
    /// The follow-ups whose `due_time` is not after `now`, in the order of that time, and of their
    /// first storing if it is equal.
    pub records: Vec<FollowUp>,
    /// The tasks of the follow-ups between them that cannot be read back. They do not count, so
    /// that they hold nothing up, and stay due until they are replaced.
    pub unreadable: Vec<CallId>,
    /// The time at which the next one is due, or `None` if there is none.
    pub next: Option<Timestamp>,
}

/// Sessions with follow-ups that are due.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DueSessions {
    /// The sessions, each once.
    pub sessions: Vec<(Tenant, SessionId)>,
    /// The time at which the next follow-up is due, or `None` if there is none.
    pub next: Option<Timestamp>,
}
