//! One call of a tool, from its acceptance to its end.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{CallId, Labels, Outcome, SessionId, Tenant, Timestamp, ToolKind, Turn, TurnId};

/// Where a call is. The first terminal state wins, and there is exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Accepted, waiting for its turn to run.
    Pending,
    /// Running.
    Running,
    /// Waiting for somebody's answer.
    InputRequired,
    /// Asked to stop, not stopped yet.
    Cancelling,
    /// Ended well.
    Succeeded,
    /// Ended badly by itself.
    Failed,
    /// Ended by its hard limit or its idle limit.
    TimedOut,
    /// Ended because somebody asked.
    Cancelled,
    /// Gone without a result.
    Lost,
}

impl State {
    /// Nothing follows.
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Pending | Self::Running | Self::InputRequired | Self::Cancelling => false,
            Self::Succeeded | Self::Failed | Self::TimedOut | Self::Cancelled | Self::Lost => true,
        }
    }
}

/// What happens to a call in the foreground when its last caller goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDisconnect {
    /// It goes to the background.
    #[default]
    Park,
    /// It is cancelled.
    Cancel,
}

/// When the end of a task must be told to its agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FollowUpPolicy {
    /// Never.
    #[default]
    None,
    /// However it ends.
    OnFinish,
    /// When it doesn't end well.
    OnFailure,
}

/// Why a call went to the background.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParkReason {
    /// Its budget ran out.
    Budget,
    /// Its caller's deadline came near.
    Deadline,
    /// Its last caller went away.
    Disconnected,
    /// It was started there.
    BackgroundStart,
}

/// The limits and wishes that came with a call.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CallPolicy {
    /// How long it may hold its caller; none: for ever.
    #[serde(default)]
    pub call_budget: Option<Duration>,
    /// How long it may run; counted from the start of the run, parked or not.
    #[serde(default)]
    pub execution_timeout: Option<Duration>,
    /// How long it may stay silent.
    #[serde(default)]
    pub idle_timeout: Option<Duration>,
    /// What happens when its last caller goes away.
    #[serde(default)]
    pub on_disconnect: OnDisconnect,
    /// When its end must be told.
    #[serde(default)]
    pub follow_up: FollowUpPolicy,
    /// It outlives its session's closing.
    #[serde(default)]
    pub detached: bool,
    /// How many bytes of its output are kept.
    pub max_output_bytes: u64,
    /// It must not run beside another call of the same tool in its session.
    #[serde(default)]
    pub exclusive: bool,
    /// It must not run before the background tasks that its session had when it came.
    #[serde(default)]
    pub queued: bool,
}

/// How far a call says it is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// What is done, in units of the tool's own.
    pub done: f64,
    /// What there is to do, if known.
    #[serde(default)]
    pub total: Option<f64>,
    /// What it is doing.
    #[serde(default)]
    pub message: String,
}

/// What the models behind a call have used.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens read.
    pub input_tokens: u64,
    /// Those of them that came from a cache.
    pub cached_input_tokens: u64,
    /// Tokens written.
    pub output_tokens: u64,
    /// Requests made.
    pub requests: u64,
    /// What it cost, in US dollars.
    pub cost_usd: f64,
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, more: Self) {
        self.input_tokens = self.input_tokens.saturating_add(more.input_tokens);
        self.cached_input_tokens =
            self.cached_input_tokens.saturating_add(more.cached_input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(more.output_tokens);
        self.requests = self.requests.saturating_add(more.requests);
        self.cost_usd += more.cost_usd;
    }
}

/// A request to stop a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancellation {
    /// When it came.
    pub request_time: Timestamp,
    /// Who asked.
    pub requested_by: String,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// When the work had stopped.
    #[serde(default)]
    pub acknowledged_time: Option<Timestamp>,
    /// Nobody asked: its session was full, and it had to make room.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub evicted: bool,
    /// Processes of the call that could not be killed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub survivors: Vec<Survivor>,
}

/// A process of a call that is still there although it was killed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survivor {
    /// Its process id.
    pub pid: u32,
    /// The name of its program.
    pub command: String,
}

/// What made the server stop a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopCause {
    /// Somebody asked.
    Cancel,
    /// It ran longer than its hard limit.
    ExecutionTimeout,
    /// It was silent for longer than its idle limit.
    IdleTimeout,
}

/// A run that is being stopped. The first cause wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopping {
    /// Why.
    pub cause: StopCause,
    /// Since when.
    pub time: Timestamp,
}

/// One call of a tool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// Its id.
    pub id: CallId,
    /// The session whose log tells of it.
    pub session_id: SessionId,
    /// Who owns it.
    pub tenant: Tenant,
    /// The agent's turn that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn_id: Option<TurnId>,
    /// The tool.
    pub tool: String,
    /// What does the work.
    pub kind: ToolKind,
    /// What it is for, in a person's words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Where it is.
    pub state: State,
    /// Why it is there, where that isn't plain.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// When it was accepted.
    pub create_time: Timestamp,
    /// When its run began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Timestamp>,
    /// When it went to the background: from then on it is a task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub park_time: Option<Timestamp>,
    /// Why it went there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub park_reason: Option<ParkReason>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<Timestamp>,
    /// When anything here last changed.
    pub update_time: Timestamp,
    /// When it may be forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire_time: Option<Timestamp>,
    /// Which run this is, from 1.
    pub attempt: u32,
    /// The task that started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<CallId>,
    /// How far it says it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Of a turn of an agent: what only turns have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<Box<Turn>>,
    /// What models have used for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// The request to stop it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancellation: Option<Cancellation>,
    /// Its run is being stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopping: Option<Stopping>,
    /// The caller's own marks.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// Limits and wishes.
    pub policy: CallPolicy,
    /// The sequence of the event that tells of its acceptance: its own events follow.
    pub start_sequence: u64,
    /// When somebody said that the result has arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledge_time: Option<Timestamp>,
    /// Counts its changes, from 1.
    pub revision: u64,
}

impl Call {
    /// It is in the background, so it can be waited for and listed.
    pub fn is_task(&self) -> bool {
        self.park_time.is_some()
    }

    /// How long it has run: from the start of the run to its end, or to `now`. Nothing if it
    /// never ran.
    pub fn elapsed(&self, now: Timestamp) -> Duration {
        let end = self.end_time.unwrap_or(now);
        self.start_time.map(|start| end.since(start)).unwrap_or_default()
    }
}
