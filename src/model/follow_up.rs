//! Follow-ups: what an agent must hear of a task that ended.

use serde::{Deserialize, Serialize};

use super::{Call, CallId, SessionId, Tenant, Timestamp, TurnId};

/// Who delivers a follow-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// The engine, in a turn of the session's agent.
    Engine,
    /// Whoever leases it: the agent lives elsewhere.
    Lease,
}

/// Where a follow-up stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FollowUpState {
    /// Waits to be handed out.
    Pending,
    /// Handed out, and not acknowledged yet.
    Leased,
    /// The agent has heard of it.
    Delivered,
    /// Nobody needs to hear of it.
    Suppressed,
    /// Given up.
    DeadLettered,
}

impl FollowUpState {
    /// It is to be delivered, or is being delivered.
    pub fn is_open(self) -> bool {
        match self {
            Self::Pending | Self::Leased => true,
            Self::Delivered | Self::Suppressed | Self::DeadLettered => false,
        }
    }
}

/// Who has a follow-up, or had it last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// What the holder shows.
    pub token: String,
    /// The id of the request that took it; none: it had none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Who took it, in its own words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub consumer: String,
}

/// Why an attempt at delivery failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryError {
    /// A number of `google.rpc.Code`.
    pub code: i32,
    /// What went wrong.
    pub message: String,
}

/// The record that tells an agent of a task that ended. A task has one at most, and it goes by the
/// task's id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowUp {
    /// The task.
    pub call_id: CallId,
    /// The run of the task that ended it.
    pub call_attempt: u32,
    /// Its session.
    pub session_id: SessionId,
    /// Who owns it.
    pub tenant: Tenant,
    /// Who delivers it.
    pub delivery: Delivery,
    /// Where it stands.
    pub state: FollowUpState,
    /// Why it was suppressed or given up.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Deliveries that were begun.
    pub attempt: u32,
    /// After so many it is given up.
    pub attempts_max: u32,
    /// When the task ended.
    pub create_time: Timestamp,
    /// When anything here last changed.
    pub update_time: Timestamp,
    /// When something is due: of a pending one its delivery, of a lease its end. A turn that
    /// delivers it has no such time: it has limits of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_time: Option<Timestamp>,
    /// Who has it, or had it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
    /// The turn that the last attempt was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn_id: Option<TurnId>,
    /// Why the last attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<DeliveryError>,
    /// When it may be forgotten; none while it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire_time: Option<Timestamp>,
}

/// A follow-up to store, with its task the first time.
#[derive(Debug, Clone, PartialEq)]
pub struct FollowUpPut {
    /// The follow-up as it is now.
    pub record: FollowUp,
    /// The task as it ended, for a follow-up that is new.
    pub task: Option<Box<Call>>,
}

/// What a turn did that told of follow-ups, kept with its message in the history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowUpNote {
    /// The model or agent that said it.
    pub model: String,
    /// The tasks that it was told of.
    pub tasks: Vec<CallId>,
    /// Tools that it used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<ToolNote>,
    /// How many more it used.
    #[serde(default)]
    pub tools_omitted: u32,
    /// What it was told, cut to so many characters as limits.rs says.
    pub told: String,
}

/// A tool that a turn used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolNote {
    /// The round of the turn, from 1; 0: an agent that runs its own loop doesn't tell.
    pub round: u32,
    /// The tool.
    pub tool: String,
    /// Its arguments as JSON, without what looks like a secret, and cut.
    pub arguments: String,
    /// What the model was told of it, cut.
    pub output: String,
    /// Its exit code, if it was a process that ended with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
}
