//! Sessions and their streams.

use std::collections::BTreeSet;

use callpark_proto::v1;

use super::task::{follow_up_policy, usage};
use super::tool::signed;
use super::{Fields, Invalid, timestamp};
use crate::engine::{GapPolicy, NewSession, StreamQuery};
use crate::model::limits::{
    ALLOWED_TOOLS_MAX, LIVE_TASKS_MAX, SYSTEM_MESSAGE_BYTES_MAX, TEXT_BYTES_MAX,
};
use crate::model::{FollowUpPolicy, PayloadKind, Session, SessionState, TaskLimitPolicy};

fn session_state(state: SessionState) -> v1::SessionState {
    match state {
        SessionState::Open => v1::SessionState::Open,
        SessionState::Closing => v1::SessionState::Closing,
        SessionState::Closed => v1::SessionState::Closed,
    }
}

pub(super) fn session_states(state: v1::SessionState) -> Vec<SessionState> {
    match state {
        v1::SessionState::Unspecified => Vec::new(),
        v1::SessionState::Open => vec![SessionState::Open],
        v1::SessionState::Closing => vec![SessionState::Closing],
        v1::SessionState::Closed => vec![SessionState::Closed],
    }
}

fn count(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// A session, for the wire.
pub(crate) fn session(session: Session) -> v1::Session {
    let policy = match session.task_limit_policy {
        TaskLimitPolicy::Reject => v1::TaskLimitPolicy::Reject,
        TaskLimitPolicy::EvictOldest => v1::TaskLimitPolicy::EvictOldest,
    };
    v1::Session {
        session_id: session.id.to_string(),
        state: session_state(session.state).into(),
        description: session.description,
        labels: session.labels,
        create_time: Some(timestamp(session.create_time)),
        update_time: Some(timestamp(session.update_time)),
        close_time: session.close_time.map(timestamp),
        allowed_tools: session.allowed_tools.to_vec(),
        model: session.model,
        system_message: session.system_message.to_string(),
        max_rounds: count(session.max_rounds),
        working_directory: session.working_directory,
        max_live_tasks: count(session.max_live_tasks),
        task_limit_policy: policy.into(),
        stream_epoch: session.stream_epoch,
        head_sequence: signed(session.head_sequence),
        first_sequence: signed(session.first_sequence),
        live_tasks: count(session.live_tasks),
        usage: session.usage.map(usage),
        follow_up: follow_up_policy(session.follow_up).into(),
    }
}

/// A session for a list, for the wire: without its system message, which is long.
pub(crate) fn brief_session(mut listed: Session) -> v1::Session {
    listed.system_message = Default::default();
    session(listed)
}

/// A session that somebody wants, from the wire. The id of the request is read by the caller.
pub(crate) fn new_session(fields: &mut Fields, request: v1::CreateSessionRequest) -> NewSession {
    let policy: v1::TaskLimitPolicy = fields.choice("task_limit_policy", request.task_limit_policy);
    let follow_up: v1::FollowUpPolicy = fields.choice("follow_up", request.follow_up);
    let v1::CreateSessionRequest {
        request_id: _,
        description,
        labels,
        allowed_tools,
        model,
        system_message,
        max_rounds,
        working_directory,
        max_live_tasks,
        task_limit_policy: _,
        follow_up: _,
    } = request;
    if !working_directory.is_empty() && !working_directory.starts_with('/') {
        fields.fault("working_directory", "must be an absolute path, or empty");
    }
    if working_directory.contains('\0') {
        fields.fault("working_directory", "must not contain a NUL byte");
    }
    let max_live_tasks = fields.unsigned("max_live_tasks", max_live_tasks.into());
    if max_live_tasks > u64::from(LIVE_TASKS_MAX) {
        fields.fault("max_live_tasks", format!("must be at most {LIVE_TASKS_MAX}"));
    }
    let allowed_tools: BTreeSet<String> = allowed_tools.into_iter().collect();
    if allowed_tools.len() > ALLOWED_TOOLS_MAX {
        let count = allowed_tools.len();
        let fault = format!("must have at most {ALLOWED_TOOLS_MAX} names, has {count}");
        fields.fault("allowed_tools", fault);
    }
    let max_rounds = fields.unsigned("max_rounds", max_rounds.into());
    NewSession {
        description: fields.text("description", description, TEXT_BYTES_MAX),
        labels: fields.labels("labels", labels),
        allowed_tools: allowed_tools.into_iter().collect(),
        model: fields.text("model", model, TEXT_BYTES_MAX),
        system_message: fields.text("system_message", system_message, SYSTEM_MESSAGE_BYTES_MAX),
        max_rounds: u32::try_from(max_rounds).unwrap_or(u32::MAX),
        working_directory: fields.text("working_directory", working_directory, TEXT_BYTES_MAX),
        max_live_tasks: u32::try_from(max_live_tasks).ok().filter(|count| *count > 0),
        task_limit_policy: match policy {
            v1::TaskLimitPolicy::Unspecified | v1::TaskLimitPolicy::Reject => {
                TaskLimitPolicy::Reject
            }
            v1::TaskLimitPolicy::EvictOldest => TaskLimitPolicy::EvictOldest,
        },
        follow_up: match follow_up {
            v1::FollowUpPolicy::Unspecified => None,
            v1::FollowUpPolicy::None => Some(FollowUpPolicy::None),
            v1::FollowUpPolicy::OnFinish => Some(FollowUpPolicy::OnFinish),
            v1::FollowUpPolicy::OnFailure => Some(FollowUpPolicy::OnFailure),
        },
        implicit: false,
        depth: 0,
    }
}

/// The kinds of stored events that a filter names. A kind that this server never stores is fine:
/// nothing matches it.
fn session_event_kinds(
    fields: &mut Fields,
    field: &str,
    numbers: &[i32],
) -> Option<Vec<PayloadKind>> {
    let mut kinds = Vec::with_capacity(numbers.len());
    for (index, number) in numbers.iter().enumerate() {
        match v1::PayloadKind::try_from(*number) {
            Ok(v1::PayloadKind::Unspecified) | Err(_) => {
                let field = format!("{field}[{index}]");
                fields.fault(&field, format!("{number} is not a kind of payload"));
            }
            Ok(kind) => kinds.extend(stored_kind(kind)),
        }
    }
    // A filter of kinds that are never stored lets nothing through, unlike no filter.
    (!numbers.is_empty()).then_some(kinds)
}

fn stored_kind(kind: v1::PayloadKind) -> Option<PayloadKind> {
    use v1::PayloadKind as Wire;
    match kind {
        Wire::ToolCallStarted => Some(PayloadKind::ToolCallStarted),
        Wire::ToolOutput => Some(PayloadKind::ToolOutput),
        Wire::ToolProgress => Some(PayloadKind::ToolProgress),
        Wire::ToolCallParked => Some(PayloadKind::ToolCallParked),
        Wire::ToolCallCancelling => Some(PayloadKind::ToolCallCancelling),
        Wire::ToolCallFinished => Some(PayloadKind::ToolCallFinished),
        Wire::SessionShutdown => Some(PayloadKind::SessionShutdown),
        Wire::TurnStarted => Some(PayloadKind::TurnStarted),
        Wire::AssistantDelta => Some(PayloadKind::AssistantDelta),
        Wire::ReasoningDelta => Some(PayloadKind::ReasoningDelta),
        Wire::AssistantMessage => Some(PayloadKind::AssistantMessage),
        Wire::TurnRetrying => Some(PayloadKind::TurnRetrying),
        Wire::UsageReported => Some(PayloadKind::UsageReported),
        Wire::SessionIdle => Some(PayloadKind::SessionIdle),
        Wire::SessionError => Some(PayloadKind::SessionError),
        Wire::FollowUpScheduled => Some(PayloadKind::FollowUpScheduled),
        Wire::FollowUpStarted => Some(PayloadKind::FollowUpStarted),
        Wire::FollowUpFinished => Some(PayloadKind::FollowUpFinished),
        Wire::Unspecified | Wire::ApprovalRequested | Wire::ApprovalResolved => None,
    }
}

/// Which part of a log to stream, from the wire.
pub(crate) fn log_query(request: v1::StreamSessionRequest) -> Result<StreamQuery, Invalid> {
    let mut fields = Fields::default();
    let v1::StreamSessionRequest {
        session_id,
        start_after_sequence,
        stream_epoch,
        from_now,
        payloads,
        follow,
        on_gap,
    } = request;
    let session_id = fields.required_session_id("session_id", &session_id);
    let after = start_after_sequence.map(|number| fields.unsigned("start_after_sequence", number));
    if from_now && after.is_some() {
        fields.fault("from_now", "can't be set together with start_after_sequence");
    }
    let kinds = session_event_kinds(&mut fields, "payloads", &payloads);
    let on_gap = match fields.choice::<v1::OnGap>("on_gap", on_gap) {
        v1::OnGap::Unspecified | v1::OnGap::Signal => GapPolicy::Signal,
        v1::OnGap::Fail => GapPolicy::Fail,
    };
    let follow = follow.unwrap_or(true);
    fields.finish(StreamQuery { session_id, after, from_now, stream_epoch, kinds, follow, on_gap })
}
