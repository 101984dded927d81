//! The commands that a session decides.

use std::time::Duration;

use serde_json::{Map, Value};

use super::follow_up::DeliveryStep;
use super::loss::Loss;
use crate::model::{
    BusyPolicy, Call, CallId, CallPolicy, CancelCause, DeliveryError, FollowUp, Labels, Lease,
    ParkReason, Progress, SessionUpdate, StopCause, Survivor, Timestamp, ToolKind, ToolOutput,
    ToolResult, TurnId, TurnLoss, TurnReport, TurnSetup, WorkHandle,
};

/// The behavior of a new background task towards those that its session has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Concurrency {
    /// The task runs beside them.
    #[default]
    Allow,
    /// The task is refused.
    Reject,
    /// The task waits for their end.
    Queue,
    /// They are cancelled, and the task runs once they have ended.
    Replace,
}

/// A call to accept.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    /// The id.
    pub call_id: CallId,
    /// The name of the tool.
    pub tool: String,
    /// The kind of the tool.
    pub kind: ToolKind,
    /// The caller's description of the call.
    pub description: String,
    /// The arguments.
    pub arguments: Map<String, Value>,
    /// The size of the arguments as JSON, in bytes.
    pub arguments_bytes: u64,
    /// The size of the standard input of the request, in bytes.
    pub stdin_bytes: u64,
    /// The limits and options.
    pub policy: CallPolicy,
    /// The caller's labels.
    pub labels: Labels,
    /// The agent's turn that starts the call, or that it is.
    pub turn_id: Option<TurnId>,
    /// The turn that the call is, or `None` for a call of a tool.
    pub turn: Option<StartTurn>,
    /// The task that starts the call.
    pub parent: Option<CallId>,
    /// `true` if the call is in the background from the start.
    pub background: bool,
    /// The behavior towards tasks that the session has.
    pub concurrency: Concurrency,
    /// `true` if the call manages other tasks. Then the session's limit of live calls doesn't apply.
    pub is_control: bool,
    /// `true` if the call has a slot among the running calls of the server.
    pub has_slot: bool,
}

impl Start {
    /// Creates a foreground call without arguments, limits or a slot.
    pub fn new(call_id: CallId, tool: impl Into<String>, kind: ToolKind) -> Self {
        Self {
            call_id,
            tool: tool.into(),
            kind,
            description: String::new(),
            arguments: Map::new(),
            arguments_bytes: 0,
            stdin_bytes: 0,
            policy: CallPolicy::default(),
            labels: Labels::new(),
            turn_id: None,
            turn: None,
            parent: None,
            background: false,
            concurrency: Concurrency::Allow,
            is_control: false,
            has_slot: false,
        }
    }
}

/// A turn to accept.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StartTurn {
    /// The name of the model.
    pub model: String,
    /// The behavior if the session runs a turn already.
    pub busy_policy: BusyPolicy,
    /// The follow-ups to deliver, as they are stored, or `None` for a turn of a caller.
    pub follow_ups: Option<Vec<FollowUp>>,
    /// The settings with which a later server goes on with the turn, or `None` if none can.
    pub setup: Option<Box<TurnSetup>>,
}

/// A command to a follow-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FollowUpOrder {
    /// Leases it to a consumer.
    Lease {
        /// The claim of the consumer.
        lease: Lease,
        /// The time at which the lease expires.
        until: Timestamp,
    },
    /// Extends the lease.
    Renew {
        /// The id of the request that made the lease.
        request_id: String,
        /// The new time at which the lease expires.
        until: Timestamp,
    },
    /// Ends the lease with the outcome of the delivery.
    Acknowledge {
        /// The token of the lease.
        token: String,
        /// The outcome.
        outcome: DeliveryOutcome,
    },
    /// Ends a lease that has expired.
    LeaseExpired,
    /// Makes a dead letter pending again.
    Retry,
    /// Suppresses it.
    Suppress {
        /// The reason.
        reason: String,
    },
}

/// The outcome of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// The agent was notified.
    Delivered,
    /// The delivery failed.
    Failed(DeliveryError),
    /// The follow-up was given back without an attempt.
    Released,
}

impl DeliveryOutcome {
    pub(super) fn is_delivered(&self) -> bool {
        *self == Self::Delivered
    }

    pub(super) fn step(self, record: FollowUp) -> DeliveryStep {
        match self {
            Self::Delivered => DeliveryStep::Deliver(record),
            Self::Failed(error) => DeliveryStep::Fail(record, error),
            Self::Released => DeliveryStep::Release(record),
        }
    }
}

/// A call to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cancel {
    /// The call.
    pub call_id: CallId,
    /// The name of the requester.
    pub requested_by: String,
    /// The reason.
    pub reason: String,
    /// The cause.
    pub cause: CancelCause,
    /// `true` to kill it at once.
    pub force: bool,
    /// The time between TERM and KILL.
    pub grace: Duration,
}

