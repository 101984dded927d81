//! Conversions of sessions and of the requests about them.

use std::collections::{BTreeSet, HashSet};

use callpark_proto::v1;

use super::field::fingerprint;
use super::task::{follow_up_policy, usage};
use super::tool::signed;
use super::{FieldReader, InvalidRequest, ViolationReason, timestamp};
use crate::engine::{GapPolicy, NewSession, RequestKey, StreamQuery};
use crate::model::limits::{
    ALLOWED_TOOLS_MAX, LIVE_TASKS_MAX, SYSTEM_MESSAGE_BYTES_MAX, TEXT_BYTES_MAX,
};
use crate::model::{
    Budget, FollowUpPolicy, OnRestart, PayloadKind, Session, SessionId, SessionState,
    SessionUpdate, TaskLimitPolicy,
};

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

/// Converts a session.
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
        on_restart: match session.on_restart {
            OnRestart::Resume => v1::OnRestart::Resume.into(),
            OnRestart::Lose => v1::OnRestart::Lose.into(),
        },
        budget: (!session.budget.is_unlimited()).then(|| budget(session.budget)),
    }
}

fn budget(budget: Budget) -> v1::Budget {
    v1::Budget {
        max_cost_usd: budget.max_cost_usd.unwrap_or_default(),
        max_tokens: budget.max_tokens.map(signed).unwrap_or_default(),
    }
}

/// Converts a session for a list, without its system message, which may be long.
pub(crate) fn summary_session(mut listed: Session) -> v1::Session {
    listed.system_message = Default::default();
    session(listed)
}

/// Reads the settings of a new session. The caller reads the id of the request.
pub(crate) fn new_session(
    fields: &mut FieldReader,
    request: v1::CreateSessionRequest,
) -> NewSession {
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
        task_limit_policy,
        follow_up,
        on_restart,
        budget,
    } = request;
    if !working_directory.is_empty() && !working_directory.starts_with('/') {
        let description = "must be an absolute path, or empty";
        fields.violation("working_directory", ViolationReason::InvalidFormat, description);
    }
    if working_directory.contains('\0') {
        let description = "must not contain a NUL byte";
        fields.violation("working_directory", ViolationReason::InvalidFormat, description);
    }
    NewSession {
        description: fields.text("description", description, TEXT_BYTES_MAX),
        labels: fields.labels("labels", labels),
        allowed_tools: tool_names(fields, "allowed_tools", allowed_tools),
        model: fields.text("model", model, TEXT_BYTES_MAX),
        system_message: fields.text("system_message", system_message, SYSTEM_MESSAGE_BYTES_MAX),
        max_rounds: rounds(fields, "max_rounds", max_rounds),
        working_directory: fields.text("working_directory", working_directory, TEXT_BYTES_MAX),
        max_live_tasks: live_tasks(fields, "max_live_tasks", max_live_tasks),
        task_limit_policy: limit_policy(fields, "task_limit_policy", task_limit_policy),
        follow_up: session_follow_up(fields, "follow_up", follow_up),
        on_restart: read_on_restart(fields, "on_restart", on_restart),
        budget: read_budget(fields, "budget", budget),
        implicit: false,
        depth: 0,
    }
}

/// Reads an UpdateSession: the session, its new settings, and the request's key.
pub(crate) fn update_session_request(
    mut request: v1::UpdateSessionRequest,
) -> Result<(SessionId, SessionUpdate, Option<RequestKey>), InvalidRequest> {
    let (request_id, digest) = fingerprint!("UpdateSession", request);
    let v1::UpdateSessionRequest { session, update_mask, request_id: _ } = request;
    let mut fields = FieldReader::default();
    let key = fields.request_id("request_id", request_id, digest);
    let session = session.unwrap_or_default();
    let session_id = fields.required_session_id("session.session_id", &session.session_id);
    // A field that is named twice is read once.
    let mut named = HashSet::new();
    let mut paths = update_mask.unwrap_or_default().paths;
    paths.retain(|path| named.insert(path.clone()));
    if paths.is_empty() {
        let description = "must name at least one field";
        fields.violation("update_mask", ViolationReason::Required, description);
    }
    let mut update = SessionUpdate::default();
    for path in &paths {
        update_field(&mut fields, &mut update, &session, path);
    }
    fields.finish((session_id, update, key))
}

