//! The events of a session's log.

use std::time::Duration;

use bytes::Bytes;

use super::{
    AssistantMessage, CallId, Compaction, DeliveryError, EndReason, FollowUpState, Origin, Outcome,
    OutputStream, ParkReason, Progress, SessionId, State, StopReason, Timestamp, ToolKind,
    TurnError, TurnId, Usage, enum_table,
};

enum_table! {
    /// The kind of an event's payload, for filters.
    pub enum PayloadKind {
        /// The run of a call started.
        ToolCallStarted => (1, "tool_call_started"),
        /// A process wrote output.
        ToolOutput => (2, "tool_output"),
        /// A call reported its progress.
        ToolProgress => (3, "tool_progress"),
        /// A call was parked.
        ToolCallParked => (4, "tool_call_parked"),
        /// A call was asked to stop.
        ToolCallCancelling => (5, "tool_call_cancelling"),
        /// A call ended.
        ToolCallFinished => (6, "tool_call_finished"),
        /// The log ended.
        SessionShutdown => (7, "session_shutdown"),
        /// A turn began.
        TurnStarted => (8, "turn_started"),
        /// A model added text to its answer.
        AssistantDelta => (9, "assistant_delta"),
        /// A model added text to its reasoning.
        ReasoningDelta => (10, "reasoning_delta"),
        /// A model finished a message.
        AssistantMessage => (11, "assistant_message"),
        /// A request to a model failed, and another attempt follows.
        TurnRetrying => (12, "turn_retrying"),
        /// A request to a model was counted.
        UsageReported => (13, "usage_reported"),
        /// A turn ended without an error.
        SessionIdle => (14, "session_idle"),
        /// A turn ended with an error.
        SessionError => (15, "session_error"),
        /// A task ended whose agent is to be notified.
        FollowUpScheduled => (16, "follow_up_scheduled"),
        /// A follow-up was claimed for delivery.
        FollowUpStarted => (17, "follow_up_started"),
        /// An attempt to deliver a follow-up ended.
        FollowUpFinished => (18, "follow_up_finished"),
        /// A call was accepted.
        ToolCallAccepted => (19, "tool_call_accepted"),
        /// The settings of the session changed.
        SessionUpdated => (20, "session_updated"),
        /// Older parts of the history are left out of a turn's requests.
        HistoryCompacted => (21, "history_compacted"),
        /// A later server goes on with a turn.
        TurnResumed => (22, "turn_resumed"),
        /// The output of a process could not be kept while no server was there.
        ToolOutputBlocked => (23, "tool_output_blocked"),
    }
}

/// The acceptance of a call.
#[derive(Debug, Clone, PartialEq)]
pub struct CallAccepted {
    /// The name of the tool.
    pub tool: String,
    /// The kind of the tool.
    pub kind: ToolKind,
    /// The caller's description of the call.
    pub description: String,
    /// The arguments, or `None` if they are too large for an event.
    pub arguments: Option<serde_json::Map<String, serde_json::Value>>,
    /// The size of arguments that are left out, in bytes of JSON.
    pub arguments_omitted_bytes: u64,
    /// The size of the standard input of the request, in bytes.
    pub stdin_bytes: u64,
    /// `true` if it was started in the background.
    pub background: bool,
    /// The time after which it is parked, or `None` if it is never parked by time.
    pub call_budget: Option<Duration>,
    /// The longest time that it may run, or `None` if there is no limit.
    pub execution_timeout: Option<Duration>,
    /// The longest time that it may run without output, or `None` if there is no limit.
    pub idle_timeout: Option<Duration>,
}

/// A piece of output of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolOutput {
    /// The position in the streams.
    pub position: OutputPosition,
    /// The bytes, as they were written.
    pub data: Bytes,
}

/// The position of a piece of output, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputPosition {
    /// The stream.
    pub stream: OutputStream,
    /// The offset in that stream.
    pub offset: u64,
    /// The offset in both streams together, in the order of arrival.
    pub combined_offset: u64,
    /// The bytes of the stream that were dropped between the piece before and this one.
    pub dropped_bytes_before: u64,
}

/// The end of a call.
#[derive(Debug, Clone, PartialEq)]
pub struct CallFinished {
    /// The terminal state.
    pub state: State,
    /// The reason, if the state alone doesn't say it.
    pub reason: String,
    /// The outcome.
    pub outcome: Outcome,
    /// The author of the result.
    pub author: Origin,
    /// `true` if it was in the background.
    pub background: bool,
    /// The time from the start of the run to its end, or `None` if it never ran.
    pub elapsed: Option<Duration>,
    /// The reason for the end.
    pub end_reason: EndReason,
}

