//! Calls and what they give.

use callpark_proto::v1;
use prost_types::{Struct, Value, value::Kind};

/// Arguments with text values.
pub fn arguments(pairs: &[(&str, &str)]) -> Option<Struct> {
    let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
    let fields = pairs.iter().map(|(key, value)| ((*key).to_owned(), text(value))).collect();
    Some(Struct { fields })
}

/// A call of `bash`.
pub fn bash(command: &str) -> v1::RunToolRequest {
    v1::RunToolRequest {
        tool: "bash".into(),
        arguments: arguments(&[("command", command)]),
        ..Default::default()
    }
}

/// A call of `python`.
pub fn python(code: &str) -> v1::RunToolRequest {
    v1::RunToolRequest {
        tool: "python".into(),
        arguments: arguments(&[("code", code)]),
        ..Default::default()
    }
}

/// The result of a call that ended within its budget.
#[track_caller]
pub fn result_of(answer: &v1::RunToolResponse) -> &v1::ToolResult {
    match &answer.outcome {
        Some(v1::run_tool_response::Outcome::Result(result)) => result,
        other => panic!("no result but {other:?}"),
    }
}

/// Returns the standard output in a result.
pub fn stdout_of(result: &v1::ToolResult) -> Vec<u8> {
    stream_of(result, v1::OutputStream::Stdout)
}

/// Returns the standard error in a result.
pub fn stderr_of(result: &v1::ToolResult) -> Vec<u8> {
    stream_of(result, v1::OutputStream::Stderr)
}

fn stream_of(result: &v1::ToolResult, stream: v1::OutputStream) -> Vec<u8> {
    use v1::content::Kind;
    let of = |content: &&v1::Content| content.stream() == stream;
    let bytes = |content: &v1::Content| match &content.kind {
        Some(Kind::Text(text)) => text.clone().into_bytes(),
        Some(Kind::Binary(binary)) => binary.data.to_vec(),
        other => panic!("no output but {other:?}"),
    };
    result.content.iter().filter(of).flat_map(bytes).collect()
}
