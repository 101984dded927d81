//! A session: the settings that its calls share, and the owner of one event log.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::limits::LIVE_TASKS_DEFAULT;
use super::{Budget, FollowUpPolicy, Labels, SessionId, Tenant, Timestamp, Usage, enum_table};

enum_table! {
    /// The state of a session.
    pub enum SessionState {
        /// Accepts new calls.
        Open => (1, "open"),
        /// Closed for new calls, while earlier ones still run.
        Closing => (2, "closing"),
        /// Closed, without live calls. The log is complete.
        Closed => (3, "closed"),
    }
}

enum_table! {
    /// The fate of a new call in a session that has as many live calls as it may.
    #[derive(Default)]
    pub enum TaskLimitPolicy {
        /// The new call is refused.
        #[default]
        Reject => "reject",
        /// The oldest parked task is cancelled to make room.
        EvictOldest => "evict_oldest",
    }
}

enum_table! {
    /// The fate of the agent's turns when the server goes away.
    #[derive(Default)]
    pub enum OnRestart {
        /// The next server goes on with them.
        #[default]
        Resume => "resume",
        /// They are lost.
        Lose => "lose",
    }
}

/// A session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// The id.
    pub id: SessionId,
    /// The owner.
    pub tenant: Tenant,
    /// The state.
    pub state: SessionState,
    /// The caller's description of the session.
    #[serde(default)]
    pub description: String,
    /// The caller's labels.
    #[serde(default)]
    pub labels: Labels,
    /// The tools that calls may use. If it is empty, calls may use all.
    #[serde(default)]
    pub allowed_tools: Arc<[String]>,
    /// The model of the session's agent. If it is empty, the default model is used.
    #[serde(default)]
    pub model: String,
    /// The system message of the session's agent.
    #[serde(default)]
    pub system_message: Arc<str>,
    /// The number of rounds that a turn of the agent may take, or 0 for the default.
    #[serde(default)]
    pub max_rounds: u32,
    /// The working directory of command tools. If it is empty, the server's is used.
    #[serde(default)]
    pub working_directory: String,
    /// The largest number of live calls.
    pub max_live_tasks: u32,
    /// The fate of a new call at that number.
    pub task_limit_policy: TaskLimitPolicy,
    /// The ends of the agent's background tasks that schedule a follow-up.
    #[serde(default = "follow_up_before_it_was_stored")]
    pub follow_up: FollowUpPolicy,
    /// The fate of the agent's turns when the server goes away.
    #[serde(default)]
    pub on_restart: OnRestart,
    /// The usage of models that the session may have.
    #[serde(default, skip_serializing_if = "Budget::is_unlimited")]
    pub budget: Budget,
    /// `true` if a call that named no session created it. It is removed with its last task.
    #[serde(default)]
    pub implicit: bool,
    /// The number of agents above this session: 0 unless its agent works for another one.
    #[serde(default)]
    pub depth: u32,
    /// The name of this log. With another epoch, earlier sequences are void.
    pub stream_epoch: String,
    /// The time at which the session was created.
    pub create_time: Timestamp,
    /// The time of the last change.
    pub update_time: Timestamp,
    /// The time at which the session was closed for new calls, or `None` if it is open.
    #[serde(default)]
    pub close_time: Option<Timestamp>,
    /// The reason for which it was closed.
    #[serde(default)]
    pub close_reason: String,
    /// The number of tasks that were cancelled by closing it.
    #[serde(default)]
    pub cancelled_tasks: u32,
    /// The number of detached tasks that went on when it was closed.
    #[serde(default)]
    pub detached_tasks: u32,
    /// The number of live calls.
    #[serde(default)]
    pub live_tasks: u32,
    /// The usage of models by the session's turns, or `None` if no model was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// The number of messages that its history has had.
    #[serde(default)]
    pub messages: u64,
    /// The newest sequence of the log, or 0 while the log is empty.
    #[serde(default)]
    pub head_sequence: u64,
    /// The oldest sequence that can still be read: 1 until the log is trimmed.
    pub first_sequence: u64,
}

