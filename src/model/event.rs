//! What the log of a session tells.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    CallId, Outcome, OutputStream, ParkReason, Progress, SessionId, State, Timestamp, ToolKind,
    TurnId,
};

/// The kinds of payload, for filters. The numbers are what stores keep: never reuse one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
#[serde(rename_all = "snake_case")]
pub enum PayloadKind {
    /// A call was accepted, or the run of a pending one began.
    ToolCallStarted = 1,
    /// A process wrote.
    ToolOutput = 2,
    /// A call said how far it is.
    ToolProgress = 3,
    /// A call went to the background.
    ToolCallParked = 4,
    /// A call was asked to stop.
    ToolCallCancelling = 5,
    /// A call ended.
    ToolCallFinished = 6,
    /// The log ended.
    SessionShutdown = 7,
}

impl PayloadKind {
    /// The kind that a store has kept as this number.
    pub fn from_number(number: u8) -> Option<Self> {
        [
            Self::ToolCallStarted,
            Self::ToolOutput,
            Self::ToolProgress,
            Self::ToolCallParked,
            Self::ToolCallCancelling,
            Self::ToolCallFinished,
            Self::SessionShutdown,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == number)
    }
}

/// A call was accepted, or the run of a pending one began.
#[derive(Debug, Clone, PartialEq)]
pub struct CallStarted {
    /// The tool.
    pub tool: String,
    /// What does the work.
    pub kind: ToolKind,
    /// What it is for.
    pub description: String,
    /// Its arguments; none when they are too large for an event, or were told before.
    pub arguments: Option<serde_json::Map<String, serde_json::Value>>,
    /// How large arguments that aren't here are, in bytes of JSON.
    pub arguments_omitted_bytes: u64,
    /// Running, or pending behind another call.
    pub state: State,
    /// It was started in the background.
    pub background: bool,
    /// How long it may hold its caller.
    pub call_budget: Option<Duration>,
    /// How long it may run.
    pub execution_timeout: Option<Duration>,
    /// How long it may stay silent.
    pub idle_timeout: Option<Duration>,
}

/// A process wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolOutput {
    /// Where the bytes belong.
    pub position: OutputPosition,
    /// The bytes, as they were written.
    pub data: Bytes,
}

/// Where a piece of output belongs, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputPosition {
    /// Its stream.
    pub stream: OutputStream,
    /// Its offset in that stream.
    pub offset: u64,
    /// Its offset in both streams together, in the order of arrival.
    pub combined_offset: u64,
    /// Bytes of its stream that were thrown away between the piece before and this one.
    pub dropped_bytes_before: u64,
}

/// A call ended.
#[derive(Debug, Clone, PartialEq)]
pub struct CallFinished {
    /// How.
    pub state: State,
    /// Why, where the state alone doesn't say.
    pub reason: String,
    /// What it gave.
    pub outcome: Outcome,
    /// It was in the background.
    pub background: bool,
    /// From the start of the run to its end; none if it never ran.
    pub elapsed: Option<Duration>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Payload {
    /// A call was accepted.
    ToolCallStarted(Box<CallStarted>),
    /// A process wrote.
    ToolOutput(ToolOutput),
    /// A call said how far it is.
    ToolProgress(Progress),
    /// A call went to the background.
    ToolCallParked {
        /// The tool.
        tool: String,
        /// Why.
        reason: ParkReason,
        /// The budget that it had.
        call_budget: Option<Duration>,
    },
    /// A call was asked to stop.
    ToolCallCancelling {
        /// Who asked.
        requested_by: String,
        /// Why.
        reason: String,
        /// Killed at once, without a grace.
        force: bool,
        /// The session was at its cap, and this was its oldest parked task.
        evicted: bool,
    },
    /// A call ended.
    ToolCallFinished(Box<CallFinished>),
    /// The log ended: nothing follows.
    SessionShutdown {
        /// Why the session was closed.
        reason: String,
        /// How many tasks closing it cancelled.
        cancelled_tasks: u32,
    },
}

impl Payload {
    /// The kind of this payload.
    pub fn kind(&self) -> PayloadKind {
        match self {
            Self::ToolCallStarted(_) => PayloadKind::ToolCallStarted,
            Self::ToolOutput(_) => PayloadKind::ToolOutput,
            Self::ToolProgress(_) => PayloadKind::ToolProgress,
            Self::ToolCallParked { .. } => PayloadKind::ToolCallParked,
            Self::ToolCallCancelling { .. } => PayloadKind::ToolCallCancelling,
            Self::ToolCallFinished(_) => PayloadKind::ToolCallFinished,
            Self::SessionShutdown { .. } => PayloadKind::SessionShutdown,
        }
    }
}

/// One entry of a session's log.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The session.
    pub session_id: SessionId,
    /// Its place: 1, 2, 3… without a gap.
    pub sequence: u64,
    /// When it happened.
    pub create_time: Timestamp,
    /// The agent's turn that it belongs to.
    pub turn_id: Option<TurnId>,
    /// The call that it belongs to.
    pub call_id: Option<CallId>,
    /// The run of that call, from 1.
    pub attempt: u32,
    /// What happened.
    pub payload: Payload,
}

/// Bytes of the log that can't be read back.
#[derive(Debug, thiserror::Error)]
#[error("event {sequence} of the log can't be read: {cause}")]
pub struct EventCorrupt {
    /// Its sequence.
    pub sequence: u64,
    /// What the decoder said.
    pub cause: String,
}

/// How events become the bytes that are stored and sent. The wire's floor implements it, so that
/// a stored event is sent as it is, and nothing below needs to know the wire format.
pub trait EventCodec: Send + Sync + 'static {
    /// The bytes of `event` in the log whose epoch is `stream_epoch`.
    fn encode(&self, event: &Event, stream_epoch: &str) -> Bytes;

    /// The output that the bytes of a stored event carry; none if it is no output. The data
    /// shares the memory of `bytes`.
    fn decode_output(
        &self,
        sequence: u64,
        bytes: &Bytes,
    ) -> Result<Option<ToolOutput>, EventCorrupt>;
}
