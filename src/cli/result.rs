//! What a call gave back, for people: its output to the streams it came from, all else in words.

use callpark_client::{
    OutputOptions, TaskHandle,
    v1::{
        Content, OutputStream, State, Task, ToolResult, content, resource, task::Outcome,
        tool_result,
    },
};
use futures::StreamExt as _;

use super::{
    failure::Failure,
    json,
    output::{Out, stderr_bytes, tell},
    time, words,
};

/// Which parts of a result to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parts {
    /// All of them.
    All,
    /// Not the output, which has been printed as it came.
    NoOutput,
}

/// Prints what a task that has ended gave back. `call`: where to read output that the task itself
/// has only the ends of.
pub(crate) async fn print_task(
    out: &mut Out,
    task: &Task,
    call: &TaskHandle,
) -> Result<(), Failure> {
    match &task.outcome {
        Some(Outcome::Result(result)) => {
            let is_cut = result.output.as_ref().is_some_and(|output| output.inline_truncated);
            if is_cut {
                print_stream(out, call, OutputStream::Stdout).await?;
                print_stream(out, call, OutputStream::Stderr).await?;
            }
            print_result(out, result, if is_cut { Parts::NoOutput } else { Parts::All }).await?;
        }
        Some(Outcome::Error(error)) => {
            // What it had written before it was lost.
            print_stream(out, call, OutputStream::Stdout).await?;
            print_stream(out, call, OutputStream::Stderr).await?;
            tell(&format!("callpark: {}: {}", words::state(task.state()), error.message));
            return Ok(());
        }
        None => {}
    }
    tell_end(task.state(), &task.reason, result_of(task));
    Ok(())
}

/// Prints a result.
pub(crate) async fn print_result(
    out: &mut Out,
    result: &ToolResult,
    parts: Parts,
) -> Result<(), Failure> {
    for part in &result.content {
        match part.stream() {
            OutputStream::Unspecified => print_part(out, part).await?,
            _ if parts == Parts::NoOutput => {}
            OutputStream::Stderr => stderr_bytes(output_bytes(part)).await,
            OutputStream::Stdout | OutputStream::Combined => out.bytes(output_bytes(part)).await?,
        }
    }
    if let (true, Some(structured)) = (result.content.is_empty(), &result.structured) {
        out.json(&json::from_struct(structured), true).await?;
    }
    if !result.error_message.is_empty() {
        tell(&format!("callpark: {}", result.error_message));
    }
    Ok(())
}

/// Says how a call ended, where its output and exit code don't.
pub(crate) fn tell_end(state: State, reason: &str, result: Option<&ToolResult>) {
    let text = match state {
        State::Succeeded => return,
        State::Failed => match result.and_then(|result| result.exit) {
            Some(tool_result::Exit::Signal(signal)) => format!("ended by signal {signal}"),
            Some(tool_result::Exit::ExitCode(_)) | None => return,
        },
        // The result has said so itself.
        _ if result.is_some_and(|result| !reason.is_empty() && result.error_message == reason) => {
            return;
        }
        _ => state_and_reason(state, reason),
    };
    tell(&format!("callpark: {text}"));
}

/// A state, and why it is so where that says more.
fn state_and_reason(state: State, reason: &str) -> String {
    let state = words::state(state).replace('_', " ");
    match reason {
        "" => state,
        reason if reason.starts_with(&state) => reason.to_owned(),
        reason => format!("{state}: {reason}"),
    }
}

/// The result of a task that has one.
pub(crate) fn result_of(task: &Task) -> Option<&ToolResult> {
    match &task.outcome {
        Some(Outcome::Result(result)) => Some(result),
        Some(Outcome::Error(_)) | None => None,
    }
}

/// How long a call took and how it ended, in one line.
pub(crate) fn summary(task: &Task) -> String {
    let exit = match &task.outcome {
        Some(Outcome::Result(result)) => exit(result),
        Some(Outcome::Error(error)) => error.message.clone(),
        None => String::new(),
    };
    let parts = [words::state(task.state()), exit, time::wire_span(task.elapsed.as_ref())];
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join(", ")
}

/// How a process ended, in words; empty for what is no process.
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
        tell_skipped(chunk.skipped_bytes);
        match stream {
            OutputStream::Stderr => stderr_bytes(&chunk.data).await,
            _ => out.bytes(&chunk.data).await?,
        }
    }
    Ok(())
}

/// Says that output is missing.
pub(crate) fn tell_skipped(bytes: i64) {
    if bytes > 0 {
        tell(&format!("callpark: {bytes} bytes of output were dropped here"));
    }
}

/// The bytes of a part that is output of a command.
fn output_bytes(part: &Content) -> &[u8] {
    match &part.kind {
        Some(content::Kind::Text(text)) => text.as_bytes(),
        Some(content::Kind::Binary(binary)) => &binary.data,
        _ => &[],
    }
}

async fn print_part(out: &mut Out, part: &Content) -> Result<(), Failure> {
    match &part.kind {
        Some(content::Kind::Text(text)) => print_text(out, text).await,
        Some(content::Kind::Json(value)) => out.json(&json::from_value(value), true).await,
        Some(content::Kind::Image(image)) => out.data(&image.media_type, &image.data).await,
        Some(content::Kind::Binary(binary)) => out.data(&binary.media_type, &binary.data).await,
        Some(content::Kind::Resource(resource)) => match &resource.body {
            Some(resource::Body::Text(text)) => print_text(out, text).await,
            Some(resource::Body::Blob(data)) => out.data(&resource.media_type, data).await,
            None => out.line(&resource.uri).await,
        },
        // A kind that this version doesn't know is skipped, as the contract asks.
        None => Ok(()),
    }
}

/// A text of a tool ends with its line.
async fn print_text(out: &mut Out, text: &str) -> Result<(), Failure> {
    out.bytes(text.as_bytes()).await?;
    if text.ends_with('\n') || text.is_empty() { Ok(()) } else { out.bytes(b"\n").await }
}

#[cfg(test)]
mod tests {
    use callpark_client::v1::Binary;

    use super::*;

    #[test]
    fn output_is_its_bytes_whatever_it_was_sent_as() {
        let text = Content { kind: Some(content::Kind::Text("é".into())), ..Default::default() };
        assert_eq!(output_bytes(&text), "é".as_bytes());
        let binary = Binary { data: vec![0xff, 0].into(), ..Default::default() };
        let binary = Content { kind: Some(content::Kind::Binary(binary)), ..Default::default() };
        assert_eq!(output_bytes(&binary), [0xff, 0]);
    }

    #[test]
    fn a_reason_is_not_told_twice() {
        let told = |reason: &str| state_and_reason(State::TimedOut, reason);
        assert_eq!(told(""), "timed out");
        assert_eq!(told("timed out after 0.5 s"), "timed out after 0.5 s");
        assert_eq!(told("no output"), "timed out: no output");
    }

    #[test]
    fn a_summary_says_how_and_how_long() {
        let result =
            ToolResult { exit: Some(tool_result::Exit::ExitCode(3)), ..Default::default() };
        let task = Task {
            state: State::Failed.into(),
            elapsed: Some(time::to_wire(std::time::Duration::from_millis(3_200))),
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