/// Reads the field of a session that `path` names.
fn update_field(
    fields: &mut FieldReader,
    update: &mut SessionUpdate,
    session: &v1::Session,
    path: &str,
) {
    let at = format!("session.{path}");
    match path {
        "description" => {
            let text = session.description.clone();
            update.description = Some(fields.text(&at, text, TEXT_BYTES_MAX));
        }
        "labels" => update.labels = Some(fields.labels(&at, session.labels.clone())),
        "allowed_tools" => {
            let names = session.allowed_tools.clone();
            update.allowed_tools = Some(tool_names(fields, &at, names));
        }
        "model" => {
            let text = session.model.clone();
            update.model = Some(fields.text(&at, text, TEXT_BYTES_MAX));
        }
        "system_message" => {
            let text = session.system_message.clone();
            update.system_message = Some(fields.text(&at, text, SYSTEM_MESSAGE_BYTES_MAX));
        }
        "max_rounds" => update.max_rounds = Some(rounds(fields, &at, session.max_rounds)),
        "max_live_tasks" => {
            let number = live_tasks(fields, &at, session.max_live_tasks);
            update.max_live_tasks = Some(number.unwrap_or(0));
        }
        "task_limit_policy" => {
            update.task_limit_policy = Some(limit_policy(fields, &at, session.task_limit_policy));
        }
        "follow_up" => {
            let policy = session_follow_up(fields, &at, session.follow_up);
            update.follow_up = Some(policy.unwrap_or(FollowUpPolicy::OnFinish));
        }
        "on_restart" => {
            update.on_restart = Some(read_on_restart(fields, &at, session.on_restart));
        }
        "budget" => update.budget = Some(read_budget(fields, &at, session.budget)),
        other => {
            let shown: String = other.chars().take(40).collect();
            let description = format!("`{shown}` is not a field that can be updated");
            fields.violation("update_mask", ViolationReason::UnknownValue, description);
        }
    }
}

fn tool_names(fields: &mut FieldReader, path: &str, names: Vec<String>) -> Vec<String> {
    let names: BTreeSet<String> = names.into_iter().collect();
    if names.len() > ALLOWED_TOOLS_MAX {
        let count = names.len();
        let description = format!("must have at most {ALLOWED_TOOLS_MAX} names, but has {count}");
        fields.violation(path, ViolationReason::TooLarge, description);
    }
    names.into_iter().collect()
}

fn rounds(fields: &mut FieldReader, path: &str, number: i32) -> u32 {
    u32::try_from(fields.unsigned(path, number.into())).unwrap_or(u32::MAX)
}

fn live_tasks(fields: &mut FieldReader, path: &str, number: i32) -> Option<u32> {
    let number = fields.unsigned(path, number.into());
    if number > u64::from(LIVE_TASKS_MAX) {
        let description = format!("must be at most {LIVE_TASKS_MAX}");
        fields.violation(path, ViolationReason::OutOfRange, description);
    }
    u32::try_from(number).ok().filter(|number| *number > 0)
}

fn limit_policy(fields: &mut FieldReader, path: &str, number: i32) -> TaskLimitPolicy {
    match fields.choice::<v1::TaskLimitPolicy>(path, number) {
        v1::TaskLimitPolicy::Unspecified | v1::TaskLimitPolicy::Reject => TaskLimitPolicy::Reject,
        v1::TaskLimitPolicy::EvictOldest => TaskLimitPolicy::EvictOldest,
    }
}

fn read_on_restart(fields: &mut FieldReader, path: &str, number: i32) -> OnRestart {
    match fields.choice::<v1::OnRestart>(path, number) {
        v1::OnRestart::Unspecified | v1::OnRestart::Resume => OnRestart::Resume,
        v1::OnRestart::Lose => OnRestart::Lose,
    }
}

