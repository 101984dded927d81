//! The result of a call for people: its output on the streams that it came from, all else as text.

use callpark_client::{
    OutputOptions, TaskHandle,
    v1::{
        Content, OutputStream, State, Task, ToolResult, content, resource, task::Outcome,
        tool_result,
    },
};
use futures::StreamExt as _;

use super::{
    json,
    labels::phrase,
    output::{Out, eprint_note},
    text::count,
    time::format_wire_span,
};
use crate::cli::error::Failure;

/// The parts of a result to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResultParts {
    All,
    /// All but the output, which has been printed as it arrived.
    NoOutput,
}

/// Prints the result of a finished task. Reads the output from `call` if the task holds only part
/// of it.
pub(crate) async fn print_task(
    out: &mut Out,
    task: &Task,
    call: &TaskHandle,
) -> Result<(), Failure> {
    print_outcome(out, task, call).await?;
    // The output of another task may follow.
    out.end_tool_output().await
}

async fn print_outcome(out: &mut Out, task: &Task, call: &TaskHandle) -> Result<(), Failure> {
    match &task.outcome {
        Some(Outcome::Result(result)) => {
            let output = result.output.as_ref();
            let mut parts = ResultParts::All;
            if output.is_some_and(|output| output.inline_truncated) {
                print_stream(out, call, OutputStream::Stdout).await?;
                print_stream(out, call, OutputStream::Stderr).await?;
                parts = ResultParts::NoOutput;
            }
            print_result(out, result, parts).await?;
        }
        Some(Outcome::Error(error)) => {
            // The output that was written before the task was lost.
            print_stream(out, call, OutputStream::Stdout).await?;
            print_stream(out, call, OutputStream::Stderr).await?;
            eprint_note(&format!("{}: {}", phrase(task.state()), error.message));
            return Ok(());
        }
        None => {}
    }
    eprint_end(task.state(), &task.reason, result_of(task));
    Ok(())
}

pub(crate) async fn print_result(
    out: &mut Out,
    result: &ToolResult,
    parts: ResultParts,
) -> Result<(), Failure> {
    for part in &result.content {
        match part.stream() {
            OutputStream::Unspecified => print_part(out, part).await?,
            OutputStream::Stdout | OutputStream::Stderr | OutputStream::Combined => {
                if parts == ResultParts::All {
                    print_output(out, part.stream(), output_bytes(part)).await?;
                }
            }
        }
    }
    // The output of a process is printed as it is, the text of another tool as lines.
    if result.exit.is_none() && !result.content.is_empty() {
        out.end_line().await?;
    }
    if let (true, Some(structured)) = (result.content.is_empty(), &result.structured) {
        out.json(&json::from_struct(structured)).await?;
    }
    if !result.error_message.is_empty() {
        eprint_note(&result.error_message);
    }
    eprint_killed(result);
    Ok(())
}

/// Prints a note if processes that were still running at the end of the call were killed.
fn eprint_killed(result: &ToolResult) {
    let count = result.killed_process_count;
    if count > 0 {
        let processes = if count == 1 { "process" } else { "processes" };
        eprint_note(&format!(
            "{count} {processes} killed at the end of the call: {}; to keep a server running, start \
             it in the foreground of a call of its own, with `callpark start`",
            result.killed_processes.join(", "),
        ));
    }
}

/// Prints how a call ended, unless its output and its exit code show it.
pub(crate) fn eprint_end(state: State, reason: &str, result: Option<&ToolResult>) {
    let text = match (state, result) {
        (State::Succeeded, _) => return,
        (State::Failed, result) => match result.and_then(|result| result.exit) {
            Some(tool_result::Exit::Signal(signal)) => format!("ended by signal {signal}"),
            Some(tool_result::Exit::ExitCode(_)) | None => return,
        },
        (_, Some(result)) if !reason.is_empty() && result.error_message == reason => return,
        (state, _) => state_and_reason(state, reason),
    };
    eprint_note(&text);
}

/// Returns a state with its reason, unless the reason repeats it.
fn state_and_reason(state: State, reason: &str) -> String {
    let state = phrase(state);
    match reason {
        "" => state,
        reason if reason.starts_with(&state) => reason.to_owned(),
        reason => format!("{state}: {reason}"),
    }
}

/// Returns the result of a task, or `None` if it has none.
pub(crate) fn result_of(task: &Task) -> Option<&ToolResult> {
    match &task.outcome {
        Some(Outcome::Result(result)) => Some(result),
        Some(Outcome::Error(_)) | None => None,
    }
}

/// Returns the state, the exit and the duration of a task in one line.
pub(crate) fn summary(task: &Task) -> String {
    let exit = match &task.outcome {
        Some(Outcome::Result(result)) => exit(result),
        Some(Outcome::Error(error)) => error.message.clone(),
        None => String::new(),
    };
    let parts = [phrase(task.state()), exit, format_wire_span(task.elapsed.as_ref())];
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join(", ")
}

