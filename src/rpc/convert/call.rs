//! Requests that start a call.

use bytes::Bytes;
use callpark_proto::v1;
use prost::Message as _;

use super::field::{Fingerprint, fingerprint};
use super::json::map_from_struct;
use super::policy::{follow_up_policy, on_disconnect_policy};
use super::turn_request::turn;
use super::{FieldReader, InvalidRequest, ViolationReason};
use crate::engine::{CallRequest, TurnRequest};
use crate::machine::Concurrency;
use crate::model::limits::{
    ARGUMENTS_BYTES_MAX, OUTPUT_BYTES_MAX, STDIN_BYTES_MAX, TEXT_BYTES_MAX,
};

/// Work to start in the background.
pub(crate) enum BackgroundWork {
    Call(Box<CallRequest>),
    Turn(Box<TurnRequest>),
}

/// Reads a call in the foreground, of RunTool or StreamTool. One request id means one call for both.
pub(crate) fn call_request(mut request: v1::RunToolRequest) -> Result<CallRequest, InvalidRequest> {
    let (request_id, digest) = fingerprint!("RunTool", request);
    let mut fields = FieldReader::default();
    let call = tool_call(&mut fields, "", request);
    let request = fields.request_id("request_id", request_id, digest);
    fields.finish(CallRequest { request, ..call })
}

/// Reads work for the background.
pub(crate) fn start_request(
    mut request: v1::StartRequest,
) -> Result<BackgroundWork, InvalidRequest> {
    use v1::start_request::Work;
    let request_id = match &mut request.work {
        Some(Work::ToolCall(call)) => std::mem::take(&mut call.request_id),
        Some(Work::Turn(turn)) => std::mem::take(&mut turn.request_id),
        None => String::new(),
    };
    let digest = Fingerprint::of("Start", &request, &request_id);
    let mut fields = FieldReader::default();
    let v1::StartRequest { concurrency, work } = request;
    let concurrency = match fields.choice::<v1::Concurrency>("concurrency", concurrency) {
        v1::Concurrency::Unspecified | v1::Concurrency::Allow => Concurrency::Allow,
        v1::Concurrency::Reject => Concurrency::Reject,
        v1::Concurrency::Queue => Concurrency::Queue,
        v1::Concurrency::Replace => Concurrency::Replace,
    };
    let work = match work {
        Some(Work::ToolCall(call)) => {
            foreground_only(&mut fields, "tool_call.", call.call_budget, call.on_disconnect);
            let request = fields.request_id("tool_call.request_id", request_id, digest);
            let call = tool_call(&mut fields, "tool_call.", call);
            let call = CallRequest { request, concurrency, background: true, ..call };
            BackgroundWork::Call(Box::new(call))
        }
        Some(Work::Turn(prompt)) => {
            foreground_only(&mut fields, "turn.", prompt.call_budget, prompt.on_disconnect);
            let request = fields.request_id("turn.request_id", request_id, digest);
            let turn = turn(&mut fields, "turn.", prompt, Some(concurrency));
            BackgroundWork::Turn(Box::new(TurnRequest { request, ..turn }))
        }
        None => {
            fields.violation("work", ViolationReason::Required, "tool_call or turn must be set");
            BackgroundWork::Call(Box::default())
        }
    };
    fields.finish(work)
}

/// Refuses the options of foreground calls for work that starts in the background.
fn foreground_only(
    fields: &mut FieldReader,
    path: &str,
    call_budget: Option<prost_types::Duration>,
    on_disconnect: i32,
) {
    let conflict = ViolationReason::Conflict;
    if call_budget.is_some_and(|budget| budget.seconds != 0 || budget.nanos != 0) {
        let description = "must be unset or 0: Start always parks at once";
        fields.violation(format!("{path}call_budget"), conflict, description);
    }
    if on_disconnect != 0 {
        let description = "must be unset: a task that Start starts has no caller to lose";
        fields.violation(format!("{path}on_disconnect"), conflict, description);
    }
}

/// Reads a call without its request id. `path` is the prefix of its fields in violations.
fn tool_call(fields: &mut FieldReader, path: &str, request: v1::RunToolRequest) -> CallRequest {
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
        stdin,
    } = request;
    let at = |name: &str| format!("{path}{name}");
    CallRequest {
        session_id: fields.session_id(&at("session_id"), &session_id),
        tool: fields.required(&at("tool"), tool),
        arguments: arguments_map(fields, &at("arguments"), arguments.unwrap_or_default()),
        description: fields.text(&at("description"), description, TEXT_BYTES_MAX),
        call_budget: fields.span(&at("call_budget"), call_budget),
        execution_timeout: fields.positive_span(&at("execution_timeout"), execution_timeout),
        idle_timeout: fields.positive_span(&at("idle_timeout"), idle_timeout),
        on_disconnect: on_disconnect_policy(fields, &at("on_disconnect"), on_disconnect),
        follow_up: follow_up_policy(fields, &at("follow_up"), follow_up),
        detached,
        max_output_bytes: kept_output(fields, &at("max_output_bytes"), max_output_bytes),
        labels: fields.labels(&at("labels"), labels),
        dry_run,
        stdin: standard_input(fields, &at("stdin"), stdin),
        ..CallRequest::default()
    }
}

fn arguments_map(
    fields: &mut FieldReader,
    path: &str,
    arguments: prost_types::Struct,
) -> serde_json::Map<String, serde_json::Value> {
    let size = arguments.encoded_len();
    if size <= ARGUMENTS_BYTES_MAX {
        return map_from_struct(fields, path, arguments);
    }
    let description = format!("must be at most {ARGUMENTS_BYTES_MAX} bytes, but has {size}");
    fields.violation(path, ViolationReason::TooLarge, description);
    serde_json::Map::new()
}

fn standard_input(fields: &mut FieldReader, path: &str, data: Bytes) -> Bytes {
    let size = data.len();
    if size > STDIN_BYTES_MAX {
        let description = format!(
            "must be at most {STDIN_BYTES_MAX} bytes, but has {size}: put the data into a file"
        );
        fields.violation(path, ViolationReason::TooLarge, description);
    }
    data
}

fn kept_output(fields: &mut FieldReader, path: &str, bytes: Option<i64>) -> Option<u64> {
    let bytes = fields.unsigned(path, bytes?);
    if bytes > OUTPUT_BYTES_MAX {
        let description = format!("must be at most {OUTPUT_BYTES_MAX}");
        fields.violation(path, ViolationReason::OutOfRange, description);
    }
    Some(bytes)
}
