//! The steps of the demo, each with checks of its claims.

use std::{path::Path, time::Duration};

use callpark_client::{
    Client, Error, OutputOptions, RunOutcome, SessionItem, TaskHandle,
    v1::{
        CreateSessionRequest, ListRequest, OutputStream, ParkReason, RunToolRequest, State, Task,
        ToolCallFinished, ToolResult, content, session_event::Payload, tool_call_finished,
        tool_result,
    },
};
use futures::{Stream, StreamExt as _};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{REQUEST_TIME_MAX, script::Script, server::DemoServer};
use crate::cli::{
    args::duration::to_wire,
    error::Failure,
    print::{
        json, lists,
        result::{result_of, summary},
        time::{format_span, from_wire},
    },
};

const STREAMS: &str =
    "for i in 1 2 3 4 5; do echo \"line $i\"; echo \"note $i\" >&2; sleep 0.1; done";
const STREAMS_STDOUT: &str = "line 1\nline 2\nline 3\nline 4\nline 5\n";
const STREAMS_STDERR: &str = "note 1\nnote 2\nnote 3\nnote 4\nnote 5\n";

/// The minimum time between the first line and the end, which is 400 ms in the command itself.
const LIVE_TIME_MIN: Duration = Duration::from_millis(200);

const SLOW: &str = "for i in 1 2 3 4; do echo \"part $i of 4\"; sleep 1; done; echo done";
const SLOW_STDOUT: &str = "part 1 of 4\npart 2 of 4\npart 3 of 4\npart 4 of 4\ndone\n";
const SLOW_BUDGET: Duration = Duration::from_secs(1);
const SLOW_TIME_MIN: Duration = Duration::from_secs(4);

const OUTLIVES: &str =
    "for i in 1 2 3 4 5 6; do echo \"part $i of 6\"; sleep 0.5; done; echo done; exit 3";
const OUTLIVES_STDOUT: &str =
    "part 1 of 6\npart 2 of 6\npart 3 of 6\npart 4 of 6\npart 5 of 6\npart 6 of 6\ndone\n";
const OUTLIVES_BUDGET: Duration = Duration::from_millis(700);

const FAMILY: &str = "sleep 300 & echo \"$$ $!\"; wait";
const FAMILY_BUDGET: Duration = Duration::from_millis(500);

/// Creates a session for all calls of the demo.
pub(super) async fn session(client: &Client) -> Result<String, Failure> {
    let request = CreateSessionRequest { description: "demo".to_owned(), ..Default::default() };
    let session = client.sessions().create(request).await?.session;
    Ok(session.ok_or_else(|| Failure::unexpected_answer("the answer has no session"))?.session_id)
}

/// Runs a command that streams its output.
pub(super) async fn stream(
    script: &mut Script<'_>,
    client: &Client,
    session: &str,
) -> Result<(), Failure> {
    script.step("a command that finishes within its budget streams its output").await?;
    script.print(&format!("$ {STREAMS}")).await?;
    let items = client.tools().stream(RunToolRequest {
        session_id: session.to_owned(),
        tool: "bash".to_owned(),
        arguments: arguments(STREAMS),
        ..Default::default()
    });
    let Streamed { stdout, stderr, ahead, end } = follow(script, items).await?;
    let result = result_of_end(&end);
    script.print(result.map(|result| result.error_message.as_str()).unwrap_or_default()).await?;
    let success = end.state() == State::Succeeded && exit_code(result) == Some(0);
    script.check("it succeeded with exit code 0", success).await?;
    let is_live = ahead > LIVE_TIME_MIN;
    script
        .check(&format!("the first line arrived {} before the end", format_span(ahead)), is_live)
        .await?;
    let exact = stdout == STREAMS_STDOUT.as_bytes() && stderr == STREAMS_STDERR.as_bytes();
    script.check("both streams arrived separately and byte for byte", exact).await
}

/// The output and the end of a streamed call.
#[derive(Default)]
struct Streamed {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// The time between the first output and the end.
    ahead: Duration,
    end: ToolCallFinished,
}

async fn follow(
    script: &mut Script<'_>,
    items: impl Stream<Item = Result<SessionItem, Error>>,
) -> Result<Streamed, Failure> {
    let mut items = std::pin::pin!(items);
    let mut streamed = Streamed::default();
    let mut first = None;
    while let Some(item) = items.next().await {
        let SessionItem::Event(event) = item? else { continue };
        if let Some(Payload::ToolOutput(output)) = &event.payload {
            first.get_or_insert_with(Instant::now);
            script.print_output(output).await?;
            let stream = match output.stream() {
                OutputStream::Stderr => &mut streamed.stderr,
                OutputStream::Unspecified | OutputStream::Stdout | OutputStream::Combined => {
                    &mut streamed.stdout
                }
            };
            stream.extend_from_slice(&output.data);
        }
        if let Some(Payload::ToolCallFinished(end)) = event.payload {
            let ahead = first.map(|first| first.elapsed()).unwrap_or_default();
            return Ok(Streamed { ahead, end: *end, ..streamed });
        }
    }
    script.check("the stream ends with the end of the call", false).await?;
    Ok(streamed)
}

