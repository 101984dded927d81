//! Questions to a store, and the pages that answer them.

use serde::{Deserialize, Serialize};

use super::{LogEvent, StoredEvent};
use crate::model::{
    Call, CallId, FollowUp, FollowUpState, Labels, PayloadKind, Session, SessionId, SessionState,
    State, StreamSummary, Tenant, Timestamp, ToolKind,
};

/// Which events of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventQuery {
    /// The session.
    pub session_id: SessionId,
    /// Only events behind this sequence.
    pub after: u64,
    /// Only these kinds; empty: all.
    pub kinds: Vec<PayloadKind>,
    /// Only this call's.
    pub call_id: Option<CallId>,
    /// How many events are looked at, matching or not.
    pub scan_max: usize,
    /// How many bytes of events are returned; at least one event is, however large.
    pub bytes_max: usize,
}

/// Events of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventPage {
    /// Those that match, in order.
    pub events: Vec<LogEvent>,
    /// The last sequence that was looked at: ask on after it. At least the question's `after`.
    pub scanned_to: u64,
    /// The newest sequence of the log.
    pub head: u64,
    /// The oldest sequence that can still be read.
    pub first: u64,
    /// The session has come to its end: nothing will follow `head`.
    pub closed: bool,
}

/// Where a page of sessions ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionCursor {
    /// When the last one shown was made.
    pub create_time: Timestamp,
    /// Its id.
    pub id: SessionId,
}

/// Which sessions. Order: `create_time`, then id, both descending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionQuery {
    /// Whose.
    pub tenant: Tenant,
    /// In one of these states; empty: any.
    pub states: Vec<SessionState>,
    /// With all of these labels.
    pub labels: Labels,
    /// Made after this.
    pub created_after: Option<Timestamp>,
    /// Behind this one.
    pub cursor: Option<SessionCursor>,
    /// How many at most.
    pub limit: u32,
}

/// Sessions, newest first.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionPage {
    /// The sessions.
    pub sessions: Vec<Session>,
    /// There are more: ask on behind this one.
    pub next: Option<SessionCursor>,
}

/// Where a page of tasks ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallCursor {
    /// When the last one shown was accepted.
    pub create_time: Timestamp,
    /// Its id.
    pub id: CallId,
}

/// Which background tasks. Order: `create_time`, then id, both descending, neither of which ever
/// changes: so a task that exists throughout is on exactly one page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallQuery {
    /// Whose.
    pub tenant: Tenant,
    /// In this session.
    pub session_id: Option<SessionId>,
    /// In one of these states; empty: any.
    pub states: Vec<State>,
    /// Of one of these kinds; empty: any.
    pub kinds: Vec<ToolKind>,
    /// With all of these labels.
    pub labels: Labels,
    /// Accepted after this.
    pub created_after: Option<Timestamp>,
    /// Behind this one.
    pub cursor: Option<CallCursor>,
    /// How many at most.
    pub limit: u32,
}

/// Background tasks, newest first.
#[derive(Debug, Clone, PartialEq)]
pub struct CallPage {
    /// The tasks.
    pub calls: Vec<Call>,
    /// There are more: ask on behind this one.
    pub next: Option<CallCursor>,
    /// The newest change number, read in the same moment.
    pub change: u64,
}

/// Which changes of background tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeQuery {
    /// Whose.
    pub tenant: Tenant,
    /// In this session.
    pub session_id: Option<SessionId>,
    /// Behind this change number.
    pub after: u64,
    /// How many at most.
    pub limit: u32,
}

/// Background tasks as they are now, in the order of their last change. Every commit that puts a
/// call gives it the next number of one count for the whole store.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangePage {
    /// The tasks.
    pub calls: Vec<Call>,
    /// Ask on behind this: the number of the last one here, or, when nothing is left, the newest.
    pub change: u64,
    /// There are more.
    pub more: bool,
}

/// Which stream of a call's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutputSelection {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Both, in the order of arrival.
    Combined,
}

/// From where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputFrom {
    /// The piece that holds this offset of the selected stream, or else the next one, and on.
    Offset(u64),
    /// The last pieces that together have at least so many bytes, or all.
    Tail(u64),
}

/// Which pieces of a call's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputQuery {
    /// The call.
    pub call_id: CallId,
    /// Of which stream.
    pub selection: OutputSelection,
    /// From where.
    pub from: OutputFrom,
    /// From an offset, pieces are returned until they hold this many bytes; at least one is, if
    /// there is any. A tail is returned whole. Either way no more than
    /// [`OUTPUT_PAGE_PIECES_MAX`](crate::model::limits::OUTPUT_PAGE_PIECES_MAX) pieces.
    pub bytes_max: u64,
}

/// Pieces of a call's output, whole, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputPage {
    /// Output events of the selected stream.
    pub pieces: Vec<StoredEvent>,
    /// Counts of what is in the log up to now: standard output, standard error, both.
    /// `total_bytes` ends behind the last piece; `dropped_bytes` is what the pieces leave out.
    pub stdout: StreamSummary,
    /// Standard error.
    pub stderr: StreamSummary,
    /// Both.
    pub combined: StreamSummary,
}

/// Which follow-ups. Order: `create_time`, then the task's id, both descending, neither of which
/// ever changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowUpQuery {
    /// Whose.
    pub tenant: Tenant,
    /// In this session.
    pub session_id: Option<SessionId>,
    /// In one of these states; empty: any.
    pub states: Vec<FollowUpState>,
    /// Behind this one.
    pub cursor: Option<CallCursor>,
    /// How many at most.
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
    /// The follow-ups. Those that can't be read back, or whose task can't, are left out.
    pub follow_ups: Vec<FollowUpWithTask>,
    /// The tasks of those that are left out. They count as a part of the page.
    pub unreadable: Vec<CallId>,
    /// There are more: ask on behind this one.
    pub next: Option<CallCursor>,
}

/// Among which follow-ups something is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DueScope {
    /// Those of a session that are pending and that the engine delivers.
    Session(SessionId),
    /// Those of a tenant, in one session if it is named, that are pending and wait for a lease.
    Lease(Tenant, Option<SessionId>),
    /// Those whose lease has a time: it has run out.
    Leased,
}

/// Which follow-ups something is due for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueQuery {
    /// Among which.
    pub scope: DueScope,
    /// The time.
    pub now: Timestamp,
    /// How many at most.
    pub limit: u32,
}

/// Follow-ups that something is due for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DueFollowUps {
    /// Those whose `due_time` is not after `now`, in its order; of one moment in the order in which
    /// they were first stored.
    pub records: Vec<FollowUp>,
    /// The tasks of those between them that can't be read back. They don't count, so that they hold
    /// nothing up, and stay due until they are put again.
    pub unreadable: Vec<CallId>,
    /// When the next one will be due, of those that aren't yet.
    pub next: Option<Timestamp>,
}

/// Sessions with follow-ups that are due.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DueSessions {
    /// The sessions, each once.
    pub sessions: Vec<(Tenant, SessionId)>,
    /// When the next follow-up will be due, of those that aren't yet.
    pub next: Option<Timestamp>,
}
