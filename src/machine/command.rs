//! What a session can be told.

use std::time::Duration;

use serde_json::{Map, Value};

use super::follow_up::Step;
use crate::model::{
    BusyPolicy, Call, CallId, CallPolicy, DeliveryError, FollowUp, Labels, Lease, ParkReason,
    Progress, StopCause, Survivor, Timestamp, ToolKind, ToolOutput, ToolResult, TurnId, TurnReport,
};

/// What a new background task does about those that its session already has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Concurrency {
    /// It runs beside them.
    #[default]
    Allow,
    /// It is refused.
    Reject,
    /// It waits for their end.
    Queue,
    /// They are cancelled; it runs once they have ended.
    Replace,
}

/// A call to accept.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    /// Its id.
    pub call_id: CallId,
    /// The tool.
    pub tool: String,
    /// What does the work.
    pub kind: ToolKind,
    /// What it is for.
    pub description: String,
    /// Its arguments.
    pub arguments: Map<String, Value>,
    /// How large they are as JSON, in bytes.
    pub arguments_bytes: u64,
    /// Limits and wishes.
    pub policy: CallPolicy,
    /// The caller's own marks.
    pub labels: Labels,
    /// The agent's turn that makes it, or that it is.
    pub turn_id: Option<TurnId>,
    /// It is a turn.
    pub turn: Option<StartTurn>,
    /// The task that makes it.
    pub parent: Option<CallId>,
    /// It is to be in the background from the start.
    pub background: bool,
    /// What to do about tasks that are there already.
    pub concurrency: Concurrency,
    /// It looks after tasks that are there: the session's cap doesn't hold for it.
    pub is_control: bool,
    /// A place among the running calls of this server is held for it.
    pub has_slot: bool,
}

/// A turn to accept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StartTurn {
    /// The model to ask.
    pub model: String,
    /// What happens if the session runs a turn already.
    pub busy_policy: BusyPolicy,
    /// It is to deliver these follow-ups, as they are stored. None: it is a caller's.
    pub follow_ups: Option<Vec<FollowUp>>,
}

/// What is to become of a follow-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FollowUpOrder {
    /// Somebody takes it.
    Lease {
        /// Who.
        lease: Lease,
        /// For how long.
        until: Timestamp,
    },
    /// Whoever has it needs it for longer.
    Renew {
        /// The request that took it.
        request_id: String,
        /// For how long.
        until: Timestamp,
    },
    /// Whoever has it says how the delivery went.
    Acknowledge {
        /// What the holder shows.
        token: String,
        /// How it went.
        outcome: DeliveryOutcome,
    },
    /// Its lease has run out.
    LeaseExpired,
    /// It is brought back.
    Retry,
    /// Nobody needs to hear of it.
    Suppress {
        /// Why.
        reason: String,
    },
}

/// How a delivery went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// The agent has heard.
    Delivered,
    /// It failed.
    Failed(DeliveryError),
    /// It wasn't tried.
    Released,
}

impl DeliveryOutcome {
    pub(super) fn is_delivered(&self) -> bool {
        *self == Self::Delivered
    }

    pub(super) fn step(self, record: FollowUp) -> Step {
        match self {
            Self::Delivered => Step::Deliver(record),
            Self::Failed(error) => Step::Fail(record, error),
            Self::Released => Step::Release(record),
        }
    }
}

/// A call to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cancel {
    /// Which.
    pub call_id: CallId,
    /// Who asks.
    pub requested_by: String,
    /// Why.
    pub reason: String,
    /// Kill at once.
    pub force: bool,
    /// From TERM to KILL.
    pub grace: Duration,
}

/// A session to close.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// Who asks.
    pub requested_by: String,
    /// Why.
    pub reason: String,
}

/// The end of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Finish {
    /// Whose.
    pub call_id: CallId,
    /// What it gave. Its times are filled in by the machine.
    pub result: ToolResult,
    /// A stop had been sent before it was seen to have ended.
    pub stopped: bool,
    /// Processes that could not be killed.
    pub survivors: Vec<Survivor>,
}

/// What a session can be told.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// A caller starts a call.
    Start(Box<Start>),
    /// A place to run is held for a pending call.
    Begin {
        /// The call.
        call_id: CallId,
    },
    /// A process wrote.
    Output {
        /// Its call.
        call_id: CallId,
        /// What, and where it belongs.
        output: ToolOutput,
    },
    /// A process wrote what isn't kept.
    Alive {
        /// Its call.
        call_id: CallId,
    },
    /// A call says how far it is.
    Progress {
        /// The call.
        call_id: CallId,
        /// How far.
        progress: Progress,
    },
    /// A turn reports.
    Turn {
        /// The call that it is.
        call_id: CallId,
        /// What.
        report: TurnReport,
    },
    /// A run ended.
    Finish(Box<Finish>),
    /// The time for an answer is up.
    Park {
        /// The call.
        call_id: CallId,
        /// Why.
        reason: ParkReason,
    },
    /// The last caller of a foreground call went away.
    Disconnect {
        /// The call.
        call_id: CallId,
    },
    /// A limit of a run is reached.
    Timeout {
        /// The call.
        call_id: CallId,
        /// Which limit.
        cause: StopCause,
    },
    /// Somebody stops a call.
    Cancel(Cancel),
    /// The work of a call is gone: nothing runs, nothing will report.
    Lose {
        /// The call.
        call_id: CallId,
        /// When something was last known of it, or of its session.
        last_known: Timestamp,
    },
    /// Somebody has the result of a finished task.
    Acknowledge {
        /// The task as it is stored.
        call: Box<Call>,
        /// Its follow-up as it is stored, if it has one.
        follow_up: Option<Box<FollowUp>>,
    },
    /// Something is to become of a follow-up.
    FollowUp {
        /// The follow-up as it is stored.
        record: Box<FollowUp>,
        /// What.
        order: FollowUpOrder,
    },
    /// A turn takes follow-ups that it hasn't been told of.
    TakeFollowUps {
        /// The call that the turn is.
        call_id: CallId,
        /// The follow-ups as they are stored.
        records: Vec<FollowUp>,
    },
    /// A finished task is to be forgotten.
    Delete {
        /// The task.
        call_id: CallId,
    },
    /// The session is to be closed.
    Close(Close),
    /// The session is to be stored as it is: it is new.
    Create,
}

impl Command {
    /// The call that it stops.
    pub fn stops(&self) -> Option<CallId> {
        match self {
            Self::Cancel(cancel) => Some(cancel.call_id),
            Self::Timeout { call_id, .. } => Some(*call_id),
            _ => None,
        }
    }
}
