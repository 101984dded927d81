//! Tools and their results.

use callpark_proto::v1;

use super::{duration, struct_from_map, timestamp, value_from_json};
use crate::model::{
    Content, ContentKind, Exit, Outcome, OutputStream, OutputSummary, ResourceBody, StreamSummary,
    Timestamp, Tool, ToolKind, ToolResult, ToolSource,
};
use crate::tool::ProviderUnavailable;

/// A tool, for the wire.
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
        idle_timeout: None,
        requires_approval: false,
        output_schema: tool.output_schema.and_then(object),
    }
}

/// A provider that offers no tools now, for the wire.
pub(crate) fn unavailable(unavailable: ProviderUnavailable) -> v1::UnavailableSource {
    let ProviderUnavailable { provider, reason } = unavailable;
    let origin = v1::ToolOrigin::McpServer.into();
    v1::UnavailableSource {
        source: Some(v1::ToolSource { origin, name: provider }),
        message: reason,
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
        ToolKind::Worker => v1::Kind::Worker,
        ToolKind::BuiltIn => v1::Kind::BuiltIn,
    }
}

pub(super) fn stream(stream: OutputStream) -> v1::OutputStream {
    match stream {
        OutputStream::Stdout => v1::OutputStream::Stdout,
        OutputStream::Stderr => v1::OutputStream::Stderr,
    }
}

/// A count or an offset, for the wire.
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

pub(super) fn content(content: Content) -> v1::Content {
    use v1::content::Kind;
    let kind = match content.kind {
        ContentKind::Text(text) => Kind::Text(text),
        ContentKind::Json(json) => Kind::Json(value_from_json(json)),
        ContentKind::Image { media_type, data } => Kind::Image(v1::Image { media_type, data }),
        ContentKind::Binary { media_type, data } => Kind::Binary(v1::Binary { media_type, data }),
        ContentKind::Resource { uri, media_type, body } => {
            let body = body.map(|body| match body {
                ResourceBody::Text(text) => v1::resource::Body::Text(text),
                ResourceBody::Blob(data) => v1::resource::Body::Blob(data),
            });
            Kind::Resource(v1::Resource { uri, media_type, body })
        }
    };
    v1::Content {
        kind: Some(kind),
        stream: content.stream.map_or(v1::OutputStream::Unspecified, stream).into(),
        offset: signed(content.offset),
    }
}

/// A result, for the wire. Output is told of where there can be some: of processes.
pub(crate) fn tool_result(result: ToolResult) -> v1::ToolResult {
    use v1::tool_result::Exit as WireExit;
    let has_streams = result.exit.is_some();
    v1::ToolResult {
        content: result.content.into_iter().map(content).collect(),
        is_error: result.is_error,
        exit: result.exit.map(|exit| match exit {
            Exit::Code(code) => WireExit::ExitCode(code),
            Exit::Signal(signal) => WireExit::Signal(signal),
        }),
        error_message: result.error_message,
        output: has_streams.then(|| output_summary(result.output)),
        start_time: result.start_time.map(timestamp),
        end_time: (result.end_time != Timestamp::default()).then(|| timestamp(result.end_time)),
        structured: result.structured.map(|map| struct_from_map(*map)),
    }
}

/// The result of a call that ended with one, for the wire.
pub(crate) fn outcome_result(outcome: Outcome) -> Result<v1::ToolResult, crate::model::Failure> {
    match outcome {
        Outcome::Result(result) => Ok(tool_result(result)),
        Outcome::Failure(failure) => Err(failure),
    }
}
