//! What a decision consists of.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::model::{
    Call, CallId, Cancellation, FollowUp, FollowUpState, Outcome, ParkReason, Payload, Progress,
    State, StopCause, Survivor, Timestamp, ToolOutput, TurnReport,
};

/// A fact that a decision adds to the session. Most become an event; all change the projection.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A call was accepted.
    Accepted {
        /// The call.
        call: Box<Call>,
        /// Its arguments, unless they are too large to be told.
        arguments: Option<Map<String, Value>>,
        /// How large they are, in bytes of JSON.
        arguments_bytes: u64,
    },
    /// The run of a pending call began.
    Began(CallId),
    /// A process wrote.
    Output(CallId, ToolOutput),
    /// A call said how far it is.
    Progressed(CallId, Progress),
    /// A turn reported.
    Turn(CallId, TurnReport),
    /// A call went to the background.
    Parked(CallId, ParkReason),
    /// Somebody asked a call to stop.
    Cancelling {
        /// The call.
        call_id: CallId,
        /// Who, when, why.
        cancellation: Cancellation,
        /// Killed at once.
        force: bool,
        /// To make room for another.
        evicted: bool,
    },
    /// A run is being stopped by a limit.
    Stopping(CallId, StopCause),
    /// A call ended.
    Ended {
        /// The call.
        call_id: CallId,
        /// How.
        state: State,
        /// Why, where the state alone doesn't say.
        reason: String,
        /// What it gave.
        outcome: Outcome,
        /// Processes that could not be killed.
        survivors: Vec<Survivor>,
        /// When the work ended.
        end_time: Timestamp,
    },
    /// The result of a finished task has arrived.
    Acknowledged(Box<Call>),
    /// A follow-up has changed.
    FollowUp {
        /// The follow-up.
        record: Box<FollowUp>,
        /// What is told of it; none: nothing.
        told: Option<Payload>,
    },
    /// A turn tells of a follow-up.
    FollowUpClaimed {
        /// The call that the turn is.
        call_id: CallId,
        /// The follow-up as it was before.
        record: Box<FollowUp>,
    },
    /// A finished task is forgotten.
    Deleted(CallId),
    /// The session takes no more calls.
    Closing {
        /// Why.
        reason: String,
        /// How many tasks that cancelled.
        cancelled_tasks: u32,
        /// How many detached ones go on.
        detached_tasks: u32,
    },
    /// The log ends.
    Closed,
}

/// What a timer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Timer {
    /// The budget of the caller.
    Budget,
    /// The hard limit of the run.
    Execution,
    /// The limit of its silence.
    Idle,
}

/// What to do once the changes are durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Run the call: a place is held for it.
    Run(CallId),
    /// Get a place for the call, then say [`super::Command::Begin`].
    Reserve(CallId),
    /// Give back the place that is held for a call that won't run.
    Release(CallId),
    /// Tell its process to stop, and kill it after the grace.
    Terminate(CallId, Duration),
    /// Kill its process.
    Kill(CallId),
    /// Set a timer, in place of an older one of the same kind.
    Arm(CallId, Timer, Duration),
    /// Take a timer back.
    Disarm(CallId, Timer),
}

/// The answer to whoever gave the command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// It is done.
    Done,
    /// The command came for a call that isn't live here any more: its record tells the rest.
    NotLive,
    /// A follow-up as it is now.
    FollowUp {
        /// The follow-up.
        record: Box<FollowUp>,
        /// It had been done before.
        again: bool,
    },
    /// A turn has taken the follow-ups of these tasks.
    Taken(Vec<CallId>),
    /// The session is closed, or will be once its calls have ended.
    Closed {
        /// How many tasks that cancelled.
        cancelled_tasks: u32,
        /// How many go on.
        detached_tasks: u32,
        /// It had been closed before.
        again: bool,
    },
}

/// Why a command was refused. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The session takes no more calls.
    #[error("the session is closed: make a new one with CreateSession")]
    SessionClosed,
    /// The session is at its cap.
    #[error(
        "the session has {limit} live tasks, its limit: wait for one, cancel one, or give the \
         session a higher max_live_tasks or the policy EVICT_OLDEST"
    )]
    TaskLimit {
        /// The cap.
        limit: u32,
    },
    /// The session has live tasks, and the new one was not to run beside them.
    #[error(
        "the session has {live} live background tasks and concurrency is REJECT: wait for them, \
         or ask for QUEUE, REPLACE or ALLOW"
    )]
    Busy {
        /// How many.
        live: u32,
    },
    /// The session runs a turn.
    #[error(
        "the session runs a turn already and busy_policy is REJECT: wait for its end, or ask for \
         ENQUEUE or INTERRUPT"
    )]
    TurnRunning,
    /// Somebody else has the follow-up, or has had it.
    #[error("the follow-up is not to be had: somebody else delivers it, or has")]
    FollowUpTaken,
    /// The lease isn't the current one.
    #[error(
        "the lease is not the current one: it ran out and the follow-up was handed out again, or \
         it was acknowledged otherwise; lease anew"
    )]
    LeaseExpired,
    /// The follow-up wasn't given up.
    #[error("the follow-up is {}, not DEAD_LETTERED: there is nothing to bring back", word(*.state))]
    FollowUpNotDeadLettered {
        /// Where it stands.
        state: FollowUpState,
    },
    /// The task hasn't ended.
    #[error("the task is still running: cancel it first, or wait for its end")]
    TaskRunning,
}

fn word(state: FollowUpState) -> &'static str {
    match state {
        FollowUpState::Pending => "PENDING",
        FollowUpState::Leased => "LEASED",
        FollowUpState::Delivered => "DELIVERED",
        FollowUpState::Suppressed => "SUPPRESSED",
        FollowUpState::DeadLettered => "DEAD_LETTERED",
    }
}

/// What follows from a command.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// Facts, in order.
    pub changes: Vec<Change>,
    /// What to do once they are durable, in order.
    pub effects: Vec<Effect>,
    /// The answer.
    pub reply: Result<Reply, Refusal>,
}

impl Decision {
    /// Nothing follows but the answer that it is done.
    pub fn nothing() -> Self {
        Self { changes: Vec::new(), effects: Vec::new(), reply: Ok(Reply::Done) }
    }

    /// The call isn't live any more.
    pub fn not_live() -> Self {
        Self { reply: Ok(Reply::NotLive), ..Self::nothing() }
    }

    /// Nothing follows but a refusal.
    pub fn refused(refusal: Refusal) -> Self {
        Self { reply: Err(refusal), ..Self::nothing() }
    }

    /// The calls that end by it.
    pub(super) fn ended(&self) -> Vec<CallId> {
        let ended = |change: &Change| match change {
            Change::Ended { call_id, .. } => Some(*call_id),
            _ => None,
        };
        self.changes.iter().filter_map(ended).collect()
    }

    /// It stops this call.
    pub(super) fn stops(&self, id: CallId) -> bool {
        let stops = |change: &Change| matches!(change, Change::Cancelling { call_id, .. } if *call_id == id);
        self.changes.iter().any(stops)
    }

    /// The same with one more change.
    #[must_use]
    pub fn change(mut self, change: Change) -> Self {
        self.changes.push(change);
        self
    }

    /// The same with one more effect.
    #[must_use]
    pub fn effect(mut self, effect: Effect) -> Self {
        self.effects.push(effect);
        self
    }
}