/// Runs a command that takes longer than its budget.
pub(super) async fn park(
    script: &mut Script<'_>,
    client: &Client,
    session: &str,
) -> Result<TaskHandle, Failure> {
    let budget = format_span(SLOW_BUDGET);
    script
        .step(&format!(
            "a command that takes longer than its budget of {budget} is parked, not killed"
        ))
        .await?;
    let began = Instant::now();
    let call = run_until_parked(script, client, session, SLOW, SLOW_BUDGET).await?;
    let took = began.elapsed();
    let in_time = took > SLOW_BUDGET / 2 && took < SLOW_BUDGET * 2;
    script.check(&format!("the answer arrived after {}", format_span(took)), in_time).await?;
    let notice = call.notice().cloned().unwrap_or_default();
    script.print("the message for a model:").await?;
    script.print_prefixed("model", &notice.message).await?;
    let names_it = notice.message.contains(call.background_id());
    script.check("the message names the id to wait for", names_it).await?;
    let task = notice.task.unwrap_or_default();
    let goes_on = task.state() == State::Running && task.park_reason() == ParkReason::Budget;
    script.check("the task is running, parked because of its budget", goes_on).await?;
    Ok(call)
}

/// Lists the tasks.
pub(super) async fn list(
    script: &mut Script<'_>,
    client: &Client,
    session: &str,
    parked: &TaskHandle,
) -> Result<(), Failure> {
    script.step("the list of background tasks").await?;
    let request = ListRequest { session_id: session.to_owned(), ..Default::default() };
    let tasks = client.tasks().list(request).await?.tasks;
    script.table(&lists::tasks(&tasks)).await?;
    let running = |task: &Task| {
        task.background_id == parked.background_id() && task.state() == State::Running
    };
    script
        .check(
            "the list has the parked call and nothing else",
            matches!(tasks.as_slice(), [task] if running(task)),
        )
        .await
}

/// Waits for the result of a parked call.
pub(super) async fn wait(script: &mut Script<'_>, parked: &TaskHandle) -> Result<(), Failure> {
    script.step("the result of the parked command arrives").await?;
    let answer = parked.wait(Duration::from_secs(10)).await?;
    let task = answer.task.unwrap_or_default();
    let stdout = result_of(&task).map(stdout_text).unwrap_or_default();
    script.print_prefixed("stdout", &stdout).await?;
    script.print(&format!("{} {}", task.background_id, summary(&task))).await?;
    let success = task.state() == State::Succeeded && exit_code(result_of(&task)) == Some(0);
    script.check("it succeeded with exit code 0", success && !answer.still_running).await?;
    script
        .check("its output is complete, from before and after parking", stdout == SLOW_STDOUT)
        .await?;
    let elapsed = from_wire(task.elapsed.as_ref()).unwrap_or_default();
    script.check("its elapsed time counts from its start", elapsed >= SLOW_TIME_MIN).await
}

/// Cancels a parked call that has a child process.
pub(super) async fn cancel(
    script: &mut Script<'_>,
    client: &Client,
    session: &str,
) -> Result<TaskHandle, Failure> {
    script.step("a parked command with a child process is cancelled").await?;
    let call = run_until_parked(script, client, session, FAMILY, FAMILY_BUDGET).await?;
    let pids = pids(&call).await?;
    script.print(&format!("its process ids: {pids:?}")).await?;
    let alive = pids.len() == 2 && pids.iter().all(|&pid| is_alive(pid));
    script.check("both processes are running", alive).await?;
    let answer = call.cancel("end of the demonstration").await?;
    let task = answer.task.unwrap_or_default();
    script.print(&format!("{} {}", task.background_id, summary(&task))).await?;
    script.check("the task is cancelled", task.state() == State::Cancelled).await?;
    let reason = task.cancellation.unwrap_or_default().reason;
    script.check("the reason is recorded", reason == "end of the demonstration").await?;
    let gone = answer.survivors.is_empty() && !pids.iter().any(|&pid| is_alive(pid));
    script.check("both processes are gone", gone).await?;
    Ok(call)
}

