//! One call of a tool, from its acceptance to its end.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    CallId, CancelCause, Labels, Origin, Outcome, RunOwner, Session, SessionId, Tenant, Timestamp,
    ToolKind, Turn, TurnId, WorkHandle, enum_table,
};

enum_table! {
    /// The state of a call. The first terminal state is final.
    pub enum State {
        /// Accepted and waiting to run.
        Pending => (1, "pending"),
        /// Running.
        Running => (2, "running"),
        /// Asked to stop, and not stopped yet.
        Cancelling => (4, "cancelling"),
        /// Ended without an error.
        Succeeded => (5, "succeeded"),
        /// Ended by itself with an error.
        Failed => (6, "failed"),
        /// Stopped by its execution timeout or its idle timeout.
        TimedOut => (7, "timed_out"),
        /// Stopped on request.
        Cancelled => (8, "cancelled"),
        /// Ended without a result because its server stopped.
        Lost => (9, "lost"),
    }
}

impl State {
    /// Returns `true` if no other state follows this one.
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Pending | Self::Running | Self::Cancelling => false,
            Self::Succeeded | Self::Failed | Self::TimedOut | Self::Cancelled | Self::Lost => true,
        }
    }
}

enum_table! {
    /// The fate of a foreground call whose last caller disconnects.
    #[derive(Default)]
    pub enum OnDisconnect {
        /// The call is parked.
        #[default]
        Park => "park",
        /// The call is cancelled.
        Cancel => "cancel",
    }
}

enum_table! {
    /// The ends of a background task that schedule a follow-up.
    #[derive(Default)]
    pub enum FollowUpPolicy {
        /// No end.
        #[default]
        None => "none",
        /// Every end.
        OnFinish => "on_finish",
        /// An end as failed, timed out or lost.
        OnFailure => "on_failure",
    }
}

enum_table! {
    /// The reason why a call was parked.
    pub enum ParkReason {
        /// The budget was used up.
        Budget => "budget",
        /// The deadline of its caller was near.
        Deadline => "deadline",
        /// The last caller disconnected.
        Disconnected => "disconnected",
        /// The call was started in the background.
        BackgroundStart => "background_start",
        /// The server stopped, and the work goes on.
        ServerStopping => "server_stopping",
    }
}

/// The limits and options that were requested with a call.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CallPolicy {
    /// The time after which the call is parked, or `None` if it is never parked by time.
    #[serde(default)]
    pub call_budget: Option<Duration>,
    /// The longest time that the call may run, parked or not, or `None` if there is no limit.
    #[serde(default)]
    pub execution_timeout: Option<Duration>,
    /// The longest time that the call may run without output, or `None` if there is no limit.
    #[serde(default)]
    pub idle_timeout: Option<Duration>,
    /// The fate of the call when its last caller disconnects.
    #[serde(default)]
    pub on_disconnect: OnDisconnect,
    /// The ends that schedule a follow-up.
    #[serde(default)]
    pub follow_up: FollowUpPolicy,
    /// `true` if the call continues when its session is closed.
    #[serde(default)]
    pub detached: bool,
    /// The size of the output that is kept, in bytes.
    pub max_output_bytes: u64,
    /// `true` if the call must not run beside another call of the same tool in its session.
    #[serde(default)]
    pub exclusive: bool,
    /// `true` if the call runs after the background tasks that its session had when it arrived.
    #[serde(default)]
    pub queued: bool,
}

/// The progress that a call reports.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// The work done so far, in units of the tool.
    pub done: f64,
    /// The whole work in the same units, or `None` if it isn't known.
    #[serde(default)]
    pub total: Option<f64>,
    /// A description of the current step.
    #[serde(default)]
    pub message: String,
}

/// The usage of models by a call, a turn or a session.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens read.
    pub input_tokens: u64,
    /// The part of the tokens read that came from a cache.
    pub cached_input_tokens: u64,
    /// Tokens written.
    pub output_tokens: u64,
    /// Requests made.
    pub requests: u64,
    /// The cost in US dollars.
    pub cost_usd: f64,
}

impl Usage {
    /// Returns the tokens read and written.
    pub fn tokens(&self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }
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
    /// The time of the request.
    pub request_time: Timestamp,
    /// The name of the requester.
    pub requested_by: String,
    /// The reason that was given.
    #[serde(default)]
    pub reason: String,
    /// The time at which the work had stopped, or `None` if it hasn't.
    #[serde(default)]
    pub acknowledged_time: Option<Timestamp>,
    /// The cause.
    #[serde(default)]
    pub cause: CancelCause,
    /// Processes of the call that could not be killed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub survivors: Vec<Survivor>,
}