fn read_budget(fields: &mut FieldReader, path: &str, budget: Option<v1::Budget>) -> Budget {
    let v1::Budget { max_cost_usd, max_tokens } = budget.unwrap_or_default();
    if !max_cost_usd.is_finite() || max_cost_usd < 0.0 {
        let description = "must be a finite number, zero or more";
        let path = format!("{path}.max_cost_usd");
        fields.violation(&path, ViolationReason::OutOfRange, description);
    }
    let tokens = fields.unsigned(&format!("{path}.max_tokens"), max_tokens);
    Budget {
        max_cost_usd: Some(max_cost_usd).filter(|cost| *cost > 0.0),
        max_tokens: Some(tokens).filter(|tokens| *tokens > 0),
    }
}

fn session_follow_up(fields: &mut FieldReader, path: &str, number: i32) -> Option<FollowUpPolicy> {
    match fields.choice::<v1::FollowUpPolicy>(path, number) {
        v1::FollowUpPolicy::Unspecified => None,
        v1::FollowUpPolicy::None => Some(FollowUpPolicy::None),
        v1::FollowUpPolicy::OnFinish => Some(FollowUpPolicy::OnFinish),
        v1::FollowUpPolicy::OnFailure => Some(FollowUpPolicy::OnFailure),
    }
}

/// Reads the kinds of stored events that a filter names.
fn session_event_kinds(
    fields: &mut FieldReader,
    field: &str,
    numbers: &[i32],
) -> Option<Vec<PayloadKind>> {
    let mut kinds = Vec::new();
    for (index, number) in numbers.iter().enumerate() {
        match v1::PayloadKind::try_from(*number) {
            Ok(v1::PayloadKind::Unspecified) | Err(_) => {
                let field = format!("{field}[{index}]");
                let description = format!("{number} is not a kind of payload");
                fields.violation(&field, ViolationReason::UnknownValue, description);
            }
            Ok(kind) => kinds.extend(stored_kind(kind).filter(|kind| !kinds.contains(kind))),
        }
    }
    // A filter that names only kinds that are never stored matches nothing. No filter matches all.
    (!numbers.is_empty()).then_some(kinds)
}

fn stored_kind(kind: v1::PayloadKind) -> Option<PayloadKind> {
    use v1::PayloadKind as Wire;
    match kind {
        Wire::ToolCallStarted => Some(PayloadKind::ToolCallStarted),
        Wire::ToolOutput => Some(PayloadKind::ToolOutput),
        Wire::ToolProgress => Some(PayloadKind::ToolProgress),
        Wire::ToolOutputBlocked => Some(PayloadKind::ToolOutputBlocked),
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
        Wire::Unspecified => None,
        Wire::ToolCallAccepted => Some(PayloadKind::ToolCallAccepted),
        Wire::SessionUpdated => Some(PayloadKind::SessionUpdated),
        Wire::HistoryCompacted => Some(PayloadKind::HistoryCompacted),
        Wire::TurnResumed => Some(PayloadKind::TurnResumed),
    }
}

/// Reads a StreamSession.
pub(crate) fn stream_query(
    request: v1::StreamSessionRequest,
) -> Result<StreamQuery, InvalidRequest> {
    let mut fields = FieldReader::default();
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
        let description = "cannot be set together with start_after_sequence";
        fields.violation("from_now", ViolationReason::Conflict, description);
    }
    let kinds = session_event_kinds(&mut fields, "payloads", &payloads);
    let on_gap = match fields.choice::<v1::OnGap>("on_gap", on_gap) {
        v1::OnGap::Unspecified | v1::OnGap::Signal => GapPolicy::Signal,
        v1::OnGap::Fail => GapPolicy::Fail,
    };
    let follow = follow.unwrap_or(true);
    fields.finish(StreamQuery { session_id, after, from_now, stream_epoch, kinds, follow, on_gap })
}