/// The payload of an event.
#[derive(Debug, Clone, PartialEq)]
pub enum Payload {
    /// A call was accepted.
    ToolCallAccepted(Box<CallAccepted>),
    /// The run of a call started.
    ToolCallStarted {
        /// The name of the tool.
        tool: String,
        /// The kind of the tool.
        kind: ToolKind,
    },
    /// The settings of the session changed.
    SessionUpdated {
        /// The names of the changed fields in the contract.
        fields: Vec<&'static str>,
        /// The name of the requester.
        requested_by: String,
    },
    /// A process wrote output.
    ToolOutput(ToolOutput),
    /// A call reported its progress.
    ToolProgress(Progress),
    /// The output of a process could not be kept while no server was there.
    ToolOutputBlocked {
        /// The error of the system.
        cause: String,
    },
    /// A call was parked.
    ToolCallParked {
        /// The name of the tool.
        tool: String,
        /// The reason.
        reason: ParkReason,
        /// The budget of the call.
        call_budget: Option<Duration>,
    },
    /// A call was asked to stop.
    ToolCallCancelling {
        /// The name of the requester.
        requested_by: String,
        /// The reason that was given.
        reason: String,
        /// `true` if it is killed at once, without a grace period.
        force: bool,
        /// `true` if it was the oldest parked task of a full session.
        evicted: bool,
    },
    /// A call ended.
    ToolCallFinished(Box<CallFinished>),
    /// The log ended. No event follows.
    SessionShutdown {
        /// The reason why the session was closed.
        reason: String,
        /// The number of tasks that were cancelled by closing it.
        cancelled_tasks: u32,
    },
    /// A turn began.
    TurnStarted {
        /// The prompt.
        prompt: String,
        /// The number of attachments.
        attachments: usize,
        /// The name of the model.
        model: String,
        /// The tasks whose follow-ups it delivers.
        follow_ups: Vec<CallId>,
        /// The author of the prompt.
        origin: Origin,
    },
    /// A model added text to its answer.
    AssistantDelta(String),
    /// A model added text to its reasoning.
    ReasoningDelta(String),
    /// A model finished a message.
    AssistantMessage(AssistantMessage),
    /// A request to a model failed, and another attempt follows.
    TurnRetrying {
        /// The number of the attempt that follows.
        attempt: u32,
        /// The pause before it.
        delay: Duration,
        /// The error of the attempt that failed.
        error: TurnError,
    },
    /// A later server goes on with a turn. Text of an unfinished message before it is void.
    TurnResumed {
        /// The number of times that the turn was taken up, from 1.
        resumption: u32,
        /// The number of the attempt that follows.
        attempt: u32,
    },
    /// Older parts of the history are left out of the turn's requests.
    HistoryCompacted(Compaction),
    /// A request to a model was counted.
    UsageReported {
        /// The usage of that request.
        usage: Usage,
        /// The name of the model.
        model: String,
    },
    /// A turn ended without an error.
    SessionIdle(Box<TurnEnded>),
    /// A turn ended with an error.
    SessionError {
        /// The error.
        error: TurnError,
        /// The calls of the turn that hadn't ended.
        unresolved: Vec<Unresolved>,
    },
    /// A task ended whose agent is to be notified. The event is one of the task.
    FollowUpScheduled,
    /// A follow-up was claimed for delivery. The event is one of its task.
    FollowUpStarted {
        /// The number of the attempt, from 1.
        attempt: u32,
    },
    /// An attempt to deliver a follow-up ended, or the follow-up was suppressed. The event is one of
    /// its task.
    FollowUpFinished {
        /// The number of the attempt, from 1, or 0 if there was none.
        attempt: u32,
        /// The new state of the follow-up.
        state: FollowUpState,
        /// The error of a failed attempt, or the reason of a suppression.
        error: Option<DeliveryError>,
    },
}

/// The end of a turn without an error.
#[derive(Debug, Clone, PartialEq)]
pub struct TurnEnded {
    /// The model's last message, truncated to the limit of an event.
    pub final_text: String,
    /// The size of the rest of that message, in bytes.
    pub omitted_bytes: usize,
    /// The reason of the end.
    pub stop_reason: StopReason,
    /// The usage of models by the turn.
    pub usage: Usage,
    /// The calls of the turn that continue in the background.
    pub running: Vec<CallId>,
    /// The number of messages of the history that the last request left out.
    pub history_omitted: u64,
}

