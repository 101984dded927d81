//! Conversions of background tasks.

use std::time::Duration;

use callpark_proto::v1::ErrorReason;
use callpark_proto::{google, v1};
use prost::Message as _;

use super::tool::{content, end_reason, kind, output_summary, signed};
use super::{duration, timestamp, tool_result};
use crate::agent::prompts;
use crate::model::limits::{LIST_CONTENT_BYTES_MAX, PAGE_BYTES_MAX, WAIT_SECONDS_DEFAULT};
use crate::model::{
    Call, Cancellation, Content, Failure, FailureCode, FollowUpPolicy, Origin, Outcome,
    OutputSummary, ParkReason, Progress, State, Timestamp, ToolKind, Usage,
};
use crate::rpc::status::{error_info, reason_name};

pub(super) fn state(state: State) -> v1::State {
    match state {
        State::Pending => v1::State::Pending,
        State::Running => v1::State::Running,
        State::Cancelling => v1::State::Cancelling,
        State::Succeeded => v1::State::Succeeded,
        State::Failed => v1::State::Failed,
        State::TimedOut => v1::State::TimedOut,
        State::Cancelled => v1::State::Cancelled,
        State::Lost => v1::State::Lost,
    }
}

pub(super) fn state_from_wire(state: v1::State) -> Option<State> {
    Some(match state {
        v1::State::Unspecified => return None,
        v1::State::Pending => State::Pending,
        v1::State::Running => State::Running,
        v1::State::Cancelling => State::Cancelling,
        v1::State::Succeeded => State::Succeeded,
        v1::State::Failed => State::Failed,
        v1::State::TimedOut => State::TimedOut,
        v1::State::Cancelled => State::Cancelled,
        v1::State::Lost => State::Lost,
    })
}

pub(super) fn kind_from_wire(kind: v1::Kind) -> Option<ToolKind> {
    Some(match kind {
        v1::Kind::Unspecified => return None,
        v1::Kind::Command => ToolKind::Command,
        v1::Kind::Mcp => ToolKind::Mcp,
        v1::Kind::Agent => ToolKind::Agent,
        v1::Kind::BuiltIn => ToolKind::BuiltIn,
    })
}

pub(super) fn park_reason(reason: ParkReason) -> v1::ParkReason {
    match reason {
        ParkReason::Budget => v1::ParkReason::Budget,
        ParkReason::Deadline => v1::ParkReason::Deadline,
        ParkReason::Disconnected => v1::ParkReason::Disconnected,
        ParkReason::BackgroundStart => v1::ParkReason::BackgroundStart,
        ParkReason::ServerStopping => v1::ParkReason::ServerStopping,
    }
}

pub(super) fn park_reason_from_wire(reason: v1::ParkReason) -> Option<ParkReason> {
    Some(match reason {
        v1::ParkReason::Unspecified => return None,
        v1::ParkReason::Budget => ParkReason::Budget,
        v1::ParkReason::Deadline => ParkReason::Deadline,
        v1::ParkReason::Disconnected => ParkReason::Disconnected,
        v1::ParkReason::BackgroundStart => ParkReason::BackgroundStart,
        v1::ParkReason::ServerStopping => ParkReason::ServerStopping,
    })
}

pub(super) fn follow_up_policy(policy: FollowUpPolicy) -> v1::FollowUpPolicy {
    match policy {
        FollowUpPolicy::None => v1::FollowUpPolicy::None,
        FollowUpPolicy::OnFinish => v1::FollowUpPolicy::OnFinish,
        FollowUpPolicy::OnFailure => v1::FollowUpPolicy::OnFailure,
    }
}

pub(super) fn progress(progress: Progress) -> v1::Progress {
    v1::Progress { done: progress.done, total: progress.total, message: progress.message }
}

/// Converts the usage of models.
pub(crate) fn usage(usage: Usage) -> v1::Usage {
    v1::Usage {
        input_tokens: signed(usage.input_tokens),
        cached_input_tokens: signed(usage.cached_input_tokens),
        output_tokens: signed(usage.output_tokens),
        requests: signed(usage.requests),
        cost_usd: usage.cost_usd,
    }
}

fn cancellation(cancellation: Cancellation) -> v1::Cancellation {
    v1::Cancellation {
        request_time: Some(timestamp(cancellation.request_time)),
        requested_by: cancellation.requested_by,
        reason: cancellation.reason,
        acknowledged_time: cancellation.acknowledged_time.map(timestamp),
    }
}

/// Converts the failure of a call that has no result.
pub(super) fn failure(failure: Failure) -> google::rpc::Status {
    let (code, reason) = match failure.code {
        FailureCode::HostLost => (tonic::Code::Unavailable, ErrorReason::ServerLost),
    };
    let details = vec![error_info(reason_name(reason))];
    google::rpc::Status { code: code.into(), message: failure.message, details }
}

