//! Conversions of tools and results.

use callpark_proto::v1;

use super::{duration, struct_from_map, timestamp, value_from_json};
use crate::model::{
    Call, Content, ContentKind, EndReason, Exit, Origin, Outcome, OutputStream, OutputSummary,
    ResourceBody, ResourceLink, StreamSummary, Timestamp, Tool, ToolKind, ToolResult, ToolSource,
};
use crate::redact::redacted;
use crate::tool::ProviderUnavailable;

/// Converts a tool.
pub(crate) fn tool(tool: Tool) -> v1::Tool {
    let (origin, name) = match tool.source {
        ToolSource::BuiltIn => (v1::ToolOrigin::BuiltIn, String::new()),
        ToolSource::Config => (v1::ToolOrigin::Config, String::new()),
        ToolSource::McpServer(name) => (v1::ToolOrigin::McpServer, name),
    };
    v1::Tool {
        name: tool.name,
        description: tool.description,
        input_schema: object(tool.input_schema),
        kind: kind(tool.kind).into(),
        read_only: tool.read_only,
        destructive: tool.destructive,
        idempotent: tool.idempotent,
        concurrent_safe: tool.concurrent_safe,
        call_budget: tool.call_budget.map(duration),
        execution_timeout: tool.execution_timeout.map(duration),
        source: Some(v1::ToolSource { origin: origin.into(), name }),
        output_schema: tool.output_schema.and_then(object),
        arguments_unchecked: tool.arguments_unchecked,
        warnings: tool.warnings,
    }
}

/// Converts a tool for a list without schemas.
pub(crate) fn summary_tool(summary: Tool) -> v1::Tool {
    tool(Tool { input_schema: serde_json::Value::Null, output_schema: None, ..summary })
}

/// Converts a provider that offers no tools at the moment.
pub(crate) fn unavailable(unavailable: ProviderUnavailable) -> v1::UnavailableSource {
    let ProviderUnavailable { provider, reason } = unavailable;
    let origin = v1::ToolOrigin::McpServer.into();
    v1::UnavailableSource {
        source: Some(v1::ToolSource { origin, name: provider }),
        message: redacted(&reason),
    }
}

fn object(value: serde_json::Value) -> Option<prost_types::Struct> {
    match value {
        serde_json::Value::Object(map) => Some(struct_from_map(map)),
        _ => None,
    }
}

pub(super) fn kind(kind: ToolKind) -> v1::Kind {
    match kind {
        ToolKind::Command => v1::Kind::Command,
        ToolKind::Mcp => v1::Kind::Mcp,
        ToolKind::Agent => v1::Kind::Agent,
        ToolKind::BuiltIn => v1::Kind::BuiltIn,
    }
}

pub(super) fn stream(stream: OutputStream) -> v1::OutputStream {
    match stream {
        OutputStream::Stdout => v1::OutputStream::Stdout,
        OutputStream::Stderr => v1::OutputStream::Stderr,
    }
}

/// Converts a count or an offset.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn stream_summary(summary: StreamSummary) -> v1::StreamSummary {
    v1::StreamSummary {
        total_bytes: signed(summary.total_bytes),
        kept_bytes: signed(summary.kept_bytes),
        dropped_bytes: signed(summary.dropped_bytes),
        cut_offset: summary.cut_offset.map(signed),
    }
}

pub(super) fn output_summary(summary: OutputSummary) -> v1::OutputSummary {
    v1::OutputSummary {
        stdout: Some(stream_summary(summary.stdout)),
        stderr: Some(stream_summary(summary.stderr)),
        combined: Some(stream_summary(summary.combined)),
        inline_truncated: summary.inline_truncated,
        incomplete: summary.incomplete,
    }
}

pub(super) fn content(content: Content, origin: Origin) -> v1::Content {
    use v1::content::Kind;
    let kind = match content.kind {
        ContentKind::Text(text) => Kind::Text(text),
        ContentKind::Json(json) => Kind::Json(value_from_json(json)),
        ContentKind::Image { media_type, data } => Kind::Image(v1::Image { media_type, data }),
        ContentKind::Binary { media_type, data } => Kind::Binary(v1::Binary { media_type, data }),
        ContentKind::Resource { uri, media_type, body, link } => {
            let body = body.map(|body| match body {
                ResourceBody::Text(text) => v1::resource::Body::Text(text),
                ResourceBody::Blob(data) => v1::resource::Body::Blob(data),
            });
            let link = link.map(|link| resource_link(*link));
            Kind::Resource(v1::Resource { uri, media_type, body, link })
        }
    };
    v1::Content {
        kind: Some(kind),
        stream: content.stream.map_or(v1::OutputStream::Unspecified, stream).into(),
        offset: signed(content.offset),
        origin: self::origin(origin).into(),
    }
}

