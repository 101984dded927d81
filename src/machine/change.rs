//! The parts of a decision: changes, effects and a reply.

use std::time::Duration;

use serde_json::{Map, Value};

use super::Update;
use crate::model::{
    Call, CallId, Cancellation, FollowUp, FollowUpState, Outcome, ParkReason, Payload, Progress,
    SessionId, State, StopCause, Survivor, Timestamp, ToolOutput, TurnLoss, TurnReport, WorkHandle,
};

/// A fact that a decision adds to the session. Most become an event; all change the projection.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A call was accepted.
    Accepted {
        /// The call.
        call: Box<Call>,
        /// The arguments, or `None` if they are too large for an event.
        arguments: Option<Map<String, Value>>,
        /// The size of the arguments, in bytes of JSON.
        arguments_bytes: u64,
        /// The size of the standard input of the request, in bytes.
        stdin_bytes: u64,
    },
    /// The run of a pending call began.
    Began(CallId),
    /// A call is to be run, perhaps once more.
    Restarted(CallId),
    /// A process wrote output.
    Output(CallId, ToolOutput),
    /// The output of a process could not be kept while no server was there, for this reason.
    OutputBlocked(CallId, String),
    /// A call reported its progress.
    Progressed(CallId, Progress),
    /// A later server finds the work of a call again under this handle.
    HandleKept(CallId, WorkHandle),
    /// A turn reported.
    Turn(CallId, TurnReport),
    /// A call was parked.
    Parked(CallId, ParkReason),
    /// A call was asked to stop.
    Cancelling {
        /// The call.
        call_id: CallId,
        /// The request.
        cancellation: Cancellation,
        /// `true` if it is killed at once.
        force: bool,
    },
    /// A timeout stops a run.
    Stopping(CallId, StopCause),
    /// A call ran until now, and the server stops. No later one can go on with a turn that has a loss.
    Interrupted(CallId, Option<TurnLoss>),
    /// A later server goes on with a call.
    Resumed(CallId),
    /// A call ended.
    Ended {
        /// The call.
        call_id: CallId,
        /// The terminal state.
        state: State,
        /// The reason, if the state alone doesn't say it.
        reason: String,
        /// The outcome.
        outcome: Outcome,
        /// Processes that could not be killed.
        survivors: Vec<Survivor>,
        /// The time at which the work ended.
        end_time: Timestamp,
    },
    /// The receipt of a task's result was acknowledged.
    Acknowledged(Box<Call>),
    /// A follow-up has changed.
    FollowUp {
        /// The follow-up.
        record: Box<FollowUp>,
        /// The event of the change, or `None` if the change has none.
        event: Option<Payload>,
    },
    /// A turn claimed a follow-up for delivery.
    FollowUpClaimed {
        /// The call of the turn.
        call_id: CallId,
        /// The follow-up before the claim.
        record: Box<FollowUp>,
    },
    /// The settings of the session changed.
    Updated(Update),
    /// A finished task is to be removed.
    Deleted(CallId),
    /// The session accepts no more calls.
    Closing {
        /// The reason.
        reason: String,
        /// The number of tasks that are cancelled by closing it.
        cancelled_tasks: u32,
        /// The number of detached tasks that continue.
        detached_tasks: u32,
    },
    /// The log ended.
    Closed,
}

/// The purpose of a timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Timer {
    /// The end of the call budget.
    Budget,
    /// The execution timeout.
    Execution,
    /// The idle timeout.
    Idle,
}

/// An effect to run once the changes are durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Runs the call, which has a slot.
    Run(CallId),
    /// Acquires a slot for the call and then sends [`super::Command::Begin`].
    Reserve(CallId),
    /// Releases the slot of a call that won't run.
    Release(CallId),
    /// Asks the process to stop, and kills it after the grace period.
    Terminate(CallId, Duration),
    /// Kills the process.
    Kill(CallId),
    /// Sets a timer, which replaces an earlier one of the same purpose.
    Arm(CallId, Timer, Duration),
    /// Cancels a timer.
    Disarm(CallId, Timer),
}