/// Converts a task as of `now`.
pub(crate) fn task(call: Call, now: Timestamp) -> v1::Task {
    task_with_summary(call, None, now)
}

/// Converts a task. `summary` is the amount of output of a running one.
pub(crate) fn task_with_summary(
    call: Call,
    summary: Option<OutputSummary>,
    now: Timestamp,
) -> v1::Task {
    let elapsed = call.start_time.map(|_| duration(call.elapsed(now)));
    let has_streams = call.kind == ToolKind::Command;
    let (author, reason) = (call.result_author(), call.end_reason());
    let (outcome, ended) = match call.outcome {
        None => (None, None),
        Some(Outcome::Failure(lost)) => (Some(v1::task::Outcome::Error(failure(lost))), None),
        Some(Outcome::Result(result)) => {
            let output = result.output;
            let result = tool_result(result, author, reason);
            (Some(v1::task::Outcome::Result(result)), Some(output))
        }
    };
    v1::Task {
        background_id: call.id.background(),
        session_id: call.session_id.to_string(),
        call_id: call.id.to_string(),
        tool: call.tool,
        kind: kind(call.kind).into(),
        description: call.description,
        state: state(call.state).into(),
        reason: call.reason,
        create_time: Some(timestamp(call.create_time)),
        start_time: call.start_time.map(timestamp),
        park_time: call.park_time.map(timestamp),
        end_time: call.end_time.map(timestamp),
        update_time: Some(timestamp(call.update_time)),
        expire_time: call.expire_time.map(timestamp),
        elapsed,
        attempt: i32::try_from(call.attempt).unwrap_or(i32::MAX),
        parent_background_id: call.parent.map(|id| id.background()).unwrap_or_default(),
        progress: call.progress.map(progress),
        outcome,
        usage: call.usage.map(usage),
        cancellation: call.cancellation.map(cancellation),
        output: summary.or(ended).filter(|_| has_streams).map(output_summary),
        labels: call.labels,
        detached: call.policy.detached,
        revision: signed(call.revision),
        call_budget: call.policy.call_budget.map(duration),
        execution_timeout: call.policy.execution_timeout.map(duration),
        park_reason: call.park_reason.map_or(v1::ParkReason::Unspecified, park_reason).into(),
        follow_up: follow_up_policy(call.policy.follow_up).into(),
        end_reason: end_reason(reason).into(),
        idle_timeout: call.policy.idle_timeout.map(duration),
        // Known to the engine, and not part of the record.
        shim_pid: 0,
    }
}

/// Converts a task for a list. The content of its result is left out unless it is short, so that a
/// page of a thousand tasks fits into one answer.
pub(crate) fn summary_task(mut call: Call, now: Timestamp) -> v1::Task {
    if let Some(Outcome::Result(result)) = &mut call.outcome
        && result.size_bytes() > LIST_CONTENT_BYTES_MAX
    {
        result.content.clear();
        result.structured = None;
        result.output.inline_truncated = true;
    }
    task(call, now)
}

/// Converts the tasks of an answer that cannot continue on another page: as for a list, and with
/// their whole results as long as the answer fits a page.
pub(crate) fn fit_tasks(calls: Vec<Call>, now: Timestamp) -> Vec<v1::Task> {
    let summaries = calls.iter().map(|call| summary_task(call.clone(), now));
    let mut tasks: Vec<v1::Task> = summaries.collect();
    let short: usize = tasks.iter().map(prost::Message::encoded_len).sum();
    let mut room = PAGE_BYTES_MAX.saturating_sub(short);
    for (shown, call) in tasks.iter_mut().zip(calls) {
        let whole = task(call, now);
        let more = whole.encoded_len().saturating_sub(shown.encoded_len());
        if more <= room {
            room -= more;
            *shown = whole;
        }
    }
    tasks
}

/// Converts a call that was parked.
pub(crate) fn parked_call(
    call: Call,
    summary: Option<OutputSummary>,
    now: Timestamp,
) -> v1::ParkedCall {
    v1::ParkedCall {
        r#type: "background".into(),
        tool: call.tool.clone(),
        call_budget: call.policy.call_budget.map(duration),
        background_id: call.id.background(),
        message: prompts::parked_message(&call, now),
        suggested_wait: Some(duration(Duration::from_secs(WAIT_SECONDS_DEFAULT))),
        task: Some(task_with_summary(call, summary, now)),
    }
}

/// Converts the last lines of a task's output.
pub(crate) fn output_tail(tail: Vec<Content>, dropped_bytes: u64) -> v1::OutputTail {
    v1::OutputTail {
        content: tail.into_iter().map(|part| content(part, Origin::Tool)).collect(),
        dropped_bytes: signed(dropped_bytes),
    }
}
