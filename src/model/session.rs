//! A session: what its calls share, and the owner of one event log.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{FollowUpPolicy, Labels, SessionId, Tenant, Timestamp, Usage};

/// Where a session is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    /// Takes new calls.
    Open,
    /// Closed for new calls; some still run.
    Closing,
    /// Closed, nothing runs, the log has ended.
    Closed,
}

/// What happens when a session that is at its cap of live tasks is asked to start one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskLimitPolicy {
    /// The new call is refused.
    #[default]
    Reject,
    /// The oldest parked task is cancelled to make room.
    EvictOldest,
}

/// A session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Who owns it.
    pub tenant: Tenant,
    /// Where it is in its life.
    pub state: SessionState,
    /// What it is for, in a person's words.
    #[serde(default)]
    pub description: String,
    /// The caller's own marks.
    #[serde(default)]
    pub labels: Labels,
    /// The tools that its calls may use; empty: all.
    #[serde(default)]
    pub allowed_tools: Arc<[String]>,
    /// The model of its agent; empty: the default one.
    #[serde(default)]
    pub model: String,
    /// The system message of its agent.
    #[serde(default)]
    pub system_message: Arc<str>,
    /// The rounds that a turn of its agent may take; 0: the default.
    #[serde(default)]
    pub max_rounds: u32,
    /// The working directory of its command tools; empty: the server's default.
    #[serde(default)]
    pub working_directory: String,
    /// The cap of live calls.
    pub max_live_tasks: u32,
    /// What happens at the cap.
    pub task_limit_policy: TaskLimitPolicy,
    /// Which ends of its agent's calls the agent must hear of.
    #[serde(default = "always")]
    pub follow_up: FollowUpPolicy,
    /// Made by a call that named no session: removed with its last task.
    #[serde(default)]
    pub implicit: bool,
    /// How many agents stand above it: 0 unless an agent works here for another one.
    #[serde(default)]
    pub depth: u32,
    /// Names this very log: another epoch means that sequences of before mean nothing.
    pub stream_epoch: String,
    /// When it was made.
    pub create_time: Timestamp,
    /// When anything in it last changed.
    pub update_time: Timestamp,
    /// When it was closed for new calls.
    #[serde(default)]
    pub close_time: Option<Timestamp>,
    /// Why it was closed.
    #[serde(default)]
    pub close_reason: String,
    /// How many tasks closing it cancelled.
    #[serde(default)]
    pub cancelled_tasks: u32,
    /// How many detached tasks went on when it was closed.
    #[serde(default)]
    pub detached_tasks: u32,
    /// How many calls are neither ended nor lost.
    #[serde(default)]
    pub live_tasks: u32,
    /// What models have used in its turns; none: there was no request to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// How many messages its history has had.
    #[serde(default)]
    pub messages: u64,
    /// The newest sequence of its log; 0 while it is empty.
    #[serde(default)]
    pub head_sequence: u64,
    /// The oldest sequence that can still be read; 1 until the log is trimmed.
    pub first_sequence: u64,
}

/// What sessions had no word for once.
fn always() -> FollowUpPolicy {
    FollowUpPolicy::OnFinish
}