/// The reply to the sender of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The command is done.
    Done,
    /// The call of the command isn't live. Its stored record shows the end.
    NotLive,
    /// A follow-up as it is after the command.
    FollowUp {
        /// The follow-up.
        record: Box<FollowUp>,
        /// `true` if an earlier command had the same effect.
        again: bool,
    },
    /// A turn has claimed the follow-ups of these tasks.
    Claimed(Vec<CallId>),
    /// The session is closed, or will be once its calls have ended.
    Closed {
        /// The number of tasks that were cancelled by closing it.
        cancelled_tasks: u32,
        /// The number of detached tasks that continue.
        detached_tasks: u32,
        /// `true` if it had been closed before.
        again: bool,
    },
}

/// The reason why a command was refused. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The session accepts no more calls.
    #[error("the session is closed: create a new one with CreateSession")]
    SessionClosed {
        /// The session.
        session_id: SessionId,
    },
    /// The session has as many live tasks as it may.
    #[error(
        "the session has {limit} live tasks, its limit: wait for one, cancel one, or give the \
         session a higher max_live_tasks or the policy EVICT_OLDEST"
    )]
    TaskLimit {
        /// The session.
        session_id: SessionId,
        /// The limit.
        limit: u32,
    },
    /// The session has live tasks, and the new one was to be refused then.
    #[error(
        "the session has {live} live background tasks and concurrency is REJECT: wait for them, \
         or ask for QUEUE, REPLACE or ALLOW"
    )]
    Busy {
        /// The session.
        session_id: SessionId,
        /// The number of live tasks.
        live: u32,
    },
    /// The session runs a turn.
    #[error(
        "the session runs a turn already and busy_policy is REJECT: wait for its end, or ask for \
         ENQUEUE or INTERRUPT"
    )]
    TurnRunning {
        /// The session.
        session_id: SessionId,
    },
    /// The follow-up is claimed or delivered already.
    #[error("the follow-up cannot be leased: it is being delivered or was delivered already")]
    FollowUpTaken {
        /// The call of the follow-up's task.
        call_id: CallId,
    },
    /// The lease isn't the current one.
    #[error(
        "the lease is not the current one: it expired, or the follow-up was acknowledged \
         otherwise; lease the follow-up again"
    )]
    LeaseExpired {
        /// The call of the follow-up's task.
        call_id: CallId,
    },
    /// The follow-up isn't dead-lettered.
    #[error(
        "the follow-up is {}, not DEAD_LETTERED: it cannot be retried",
        .state.as_str().to_uppercase()
    )]
    FollowUpNotDeadLettered {
        /// The call of the follow-up's task.
        call_id: CallId,
        /// The state of the follow-up.
        state: FollowUpState,
    },
    /// The task hasn't ended.
    #[error("the task is still running: cancel it first, or wait for its end")]
    TaskRunning {
        /// The call of the task.
        call_id: CallId,
    },
}

/// The decision about a command.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The changes, in order.
    pub changes: Vec<Change>,
    /// The effects to run once the changes are durable, in order.
    pub effects: Vec<Effect>,
    /// The reply to the sender.
    pub reply: Result<Reply, Refusal>,
}

impl Decision {
    /// Creates a decision that changes nothing and replies that the command is done.
    pub fn nothing() -> Self {
        Self { changes: Vec::new(), effects: Vec::new(), reply: Ok(Reply::Done) }
    }

    /// Creates a decision that changes nothing and replies that the call isn't live.
    pub fn not_live() -> Self {
        Self { reply: Ok(Reply::NotLive), ..Self::nothing() }
    }

    /// Creates a decision that refuses the command.
    pub fn refused(refusal: Refusal) -> Self {
        Self { reply: Err(refusal), ..Self::nothing() }
    }

    /// Returns the calls that the decision ends.
    pub(super) fn ended(&self) -> Vec<CallId> {
        let ended = |change: &Change| match change {
            Change::Ended { call_id, .. } => Some(*call_id),
            _ => None,
        };
        self.changes.iter().filter_map(ended).collect()
    }

    /// Returns `true` if the decision asks this call to stop.
    pub(super) fn stops(&self, id: CallId) -> bool {
        let stops = |change: &Change| matches!(change, Change::Cancelling { call_id, .. } if *call_id == id);
        self.changes.iter().any(stops)
    }

    /// Adds a change.
    #[must_use]
    pub fn change(mut self, change: Change) -> Self {
        self.changes.push(change);
        self
    }

    /// Adds an effect.
    #[must_use]
    pub fn effect(mut self, effect: Effect) -> Self {
        self.effects.push(effect);
        self
    }
}
