//! A session that isn't stored yet.

use std::sync::Arc;

use callpark::model::{
    Labels, Session, SessionId, SessionState, TaskLimitPolicy, Tenant, Timestamp,
};

/// A session with the defaults.
pub(crate) fn session() -> Session {
    let time = Timestamp::from_micros(1);
    Session {
        id: SessionId::random(),
        tenant: Tenant::new("bench"),
        state: SessionState::Open,
        description: String::new(),
        follow_up: callpark::model::FollowUpPolicy::OnFinish,
        on_restart: callpark::model::OnRestart::Resume,
        budget: Default::default(),
        labels: Labels::new(),
        allowed_tools: Arc::default(),
        model: String::new(),
        system_message: "".into(),
        max_rounds: 0,
        working_directory: String::new(),
        max_live_tasks: 32,
        task_limit_policy: TaskLimitPolicy::Reject,
        implicit: false,
        depth: 0,
        stream_epoch: "epoch".to_owned(),
        create_time: time,
        update_time: time,
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