/// A process of a call that still exists although it was killed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survivor {
    /// The process id.
    pub pid: u32,
    /// The name of the program.
    pub command: String,
}

enum_table! {
    /// The cause for which the server stops a run.
    pub enum StopCause {
        /// A request to cancel the call.
        Cancel => "cancel",
        /// The execution timeout.
        ExecutionTimeout => "execution_timeout",
        /// The idle timeout.
        IdleTimeout => "idle_timeout",
    }
}

/// The stop of a run that is under way. The first cause is final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopping {
    /// The cause.
    pub cause: StopCause,
    /// The time at which the stop began.
    pub time: Timestamp,
}

/// One call of a tool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// The id.
    pub id: CallId,
    /// The session whose log has the events of the call.
    pub session_id: SessionId,
    /// The owner.
    pub tenant: Tenant,
    /// The agent's turn that made the call or that it is, or `None` outside of turns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn_id: Option<TurnId>,
    /// The name of the tool.
    pub tool: String,
    /// The kind of the tool.
    pub kind: ToolKind,
    /// The caller's description of the call.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The state.
    pub state: State,
    /// The reason for the state, if the state alone doesn't say it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The time at which the call was accepted.
    pub create_time: Timestamp,
    /// The time at which its run began, or `None` if it hasn't run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Timestamp>,
    /// The time at which the call was parked, or `None` if it is in the foreground. From then on
    /// it is a background task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub park_time: Option<Timestamp>,
    /// The reason why it was parked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub park_reason: Option<ParkReason>,
    /// The time at which the call ended, or `None` if it is live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<Timestamp>,
    /// The time of the last change of this record.
    pub update_time: Timestamp,
    /// The time from which the record may be removed, or `None` if the call is live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire_time: Option<Timestamp>,
    /// The number of the current run, from 1.
    pub attempt: u32,
    /// The owner of the run, or `None` if it ends with its server or is not under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_owner: Option<RunOwner>,
    /// The handle under which a later server finds the work again, or `None` if it cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work_handle: Option<WorkHandle>,
    /// The task that started the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<CallId>,
    /// The progress that was last reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// The outcome, or `None` if the call is live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// The turn that this call is, or `None` for a call of a tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<Box<Turn>>,
    /// The usage of models, or `None` if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// The request to stop the call, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancellation: Option<Cancellation>,
    /// The stop of the run, if one is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopping: Option<Stopping>,
    /// The caller's labels.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// The limits and options.
    pub policy: CallPolicy,
    /// The sequence of the event of the call's acceptance. The call's other events follow it.
    #[serde(rename = "start_sequence")]
    pub accept_sequence: u64,
    /// The time at which the receipt of the result was acknowledged, or `None` if it wasn't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledge_time: Option<Timestamp>,
    /// The number of changes of this record, from 1.
    pub revision: u64,
}

impl Call {
    /// Creates a pending foreground call of `session` that is accepted at `now`.
    ///
    /// `accept_sequence` is the largest possible sequence until the event of the acceptance has one.
    pub fn new(
        id: CallId,
        session: &Session,
        tool: impl Into<String>,
        kind: ToolKind,
        now: Timestamp,
    ) -> Self {
        Self {
            id,
            session_id: session.id,
            tenant: session.tenant.clone(),
            turn_id: None,
            tool: tool.into(),
            kind,
            description: String::new(),
            state: State::Pending,
            reason: String::new(),
            create_time: now,
            start_time: None,
            park_time: None,
            park_reason: None,
            end_time: None,
            update_time: now,
            expire_time: None,
            attempt: 1,
            run_owner: None,
            work_handle: None,
            parent: None,
            progress: None,
            outcome: None,
            turn: None,
            usage: None,
            cancellation: None,
            stopping: None,
            labels: Labels::new(),
            policy: CallPolicy::default(),
            accept_sequence: u64::MAX,
            acknowledge_time: None,
            revision: 1,
        }
    }

    /// Forgets with what a later server would go on with the run.
    pub fn forget_run(&mut self) {
        self.run_owner = None;
        self.work_handle = None;
    }

    /// Returns the author of the content of the call's result.
    pub fn result_author(&self) -> Origin {
        match self.turn {
            Some(_) => Origin::Model,
            None => Origin::Tool,
        }
    }

    /// Returns `true` if the call is a background task, which can be waited for and listed.
    pub fn is_task(&self) -> bool {
        self.park_time.is_some()
    }

    /// Returns the time from the start of the run to its end, or to `now` if it runs. The time is
    /// zero if the call never ran.
    pub fn elapsed(&self, now: Timestamp) -> Duration {
        let end = self.end_time.unwrap_or(now);
        self.start_time.map(|start| end.since(start)).unwrap_or_default()
    }
}
