//! Requests that start a call.

use callpark_proto::v1;

use super::field::{Fingerprint, fingerprint};
use super::json::map_from_struct;
use super::turn_request::agent_turn;
use super::{Fields, Invalid};
use crate::engine::{CallRequest, TurnRequest};
use crate::machine::Concurrency;
use crate::model::limits::{ARGUMENTS_BYTES_MAX, OUTPUT_BYTES_MAX, TEXT_BYTES_MAX};
use crate::model::{FollowUpPolicy, OnDisconnect};

/// Work to start in the background.
pub(crate) enum StartCall {
    /// A call of a tool.
    Call(Box<CallRequest>),
    /// A turn of an agent.
    Turn(Box<TurnRequest>),
}

/// A call in the foreground, from the wire.
pub(crate) fn call_request(mut request: v1::RunToolRequest) -> Result<CallRequest, Invalid> {
    let (request_id, digest) = fingerprint!("RunTool", request);
    let mut fields = Fields::default();
    let call = foreground(&mut fields, request, request_id, digest);
    fields.finish(call)
}

/// The same of a stream. It has the same fields, and one id means one call for both methods.
pub(crate) fn stream_request(request: v1::StreamToolRequest) -> Result<CallRequest, Invalid> {
    let v1::StreamToolRequest {
        session_id,
        tool,
        arguments,
        request_id,
        call_budget,
        execution_timeout,
        idle_timeout,
        on_disconnect,
        follow_up,
        detached,
        max_output_bytes,
        labels,
        dry_run,
        description,
    } = request;
    call_request(v1::RunToolRequest {
        session_id,
        tool,
        arguments,
        request_id,
        call_budget,
        execution_timeout,
        idle_timeout,
        on_disconnect,
        follow_up,
        detached,
        max_output_bytes,
        labels,
        dry_run,
        description,
    })
}

fn foreground(
    fields: &mut Fields,
    request: v1::RunToolRequest,
    request_id: String,
    digest: Fingerprint,
) -> CallRequest {
    let v1::RunToolRequest {
        session_id,
        tool,
        arguments,
        request_id: _,
        call_budget,
        execution_timeout,
        idle_timeout,
        on_disconnect,
        follow_up,
        detached,
        max_output_bytes,
        labels,
        dry_run,
        description,
    } = request;
    let on_disconnect = match fields.choice::<v1::OnDisconnect>("on_disconnect", on_disconnect) {
        v1::OnDisconnect::Unspecified | v1::OnDisconnect::Park => OnDisconnect::Park,
        v1::OnDisconnect::Cancel => OnDisconnect::Cancel,
    };
    let work = v1::ToolCall {
        tool,
        arguments,
        description,
        execution_timeout,
        idle_timeout,
        follow_up,
        detached,
        max_output_bytes,
        labels,
    };
    CallRequest {
        session_id: fields.session_id("session_id", &session_id),
        call_budget: fields.span("call_budget", call_budget),
        on_disconnect,
        request: fields.request_id(request_id, digest),
        dry_run,
        ..tool_call(fields, "", work)
    }
}

/// Work for the background, from the wire.
pub(crate) fn work_request(mut request: v1::StartRequest) -> Result<StartCall, Invalid> {
    let (request_id, digest) = fingerprint!("Start", request);
    let mut fields = Fields::default();
    let v1::StartRequest { session_id, request_id: _, concurrency, work, dry_run } = request;
    let concurrency = match fields.choice::<v1::Concurrency>("concurrency", concurrency) {
        v1::Concurrency::Unspecified | v1::Concurrency::Allow => Concurrency::Allow,
        v1::Concurrency::Reject => Concurrency::Reject,
        v1::Concurrency::Queue => Concurrency::Queue,
        v1::Concurrency::Replace => Concurrency::Replace,
    };
    let session_id = fields.session_id("session_id", &session_id);
    let request = fields.request_id(request_id, digest);
    let work = match work {
        Some(v1::start_request::Work::ToolCall(call)) => StartCall::Call(Box::new(CallRequest {
            session_id,
            request,
            dry_run,
            concurrency,
            background: true,
            ..tool_call(&mut fields, "tool_call.", call)
        })),
        Some(v1::start_request::Work::AgentTurn(turn)) => StartCall::Turn(Box::new(TurnRequest {
            session_id,
            request,
            dry_run,
            ..agent_turn(&mut fields, turn, concurrency)
        })),
        None => {
            fields.fault("work", "tool_call or agent_turn must be set");
            StartCall::Call(Box::default())
        }
    };
    fields.finish(work)
}

/// What a call is, wherever it runs. `path` stands before the names of its fields.
fn tool_call(fields: &mut Fields, path: &str, call: v1::ToolCall) -> CallRequest {
    use prost::Message as _;
    let v1::ToolCall {
        tool,
        arguments,
        description,
        execution_timeout,
        idle_timeout,
        follow_up,
        detached,
        max_output_bytes,
        labels,
    } = call;
    let at = |name: &str| format!("{path}{name}");
    let arguments = arguments.unwrap_or_default();
    let arguments = if arguments.encoded_len() > ARGUMENTS_BYTES_MAX {
        let size = arguments.encoded_len();
        let fault = format!("must be at most {ARGUMENTS_BYTES_MAX} bytes, has {size}");
        fields.fault(&at("arguments"), fault);
        serde_json::Map::new()
    } else {
        map_from_struct(fields, &at("arguments"), arguments)
    };
    let follow_up = follow_up_policy(fields, &at("follow_up"), follow_up);
    let max_output_bytes =
        max_output_bytes.map(|bytes| fields.unsigned(&at("max_output_bytes"), bytes));
    if max_output_bytes.is_some_and(|bytes| bytes > OUTPUT_BYTES_MAX) {
        fields.fault(&at("max_output_bytes"), format!("must be at most {OUTPUT_BYTES_MAX}"));
    }
    CallRequest {
        tool: fields.required(&at("tool"), tool),
        arguments,
        description: fields.text(&at("description"), description, TEXT_BYTES_MAX),
        execution_timeout: fields.positive_span(&at("execution_timeout"), execution_timeout),
        idle_timeout: fields.positive_span(&at("idle_timeout"), idle_timeout),
        follow_up,
        detached,
        max_output_bytes,
        labels: fields.labels(&at("labels"), labels),
        ..CallRequest::default()
    }
}

/// When the end of a task must be told.
pub(super) fn follow_up_policy(fields: &mut Fields, path: &str, number: i32) -> FollowUpPolicy {
    match fields.choice::<v1::FollowUpPolicy>(path, number) {
        v1::FollowUpPolicy::Unspecified | v1::FollowUpPolicy::None => FollowUpPolicy::None,
        v1::FollowUpPolicy::OnFinish => FollowUpPolicy::OnFinish,
        v1::FollowUpPolicy::OnFailure => FollowUpPolicy::OnFailure,
    }
}