impl Session {
    /// Creates an open session at `now`, with an empty log and the default limits.
    pub fn new(
        id: SessionId,
        tenant: Tenant,
        stream_epoch: impl Into<String>,
        now: Timestamp,
    ) -> Self {
        Self {
            id,
            tenant,
            state: SessionState::Open,
            description: String::new(),
            labels: Labels::new(),
            allowed_tools: Arc::default(),
            model: String::new(),
            system_message: Arc::default(),
            max_rounds: 0,
            working_directory: String::new(),
            max_live_tasks: LIVE_TASKS_DEFAULT,
            task_limit_policy: TaskLimitPolicy::default(),
            follow_up: FollowUpPolicy::OnFinish,
            on_restart: OnRestart::default(),
            budget: Budget::default(),
            implicit: false,
            depth: 0,
            stream_epoch: stream_epoch.into(),
            create_time: now,
            update_time: now,
            close_time: None,
            close_reason: String::new(),
            cancelled_tasks: 0,
            detached_tasks: 0,
            live_tasks: 0,
            usage: None,
            messages: 0,
            head_sequence: 0,
            first_sequence: 1,
        }
    }
}

/// The policy of sessions that were stored before they had one.
fn follow_up_before_it_was_stored() -> FollowUpPolicy {
    FollowUpPolicy::OnFinish
}

/// New settings of a session. `None` leaves a setting as it is.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SessionUpdate {
    /// The description.
    pub description: Option<String>,
    /// The labels, which replace all earlier ones.
    pub labels: Option<Labels>,
    /// The tools that calls may use.
    pub allowed_tools: Option<Vec<String>>,
    /// The model of the session's agent.
    pub model: Option<String>,
    /// The system message of the session's agent.
    pub system_message: Option<String>,
    /// The number of rounds that a turn may take, or 0 for the default.
    pub max_rounds: Option<u32>,
    /// The number of live calls that the session may have. The engine replaces 0 by the default.
    pub max_live_tasks: Option<u32>,
    /// The fate of a new call in a full session.
    pub task_limit_policy: Option<TaskLimitPolicy>,
    /// The ends of the agent's background calls that schedule a follow-up.
    pub follow_up: Option<FollowUpPolicy>,
    /// The fate of the agent's turns when the server goes away.
    pub on_restart: Option<OnRestart>,
    /// The usage of models that the session may have.
    pub budget: Option<Budget>,
}

impl Session {
    /// Sets the fields of `update`, and returns their names in the contract.
    pub fn update(&mut self, update: SessionUpdate) -> Vec<&'static str> {
        fn set<T, F: From<T>>(
            names: &mut Vec<&'static str>,
            name: &'static str,
            value: Option<T>,
            field: &mut F,
        ) {
            if let Some(value) = value {
                *field = F::from(value);
                names.push(name);
            }
        }
        let SessionUpdate {
            description,
            labels,
            allowed_tools,
            model,
            system_message,
            max_rounds,
            max_live_tasks,
            task_limit_policy,
            follow_up,
            on_restart,
            budget,
        } = update;
        let mut names = Vec::new();
        set(&mut names, "description", description, &mut self.description);
        set(&mut names, "labels", labels, &mut self.labels);
        set(&mut names, "allowed_tools", allowed_tools, &mut self.allowed_tools);
        set(&mut names, "model", model, &mut self.model);
        set(&mut names, "system_message", system_message, &mut self.system_message);
        set(&mut names, "max_rounds", max_rounds, &mut self.max_rounds);
        set(&mut names, "max_live_tasks", max_live_tasks, &mut self.max_live_tasks);
        set(&mut names, "task_limit_policy", task_limit_policy, &mut self.task_limit_policy);
        set(&mut names, "follow_up", follow_up, &mut self.follow_up);
        set(&mut names, "on_restart", on_restart, &mut self.on_restart);
        set(&mut names, "budget", budget, &mut self.budget);
        names
    }
}
