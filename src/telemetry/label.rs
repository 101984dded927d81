//! The words in the labels of the metrics.

use crate::model::{State, ToolKind};

/// Why a connection was closed before it could be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConnectionRefusal {
    /// The server has as many connections as it may.
    TooManyConnections,
    /// The peer has as many connections as one may.
    TooManyFromPeer,
    /// As many handshakes are under way as may be.
    TooManyHandshakes,
    /// The handshake took too long.
    HandshakeTimeout,
    /// The peer left during the handshake.
    HandshakeCut,
    /// The TLS handshake failed.
    Tls,
    /// The peer doesn't speak HTTP/2.
    NotHttp2,
}

impl ConnectionRefusal {
    pub(super) const ALL: [Self; 7] = [
        Self::TooManyConnections,
        Self::TooManyFromPeer,
        Self::TooManyHandshakes,
        Self::HandshakeTimeout,
        Self::HandshakeCut,
        Self::Tls,
        Self::NotHttp2,
    ];

    /// The word for it in the label `reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooManyConnections => "too_many_connections",
            Self::TooManyFromPeer => "too_many_from_peer",
            Self::TooManyHandshakes => "too_many_handshakes",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::HandshakeCut => "handshake_cut",
            Self::Tls => "tls",
            Self::NotHttp2 => "not_http2",
        }
    }
}

/// The cap that a refused call met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallCap {
    /// Live calls of its session.
    LiveTasks,
    /// The session is busy, and the call wasn't to wait.
    Concurrency,
    /// The server is stopping.
    Draining,
    /// There is no room to write.
    Storage,
}

impl CallCap {
    pub(super) const ALL: [Self; 4] =
        [Self::LiveTasks, Self::Concurrency, Self::Draining, Self::Storage];

    /// The word for it in the label `cap`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LiveTasks => "live_tasks",
            Self::Concurrency => "concurrency",
            Self::Draining => "draining",
            Self::Storage => "storage",
        }
    }
}

/// Where a page of a log came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogSource {
    /// The store read it.
    Store,
    /// It was remembered.
    Memory,
}

impl LogSource {
    pub(super) const ALL: [Self; 2] = [Self::Store, Self::Memory];

    /// The word for it in the label `source`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Memory => "memory",
        }
    }
}

pub(super) const KINDS: [ToolKind; 5] =
    [ToolKind::Command, ToolKind::Mcp, ToolKind::Agent, ToolKind::Worker, ToolKind::BuiltIn];

pub(super) fn kind_label(kind: ToolKind) -> &'static str {
    match kind {
        ToolKind::Command => "command",
        ToolKind::Mcp => "mcp",
        ToolKind::Agent => "agent",
        ToolKind::Worker => "worker",
        ToolKind::BuiltIn => "built_in",
    }
}

pub(super) const STATES: [State; 9] = [
    State::Pending,
    State::Running,
    State::InputRequired,
    State::Cancelling,
    State::Succeeded,
    State::Failed,
    State::TimedOut,
    State::Cancelled,
    State::Lost,
];

pub(super) fn state_label(state: State) -> &'static str {
    match state {
        State::Pending => "pending",
        State::Running => "running",
        State::InputRequired => "input_required",
        State::Cancelling => "cancelling",
        State::Succeeded => "succeeded",
        State::Failed => "failed",
        State::TimedOut => "timed_out",
        State::Cancelled => "cancelled",
        State::Lost => "lost",
    }
}