/// Returns how a process ended, or an empty text if the call ran no process.
pub(crate) fn exit(result: &ToolResult) -> String {
    match result.exit {
        Some(tool_result::Exit::ExitCode(code)) => format!("exit code {code}"),
        Some(tool_result::Exit::Signal(signal)) => format!("signal {signal}"),
        None => String::new(),
    }
}

async fn print_stream(
    out: &mut Out,
    call: &TaskHandle,
    stream: OutputStream,
) -> Result<(), Failure> {
    let options = OutputOptions::new().with_stream(stream).with_follow(false);
    let mut chunks = std::pin::pin!(call.output(options));
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk?;
        eprint_dropped(chunk.skipped_bytes);
        print_output(out, stream, &chunk.data).await?;
    }
    Ok(())
}

/// Prints output of a command on the stream that it was written to.
pub(crate) async fn print_output(
    out: &mut Out,
    stream: OutputStream,
    data: &[u8],
) -> Result<(), Failure> {
    match stream {
        OutputStream::Stderr => out.tool_errors(data).await,
        OutputStream::Unspecified | OutputStream::Stdout | OutputStream::Combined => {
            out.tool_output(data).await?;
        }
    }
    Ok(())
}

/// Prints a note if output was dropped before the piece that follows.
pub(crate) fn eprint_dropped(bytes: i64) {
    if bytes > 0 {
        eprint_note(&format!("{} of output dropped here", count(bytes, "byte")));
    }
}

/// Returns the bytes of a part that is output of a command.
fn output_bytes(part: &Content) -> &[u8] {
    match &part.kind {
        Some(content::Kind::Text(text)) => text.as_bytes(),
        Some(content::Kind::Binary(binary)) => &binary.data,
        Some(content::Kind::Json(_) | content::Kind::Image(_) | content::Kind::Resource(_))
        | None => &[],
    }
}

async fn print_part(out: &mut Out, part: &Content) -> Result<(), Failure> {
    match &part.kind {
        Some(content::Kind::Text(text)) => print_text(out, text).await,
        Some(content::Kind::Json(value)) => out.json(&json::from_value(value)).await,
        Some(content::Kind::Image(image)) => out.data(&image.media_type, &image.data).await,
        Some(content::Kind::Binary(binary)) => out.data(&binary.media_type, &binary.data).await,
        Some(content::Kind::Resource(resource)) => match &resource.body {
            Some(resource::Body::Text(text)) => print_text(out, text).await,
            Some(resource::Body::Blob(data)) => out.data(&resource.media_type, data).await,
            None => out.line(&resource.uri).await,
        },
        // The contract asks clients to skip a kind that they do not know.
        None => Ok(()),
    }
}

/// Prints a text of a tool, and ends its last line.
async fn print_text(out: &mut Out, text: &str) -> Result<(), Failure> {
    out.tool_output(text.as_bytes()).await?;
    if text.ends_with('\n') || text.is_empty() { Ok(()) } else { out.bytes(b"\n").await }
}

#[cfg(test)]
mod tests {
    use callpark_client::{prost_types, v1::Binary};

    use super::*;

    #[test]
    fn output_is_the_same_bytes_as_text_and_as_binary() {
        let text = Content { kind: Some(content::Kind::Text("é".into())), ..Default::default() };
        assert_eq!(output_bytes(&text), "é".as_bytes());
        let binary = Binary { data: vec![0xff, 0].into(), ..Default::default() };
        let binary = Content { kind: Some(content::Kind::Binary(binary)), ..Default::default() };
        assert_eq!(output_bytes(&binary), [0xff, 0]);
    }

    #[test]
    fn a_reason_is_not_printed_twice() {
        let text = |reason: &str| state_and_reason(State::TimedOut, reason);
        assert_eq!(text(""), "timed out");
        assert_eq!(text("timed out after 0.5 s"), "timed out after 0.5 s");
        assert_eq!(text("no output"), "timed out: no output");
    }

    #[test]
    fn a_summary_has_state_exit_and_duration() {
        let result =
            ToolResult { exit: Some(tool_result::Exit::ExitCode(3)), ..Default::default() };
        let task = Task {
            state: State::Failed.into(),
            elapsed: Some(prost_types::Duration { seconds: 3, nanos: 200_000_000 }),
            outcome: Some(Outcome::Result(result)),
            ..Default::default()
        };
        assert_eq!(summary(&task), "failed, exit code 3, 3.2s");
        assert_eq!(
            summary(&Task { state: State::Pending.into(), ..Default::default() }),
            "pending"
        );
    }
}
