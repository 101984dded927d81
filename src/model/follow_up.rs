//! Follow-ups: records that notify an agent of a background task that ended.

use serde::{Deserialize, Serialize};

use super::limits::FOLLOW_UP_ATTEMPTS_MAX;
use super::{Call, CallId, SessionId, Tenant, Timestamp, TurnId, enum_table};

enum_table! {
    /// The way in which a follow-up is delivered.
    pub enum Delivery {
        /// The engine delivers it in a turn of the session's agent.
        Engine => "engine",
        /// A consumer leases it, for an agent outside of callpark.
        Lease => "lease",
    }
}

enum_table! {
    /// The state of a follow-up.
    pub enum FollowUpState {
        /// Waiting to be claimed.
        Pending => (1, "pending"),
        /// Claimed by a consumer or a turn, and not acknowledged yet.
        Leased => (2, "leased"),
        /// Delivered to the agent.
        Delivered => (3, "delivered"),
        /// No longer needed.
        Suppressed => (4, "suppressed"),
        /// Given up after too many failed attempts.
        DeadLettered => (5, "dead_lettered"),
    }
}

impl FollowUpState {
    /// Returns `true` if the delivery hasn't ended.
    pub fn is_open(self) -> bool {
        match self {
            Self::Pending | Self::Leased => true,
            Self::Delivered | Self::Suppressed | Self::DeadLettered => false,
        }
    }
}

/// The claim of a consumer on a follow-up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The token that proves the claim.
    pub token: String,
    /// The id of the request that made the claim, or `None` if it had no id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The name that the consumer gave itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub consumer: String,
}

/// The error of an attempt at delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryError {
    /// The number in `google.rpc.Code`.
    pub code: i32,
    /// The message.
    pub message: String,
}

/// The record that notifies an agent of a background task that ended. A task has one at most, and
/// the record has the id of the task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowUp {
    /// The task.
    pub call_id: CallId,
    /// The number of the run that ended the task.
    pub call_attempt: u32,
    /// The session of the task.
    pub session_id: SessionId,
    /// The owner.
    pub tenant: Tenant,
    /// The way in which it is delivered.
    pub delivery: Delivery,
    /// The state.
    pub state: FollowUpState,
    /// The reason why it was suppressed or dead-lettered.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The number of deliveries that were begun.
    pub attempt: u32,
    /// The number of failed attempts after which it is dead-lettered.
    pub attempts_max: u32,
    /// The time at which the task ended.
    pub create_time: Timestamp,
    /// The time of the last change.
    pub update_time: Timestamp,
    /// The time at which a pending follow-up is due for delivery or a lease expires, or `None` if
    /// nothing is due. A follow-up that a turn delivers has no such time, because turns have limits
    /// of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_time: Option<Timestamp>,
    /// The last lease, or `None` if there was none or a turn claimed it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
    /// The turn of the last attempt, if a turn made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn_id: Option<TurnId>,
    /// The error of the last failed attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<DeliveryError>,
    /// The time from which it may be removed, or `None` while the delivery hasn't ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire_time: Option<Timestamp>,
}

impl FollowUp {
    /// Creates a pending follow-up of `task`, which ended at `now`. It is due at once.
    pub fn new(task: &Call, delivery: Delivery, now: Timestamp) -> Self {
        Self {
            call_id: task.id,
            call_attempt: task.attempt,
            session_id: task.session_id,
            tenant: task.tenant.clone(),
            delivery,
            state: FollowUpState::Pending,
            reason: String::new(),
            attempt: 0,
            attempts_max: FOLLOW_UP_ATTEMPTS_MAX,
            create_time: now,
            update_time: now,
            due_time: Some(now),
            lease: None,
            turn_id: None,
            last_error: None,
            expire_time: None,
        }
    }
}

/// A follow-up to store.
#[derive(Debug, Clone, PartialEq)]
pub struct FollowUpPut {
    /// The follow-up as it is now.
    pub record: FollowUp,
    /// The task as it ended, or `None` if the follow-up was stored before.
    pub task: Option<Box<Call>>,
}

/// A note about a turn that delivered follow-ups, kept with its message in the history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowUpNote {
    /// The name of the model or agent.
    pub model: String,
    /// The tasks whose follow-ups the turn delivered.
    pub tasks: Vec<CallId>,
    /// The tools that it used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<ToolNote>,
    /// The number of further tools that it used.
    #[serde(default)]
    pub tools_omitted: u32,
    /// The prompt of the turn, truncated.
    #[serde(rename = "told")]
    pub prompt: String,
}

/// A tool that a turn used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolNote {
    /// The round of the turn, from 1, or 0 for an agent that runs its own loop.
    pub round: u32,
    /// The name of the tool.
    pub tool: String,
    /// The arguments as JSON, without what looks like a secret, and truncated.
    pub arguments: String,
    /// The result that the model was shown, truncated.
    pub output: String,
    /// The exit code, if it was a process that ended with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
}