fn resource_link(link: ResourceLink) -> v1::ResourceLink {
    let ResourceLink { name, title, description, size_bytes, audience, priority, last_modified } =
        link;
    let size_bytes = size_bytes.map(signed);
    v1::ResourceLink { name, title, description, size_bytes, audience, priority, last_modified }
}

/// Converts a result that `author` wrote. Only results of processes have a summary of their output,
/// unless content is left out.
pub(crate) fn tool_result(
    result: ToolResult,
    author: Origin,
    end_reason: Option<EndReason>,
) -> v1::ToolResult {
    use v1::tool_result::Exit as WireExit;
    let has_streams = result.exit.is_some();
    let left = result.left.map(|left| *left).unwrap_or_default();
    v1::ToolResult {
        content: result.content.into_iter().map(|part| content(part, author)).collect(),
        is_error: result.is_error,
        exit: result.exit.map(|exit| match exit {
            Exit::Code(code) => WireExit::ExitCode(code),
            Exit::Signal(signal) => WireExit::Signal(signal),
        }),
        error_message: result.error_message,
        output: match (has_streams, result.output.inline_truncated) {
            (true, _) => Some(output_summary(result.output)),
            (false, true) => {
                Some(v1::OutputSummary { inline_truncated: true, ..Default::default() })
            }
            (false, false) => None,
        },
        start_time: result.start_time.map(timestamp),
        end_time: (result.end_time != Timestamp::default()).then(|| timestamp(result.end_time)),
        structured: result.structured.map(|map| struct_from_map(*map)),
        end_reason: self::end_reason(end_reason).into(),
        killed_processes: left.programs,
        killed_process_count: i32::try_from(left.count).unwrap_or(i32::MAX),
    }
}

/// Converts the outcome of a call that ended in the foreground, or returns `None` if there is none. A
/// call that was lost becomes a failed result: clients would repeat a retryable error forever.
pub(crate) fn foreground_result(call: Call) -> Option<v1::ToolResult> {
    let (author, reason) = (call.result_author(), call.end_reason());
    Some(match call.outcome? {
        Outcome::Result(result) => tool_result(result, author, reason),
        Outcome::Failure(failure) => v1::ToolResult {
            is_error: true,
            error_message: failure.message,
            end_reason: end_reason(reason).into(),
            ..Default::default()
        },
    })
}

/// Converts the reason for the end of a call.
pub(super) fn end_reason(reason: Option<EndReason>) -> v1::EndReason {
    match reason {
        None => v1::EndReason::Unspecified,
        Some(EndReason::Completed) => v1::EndReason::Completed,
        Some(EndReason::ExitCode) => v1::EndReason::ExitCode,
        Some(EndReason::Signal) => v1::EndReason::Signal,
        Some(EndReason::SpawnFailed) => v1::EndReason::SpawnFailed,
        Some(EndReason::ToolError) => v1::EndReason::ToolError,
        Some(EndReason::TurnError) => v1::EndReason::TurnError,
        Some(EndReason::ExecutionTimeout) => v1::EndReason::ExecutionTimeout,
        Some(EndReason::IdleTimeout) => v1::EndReason::IdleTimeout,
        Some(EndReason::CancelledByRequest) => v1::EndReason::CancelledByRequest,
        Some(EndReason::CallerGone) => v1::EndReason::CallerGone,
        Some(EndReason::Evicted) => v1::EndReason::Evicted,
        Some(EndReason::Replaced) => v1::EndReason::Replaced,
        Some(EndReason::SessionClosed) => v1::EndReason::SessionClosed,
        Some(EndReason::ServerLost) => v1::EndReason::ServerLost,
    }
}

/// Converts the author of a content.
pub(super) fn origin(origin: Origin) -> v1::Origin {
    match origin {
        Origin::Person => v1::Origin::Person,
        Origin::Tool => v1::Origin::Tool,
        Origin::Callpark => v1::Origin::Callpark,
        Origin::Model => v1::Origin::Model,
    }
}