impl Cancel {
    /// Creates a request by a caller to stop a call with a grace period.
    pub fn new(
        call_id: CallId,
        requested_by: impl Into<String>,
        reason: impl Into<String>,
        grace: Duration,
    ) -> Self {
        Self {
            call_id,
            requested_by: requested_by.into(),
            reason: reason.into(),
            cause: CancelCause::Request,
            force: false,
            grace,
        }
    }
}

/// New settings of a session.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    /// The name of the requester.
    pub requested_by: String,
    /// The settings.
    pub settings: SessionUpdate,
}

/// A session to close.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// The name of the requester.
    pub requested_by: String,
    /// The reason.
    pub reason: String,
}

/// The end of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Finish {
    /// The call.
    pub call_id: CallId,
    /// The result. The machine sets its times.
    pub result: ToolResult,
    /// `true` if a stop was sent before the end was noticed.
    pub stopped: bool,
    /// Processes that could not be killed.
    pub survivors: Vec<Survivor>,
}

/// A command to a session.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Starts a call.
    Start(Box<Start>),
    /// Begins the run of a pending call, which has acquired a slot.
    Begin {
        /// The call.
        call_id: CallId,
    },
    /// Records the handle under which a later server finds the work of a call again.
    KeepHandle {
        /// The call.
        call_id: CallId,
        /// The handle.
        handle: WorkHandle,
    },
    /// Records output of a process.
    Output {
        /// The call.
        call_id: CallId,
        /// The output and its position.
        output: ToolOutput,
    },
    /// Restarts the idle timeout, because a process wrote output that isn't kept.
    Alive {
        /// The call.
        call_id: CallId,
    },
    /// Records that a process was blocked while no server was there, because its output could not be
    /// kept.
    BlockOutput {
        /// The call.
        call_id: CallId,
        /// The error of the system.
        cause: String,
    },
    /// Records the progress of a call.
    Progress {
        /// The call.
        call_id: CallId,
        /// The progress.
        progress: Progress,
    },
    /// Records a report of a turn.
    Turn {
        /// The call of the turn.
        call_id: CallId,
        /// The report.
        report: TurnReport,
    },
    /// Ends a call whose run has ended.
    Finish(Box<Finish>),
    /// Parks a foreground call.
    Park {
        /// The call.
        call_id: CallId,
        /// The reason.
        reason: ParkReason,
    },
    /// Applies `on_disconnect` to a foreground call whose last caller went away or has a deadline that
    /// is near.
    Disconnect {
        /// The call.
        call_id: CallId,
        /// The reason for parking the call, if it is parked: disconnected or deadline.
        reason: ParkReason,
    },
    /// Stops a run that has reached a timeout.
    Timeout {
        /// The call.
        call_id: CallId,
        /// The timeout.
        cause: StopCause,
    },
    /// Stops a call on request.
    Cancel(Cancel),
    /// Records the time until which a call ran, because the server stops.
    Interrupt {
        /// The call.
        call_id: CallId,
        /// The reason why no later server can go on with a turn, or `None` if one can.
        loss: Option<TurnLoss>,
    },
    /// Takes up a call whose run has outlived the server that started it.
    Adopt {
        /// The call.
        call_id: CallId,
    },
    /// Goes on with a turn, or with the call of a turn for an agent, whose server has gone.
    Resume {
        /// The call.
        call_id: CallId,
    },
    /// Makes a call pending again whose work is lost, or was never begun.
    Restart {
        /// The call.
        call_id: CallId,
    },
    /// Ends a call whose work is lost, so that no report of its end will come.
    Lose {
        /// The call.
        call_id: CallId,
        /// The loss.
        loss: Loss,
    },
    /// Acknowledges the receipt of a task's result.
    Acknowledge {
        /// The task as it is stored.
        call: Box<Call>,
        /// The follow-up of the task as it is stored, if it has one.
        follow_up: Option<Box<FollowUp>>,
    },
    /// Changes a follow-up.
    FollowUp {
        /// The follow-up as it is stored.
        record: Box<FollowUp>,
        /// The command to it.
        order: FollowUpOrder,
    },
    /// Claims follow-ups for a running turn.
    TakeFollowUps {
        /// The call of the turn.
        call_id: CallId,
        /// The follow-ups as they are stored.
        records: Vec<FollowUp>,
    },
    /// Removes a finished task.
    Delete {
        /// The task.
        call_id: CallId,
    },
    /// Changes the settings of the session.
    Update(Update),
    /// Closes the session.
    Close(Close),
    /// Stores a new session.
    Create,
}

impl Command {
    /// Returns the call that the command stops, or `None` if it stops none.
    pub fn stops(&self) -> Option<CallId> {
        match self {
            Self::Cancel(cancel) => Some(cancel.call_id),
            Self::Timeout { call_id, .. } => Some(*call_id),
            _ => None,
        }
    }
}
