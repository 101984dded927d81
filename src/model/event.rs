//! What the log of a session tells.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    CallId, DeliveryError, FollowUpState, Outcome, OutputStream, ParkReason, Progress, SessionId,
    State, StopReason, Timestamp, ToolKind, TurnError, TurnId, Usage,
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
    /// A turn began.
    TurnStarted = 8,
    /// A model added text to its answer.
    AssistantDelta = 9,
    /// A model added text to its reasoning.
    ReasoningDelta = 10,
    /// A model finished a message.
    AssistantMessage = 11,
    /// A request to a model failed, and another follows.
    TurnRetrying = 12,
    /// A request to a model was counted.
    UsageReported = 13,
    /// A turn ended well.
    SessionIdle = 14,
    /// A turn ended otherwise.
    SessionError = 15,
    /// A task ended that the agent must hear of.
    FollowUpScheduled = 16,
    /// A follow-up was handed out.
    FollowUpStarted = 17,
    /// An attempt to deliver a follow-up ended.
    FollowUpFinished = 18,
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
            Self::TurnStarted,
            Self::AssistantDelta,
            Self::ReasoningDelta,
            Self::AssistantMessage,
            Self::TurnRetrying,
            Self::UsageReported,
            Self::SessionIdle,
            Self::SessionError,
            Self::FollowUpScheduled,
            Self::FollowUpStarted,
            Self::FollowUpFinished,
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
    /// A turn began.
    TurnStarted {
        /// What was asked.
        prompt: String,
        /// How many attachments came with it.
        attachments: usize,
        /// The model asked.
        model: String,
        /// The tasks whose follow-ups it delivers.
        follow_ups: Vec<CallId>,
    },
    /// A model added text to its answer.
    AssistantDelta(String),
    /// A model added text to its reasoning.
    ReasoningDelta(String),
    /// A model finished a message.
    AssistantMessage {
        /// The whole text, as far as an event has room for it.
        text: String,
        /// The calls that it asks for.
        call_ids: Vec<CallId>,
        /// How much of the text is left out, in bytes.
        omitted_bytes: usize,
    },
    /// A request to a model failed, and another follows.
    TurnRetrying {
        /// The attempt that follows.
        attempt: u32,
        /// When.
        delay: Duration,
        /// Why.
        error: TurnError,
    },
    /// A request to a model was counted.
    UsageReported {
        /// What it used.
        usage: Usage,
        /// The model.
        model: String,
    },
    /// A turn ended well.
    SessionIdle(Box<TurnEnded>),
    /// A turn ended otherwise.
    SessionError {
        /// Why.
        error: TurnError,
        /// Its calls that hadn't ended.
        unresolved: Vec<Unresolved>,
    },
    /// A task ended that the agent must hear of. The event is the task's.
    FollowUpScheduled,
    /// A follow-up was handed out. The event is its task's.
    FollowUpStarted {
        /// The attempt at delivery, from 1.
        attempt: u32,
    },
    /// An attempt to deliver a follow-up ended, or it needs none. The event is its task's.
    FollowUpFinished {
        /// The attempt at delivery, from 1; 0: there was none.
        attempt: u32,
        /// Where it stands.
        state: FollowUpState,
        /// Why the attempt failed, or why nobody needs to hear of it.
        error: Option<DeliveryError>,
    },
}

/// A turn ended well.
#[derive(Debug, Clone, PartialEq)]
pub struct TurnEnded {
    /// The model's last message, as far as an event has room for it.
    pub final_text: String,
    /// How much of that text is left out, in bytes.
    pub omitted_bytes: usize,
    /// Why it ended.
    pub stop_reason: StopReason,
    /// What its models have used.
    pub usage: Usage,
    /// Its calls that go on in the background.
    pub running: Vec<CallId>,
    /// Messages of the history that its last request left out.
    pub history_omitted: u64,
}

/// A call that hadn't ended when its turn did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unresolved {
    /// The call.
    pub call_id: CallId,
    /// Its tool.
    pub tool: String,
    /// It is in the background.
    pub is_task: bool,
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
            Self::TurnStarted { .. } => PayloadKind::TurnStarted,
            Self::AssistantDelta(_) => PayloadKind::AssistantDelta,
            Self::ReasoningDelta(_) => PayloadKind::ReasoningDelta,
            Self::AssistantMessage { .. } => PayloadKind::AssistantMessage,
            Self::TurnRetrying { .. } => PayloadKind::TurnRetrying,
            Self::UsageReported { .. } => PayloadKind::UsageReported,
            Self::SessionIdle(_) => PayloadKind::SessionIdle,
            Self::SessionError { .. } => PayloadKind::SessionError,
            Self::FollowUpScheduled => PayloadKind::FollowUpScheduled,
            Self::FollowUpStarted { .. } => PayloadKind::FollowUpStarted,
            Self::FollowUpFinished { .. } => PayloadKind::FollowUpFinished,
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

    /// The turn that a stored event belongs to; none if it is none's.
    fn decode_turn(&self, sequence: u64, bytes: &[u8]) -> Result<Option<TurnId>, EventCorrupt>;
}