/// A call that hadn't ended when its turn did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unresolved {
    /// The call.
    pub call_id: CallId,
    /// The name of its tool.
    pub tool: String,
    /// `true` if it is in the background.
    pub is_task: bool,
}

impl Payload {
    /// Returns the kind of this payload.
    pub fn kind(&self) -> PayloadKind {
        match self {
            Self::ToolCallAccepted(_) => PayloadKind::ToolCallAccepted,
            Self::ToolCallStarted { .. } => PayloadKind::ToolCallStarted,
            Self::SessionUpdated { .. } => PayloadKind::SessionUpdated,
            Self::ToolOutput(_) => PayloadKind::ToolOutput,
            Self::ToolProgress(_) => PayloadKind::ToolProgress,
            Self::ToolOutputBlocked { .. } => PayloadKind::ToolOutputBlocked,
            Self::ToolCallParked { .. } => PayloadKind::ToolCallParked,
            Self::ToolCallCancelling { .. } => PayloadKind::ToolCallCancelling,
            Self::ToolCallFinished(_) => PayloadKind::ToolCallFinished,
            Self::SessionShutdown { .. } => PayloadKind::SessionShutdown,
            Self::TurnStarted { .. } => PayloadKind::TurnStarted,
            Self::AssistantDelta(_) => PayloadKind::AssistantDelta,
            Self::ReasoningDelta(_) => PayloadKind::ReasoningDelta,
            Self::AssistantMessage(_) => PayloadKind::AssistantMessage,
            Self::TurnRetrying { .. } => PayloadKind::TurnRetrying,
            Self::TurnResumed { .. } => PayloadKind::TurnResumed,
            Self::HistoryCompacted(_) => PayloadKind::HistoryCompacted,
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
    /// The position in the log: 1, 2, 3… without a gap.
    pub sequence: u64,
    /// The time of the event.
    pub create_time: Timestamp,
    /// The agent's turn that it belongs to, if any.
    pub turn_id: Option<TurnId>,
    /// The call that it belongs to, if any.
    pub call_id: Option<CallId>,
    /// The number of the run of that call, from 1.
    pub attempt: u32,
    /// The payload.
    pub payload: Payload,
}

/// An event of the log that cannot be decoded.
#[derive(Debug, thiserror::Error)]
#[error("event {sequence} of the log cannot be read: {cause}")]
pub struct EventCorrupt {
    /// The sequence of the event.
    pub sequence: u64,
    /// The error of the decoder.
    pub cause: String,
}

/// The part of a stored acceptance of a call from which the call can be run again.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StoredAcceptance {
    /// The arguments, or `None` if they are too large for an event.
    pub arguments: Option<serde_json::Map<String, serde_json::Value>>,
    /// The size of the standard input of the request, in bytes.
    pub stdin_bytes: u64,
}

/// The encoding of events, in which they are stored and sent.
///
/// The layer of the wire format implements it. So a stored event is sent as it is, and no lower
/// layer knows the wire format.
pub trait EventCodec: Send + Sync + 'static {
    /// Encodes `event` of the log whose epoch is `stream_epoch`.
    fn encode(&self, event: &Event, stream_epoch: &str) -> Bytes;

    /// Returns an encoded event with another epoch.
    fn with_epoch(&self, bytes: &Bytes, stream_epoch: &str) -> Bytes;

    /// Decodes the output of a stored event, or returns `None` if the event isn't output. The data
    /// shares the memory of `bytes`.
    fn decode_output(
        &self,
        sequence: u64,
        bytes: &Bytes,
    ) -> Result<Option<ToolOutput>, EventCorrupt>;

    /// Decodes the call and the reason of a stored event that parks a call, or returns `None` for
    /// other events.
    fn decode_parked(
        &self,
        sequence: u64,
        bytes: &[u8],
    ) -> Result<Option<(CallId, ParkReason)>, EventCorrupt>;

    /// Decodes the acceptance of a call, or returns `None` for other events.
    fn decode_accepted(
        &self,
        sequence: u64,
        bytes: &[u8],
    ) -> Result<Option<StoredAcceptance>, EventCorrupt>;

    /// Decodes the turn of a stored event, or returns `None` if it belongs to no turn.
    fn decode_turn(&self, sequence: u64, bytes: &[u8]) -> Result<Option<TurnId>, EventCorrupt>;
}