/// Kills the server under a parked command, starts it again, and checks that nothing is lost.
pub(super) async fn kill(
    script: &mut Script<'_>,
    server: &mut DemoServer,
    session: &str,
    calls: &[TaskHandle],
) -> Result<(), Failure> {
    script.step("the server is killed under a parked command, and started again").await?;
    let mut before = Vec::new();
    for call in calls {
        before.push((call.get().await?, output(call).await?));
    }
    let client = server.client(Some(REQUEST_TIME_MAX))?;
    let parked = run_until_parked(script, &client, session, OUTLIVES, OUTLIVES_BUDGET).await?;
    script.print(&format!("$ kill -9 {}", server.pid())).await?;
    server.kill().await;
    script.print("the command goes on without a server").await?;
    server.start_process().await?;
    script.print(&format!("new server: process {}", server.pid())).await?;
    let client = server.client(Some(REQUEST_TIME_MAX))?;
    let parked = client.tasks().handle(parked.background_id());
    let task = parked.wait(Duration::from_secs(10)).await?.task.unwrap_or_default();
    let stdout = result_of(&task).map(stdout_text).unwrap_or_default();
    script.print_prefixed("stdout", &stdout).await?;
    script.print(&format!("{} {}", task.background_id, summary(&task))).await?;
    script.check("its output is complete, byte for byte", stdout == OUTLIVES_STDOUT).await?;
    let code = exit_code(result_of(&task));
    script.check("its exit code is its own: 3", code == Some(3)).await?;
    for (task, bytes) in before {
        let call = client.tasks().handle(task.background_id.as_str());
        let is_same = call.get().await? == task && output(&call).await? == bytes;
        let claim = format!("{}, its result and its output are unchanged", task.background_id);
        script.check(&claim, is_same).await?;
    }
    Ok(())
}

async fn run_until_parked(
    script: &mut Script<'_>,
    client: &Client,
    session: &str,
    command: &str,
    budget: Duration,
) -> Result<TaskHandle, Failure> {
    script.print(&format!("$ {command}")).await?;
    let request = RunToolRequest {
        session_id: session.to_owned(),
        tool: "bash".to_owned(),
        arguments: arguments(command),
        description: command.to_owned(),
        call_budget: Some(to_wire(budget)),
        ..Default::default()
    };
    match client.tools().run(request).await? {
        RunOutcome::Parked(call) => {
            script.check(&format!("the call was parked as {}", call.background_id()), true).await?;
            Ok(call)
        }
        _ => {
            let claim = "the call was parked";
            script.check(claim, false).await?;
            Err(Failure::unexpected_answer(claim))
        }
    }
}

fn arguments(command: &str) -> Option<callpark_client::prost_types::Struct> {
    match json!({ "command": command }) {
        Value::Object(object) => Some(json::to_struct(object)),
        _ => None,
    }
}

fn result_of_end(finished: &ToolCallFinished) -> Option<&ToolResult> {
    match &finished.outcome {
        Some(tool_call_finished::Outcome::Result(result)) => Some(result),
        Some(tool_call_finished::Outcome::Error(_)) | None => None,
    }
}

fn exit_code(result: Option<&ToolResult>) -> Option<i32> {
    match result?.exit {
        Some(tool_result::Exit::ExitCode(code)) => Some(code),
        Some(tool_result::Exit::Signal(_)) | None => None,
    }
}

fn stdout_text(result: &ToolResult) -> String {
    let stdout = result.content.iter().filter(|part| part.stream() == OutputStream::Stdout);
    let texts = stdout.filter_map(|part| match &part.kind {
        Some(content::Kind::Text(text)) => Some(text.as_str()),
        Some(
            content::Kind::Json(_)
            | content::Kind::Image(_)
            | content::Kind::Binary(_)
            | content::Kind::Resource(_),
        )
        | None => None,
    });
    texts.collect()
}

/// Reads all output of a finished task.
async fn output(call: &TaskHandle) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let mut chunks = std::pin::pin!(call.output(OutputOptions::default()));
    while let Some(chunk) = chunks.next().await {
        bytes.extend_from_slice(&chunk?.data);
    }
    Ok(bytes)
}

/// Waits for the first line of the output, and returns the process ids on it.
async fn pids(call: &TaskHandle) -> Result<Vec<u32>, Failure> {
    let mut bytes = Vec::new();
    let mut chunks = std::pin::pin!(call.output(OutputOptions::default()));
    while let Some(chunk) = chunks.next().await {
        bytes.extend_from_slice(&chunk?.data);
        if bytes.contains(&b'\n') {
            break;
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    let words = text.lines().next().unwrap_or_default().split(' ');
    Ok(words.filter_map(|word| word.parse().ok()).collect())
}

/// Returns `true` if a process is running. A zombie is not.
fn is_alive(pid: u32) -> bool {
    if !Path::new("/proc/self").exists() {
        let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
        return pid.is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok());
    }
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the name, which is in parentheses and may contain any character.
    let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
    state.is_some_and(|state| state != 'Z' && state != 'X')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive() {
        assert!(is_alive(std::process::id()));
        assert!(!is_alive(u32::MAX));
    }
}
