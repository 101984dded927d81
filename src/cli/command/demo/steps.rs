//! The steps of the demo. Each checks what it claims.

use std::{path::Path, time::Duration};

use callpark_client::{
    Client, Error, OutputOptions, RunOutcome, SessionItem, TaskHandle,
    v1::{
        CreateSessionRequest, ListRequest, OutputStream, ParkReason, RunToolRequest, State,
        StreamToolRequest, Task, ToolCallFinished, ToolResult, content, session_event::Payload,
        tool_call_finished, tool_result,
    },
};
use futures::{Stream, StreamExt as _};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{REQUEST_TIME_MAX, stage::Stage};
use crate::cli::{
    failure::Failure,
    json,
    own_server::Server,
    result, table,
    time::{from_wire, span, to_wire},
};

const STREAMS: &str =
    "for i in 1 2 3 4 5; do echo \"line $i\"; echo \"note $i\" >&2; sleep 0.1; done";
const STREAMS_STDOUT: &str = "line 1\nline 2\nline 3\nline 4\nline 5\n";
const STREAMS_STDERR: &str = "note 1\nnote 2\nnote 3\nnote 4\nnote 5\n";

/// The first line comes at least so long before the end, which is 400 ms after it or more.
const LIVE_TIME_MIN: Duration = Duration::from_millis(200);

const SLOW: &str = "for i in 1 2 3 4; do echo \"part $i of 4\"; sleep 1; done; echo done";
const SLOW_STDOUT: &str = "part 1 of 4\npart 2 of 4\npart 3 of 4\npart 4 of 4\ndone\n";
const SLOW_BUDGET: Duration = Duration::from_secs(1);
const SLOW_TIME_MIN: Duration = Duration::from_secs(4);

const FAMILY: &str = "sleep 300 & echo \"$$ $!\"; wait";
const FAMILY_BUDGET: Duration = Duration::from_millis(500);

/// A session for all calls of the demo.
pub(super) async fn session(client: &Client) -> Result<String, Failure> {
    let request = CreateSessionRequest { description: "demo".to_owned(), ..Default::default() };
    let session = client.sessions().create(request).await?.session;
    Ok(session.ok_or_else(|| Failure::answer("the answer has no session"))?.session_id)
}

/// A command whose output is there while it runs.
pub(super) async fn stream(
    stage: &mut Stage<'_>,
    client: &Client,
    session: &str,
) -> Result<(), Failure> {
    stage.step("a command that ends within its budget, with its output as it comes").await?;
    stage.say(&format!("$ {STREAMS}")).await?;
    let items = client.tools().stream(StreamToolRequest {
        session_id: session.to_owned(),
        tool: "bash".to_owned(),
        arguments: arguments(STREAMS),
        ..Default::default()
    });
    let Streamed { stdout, stderr, ahead, end } = follow(stage, items).await?;
    let result = result_of_end(&end);
    stage.say(result.map(|result| result.error_message.as_str()).unwrap_or_default()).await?;
    let success = end.state() == State::Succeeded && exit_code(result) == Some(0);
    stage.check("it succeeded with exit code 0", success).await?;
    let is_live = ahead > LIVE_TIME_MIN;
    stage.check(&format!("the first line came {} before the end", span(ahead)), is_live).await?;
    let exact = stdout == STREAMS_STDOUT.as_bytes() && stderr == STREAMS_STDERR.as_bytes();
    stage.check("both streams arrived byte for byte, apart", exact).await
}

/// What a stream of a call gave.
#[derive(Default)]
struct Streamed {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// How long before the end the first output came.
    ahead: Duration,
    end: ToolCallFinished,
}

async fn follow(
    stage: &mut Stage<'_>,
    items: impl Stream<Item = Result<SessionItem, Error>>,
) -> Result<Streamed, Failure> {
    let mut items = std::pin::pin!(items);
    let mut streamed = Streamed::default();
    let mut first = None;
    while let Some(item) = items.next().await {
        let SessionItem::Event(event) = item? else { continue };
        match event.payload {
            Some(Payload::ToolOutput(output)) => {
                first.get_or_insert_with(Instant::now);
                stage.output(&output).await?;
                match output.stream() {
                    OutputStream::Stderr => streamed.stderr.extend_from_slice(&output.data),
                    _ => streamed.stdout.extend_from_slice(&output.data),
                }
            }
            Some(Payload::ToolCallFinished(end)) => {
                let ahead = first.map(|first| first.elapsed()).unwrap_or_default();
                return Ok(Streamed { ahead, end: *end, ..streamed });
            }
            _ => {}
        }
    }
    stage.check("the stream ends with the end of the call", false).await?;
    Ok(streamed)
}

/// A command that outlasts its budget.
pub(super) async fn park(
    stage: &mut Stage<'_>,
    client: &Client,
    session: &str,
) -> Result<TaskHandle, Failure> {
    let budget = span(SLOW_BUDGET);
    stage
        .step(&format!("a command that outlasts its budget of {budget} is parked, not killed"))
        .await?;
    let began = Instant::now();
    let call = run_until_parked(stage, client, session, SLOW, SLOW_BUDGET).await?;
    let took = began.elapsed();
    let in_time = took > SLOW_BUDGET / 2 && took < SLOW_BUDGET * 2;
    stage.check(&format!("the answer came after {}", span(took)), in_time).await?;
    let notice = call.notice().cloned().unwrap_or_default();
    stage.say("what a model is told:").await?;
    stage.text("model", &notice.message).await?;
    let names_it = notice.message.contains(call.background_id());
    stage.check("it names the id to wait for", names_it).await?;
    let task = notice.task.unwrap_or_default();
    let goes_on = task.state() == State::Running && task.park_reason() == ParkReason::Budget;
    stage.check("the task is running, and parked for its budget", goes_on).await?;
    Ok(call)
}

/// The list of tasks.
pub(super) async fn list(
    stage: &mut Stage<'_>,
    client: &Client,
    session: &str,
    parked: &TaskHandle,
) -> Result<(), Failure> {
    stage.step("the list of background tasks").await?;
    let request = ListRequest { session_id: session.to_owned(), ..Default::default() };
    let tasks = client.tasks().list(request).await?.tasks;
    stage.table(&table::tasks(&tasks)).await?;
    let running = |task: &Task| {
        task.background_id == parked.background_id() && task.state() == State::Running
    };
    stage
        .check(
            "it has the parked call, and nothing else",
            matches!(tasks.as_slice(), [task] if running(task)),
        )
        .await
}

/// The result of a parked call.
pub(super) async fn wait(stage: &mut Stage<'_>, parked: &TaskHandle) -> Result<(), Failure> {
    stage.step("waiting for its result").await?;
    let answer = parked.wait(Duration::from_secs(10)).await?;
    let task = answer.task.unwrap_or_default();
    let stdout = result::result_of(&task).map(stdout_text).unwrap_or_default();
    stage.text("stdout", &stdout).await?;
    stage.say(&format!("{} {}", task.background_id, result::summary(&task))).await?;
    let success =
        task.state() == State::Succeeded && exit_code(result::result_of(&task)) == Some(0);
    stage.check("it succeeded with exit code 0", success && !answer.still_running).await?;
    stage
        .check("its output is whole, from before and after parking", stdout == SLOW_STDOUT)
        .await?;
    let elapsed = from_wire(task.elapsed.as_ref()).unwrap_or_default();
    stage.check("its time counts from its start", elapsed >= SLOW_TIME_MIN).await
}

/// A parked call with a child of its own, cancelled.
pub(super) async fn cancel(
    stage: &mut Stage<'_>,
    client: &Client,
    session: &str,
) -> Result<TaskHandle, Failure> {
    stage.step("a parked command with a child process, cancelled").await?;
    let call = run_until_parked(stage, client, session, FAMILY, FAMILY_BUDGET).await?;
    let pids = pids(&call).await?;
    stage.say(&format!("it wrote its process ids: {pids:?}")).await?;
    let alive = pids.len() == 2 && pids.iter().all(|&pid| is_alive(pid));
    stage.check("both processes run", alive).await?;
    let answer = call.cancel("shown enough").await?;
    let task = answer.task.unwrap_or_default();
    stage.say(&format!("{} {}", task.background_id, result::summary(&task))).await?;
    stage.check("it is cancelled", task.state() == State::Cancelled).await?;
    let reason = task.cancellation.unwrap_or_default().reason;
    stage.check("the reason is kept", reason == "shown enough").await?;
    let gone = answer.survivors.is_empty() && !pids.iter().any(|&pid| is_alive(pid));
    stage.check("both processes are gone", gone).await?;
    Ok(call)
}

/// What is finished outlives the server.
pub(super) async fn restart(
    stage: &mut Stage<'_>,
    server: &mut Server,
    calls: &[TaskHandle],
) -> Result<(), Failure> {
    stage.step("the server is stopped and started again on the same store").await?;
    let mut before = Vec::new();
    for call in calls {
        before.push((call.get().await?, output(call).await?));
    }
    server.restart().await?;
    stage.say(&format!("a new server on {}", server.endpoint)).await?;
    let client = server.client(Some(REQUEST_TIME_MAX))?;
    for (task, bytes) in before {
        let call = client.tasks().handle(task.background_id.as_str());
        let same_task = call.get().await? == task;
        stage
            .check(&format!("{} is the same, with its result", task.background_id), same_task)
            .await?;
        let same_output = output(&call).await? == bytes;
        stage
            .check(&format!("its output of {} bytes is the same", bytes.len()), same_output)
            .await?;
    }
    Ok(())
}

async fn run_until_parked(
    stage: &mut Stage<'_>,
    client: &Client,
    session: &str,
    command: &str,
    budget: Duration,
) -> Result<TaskHandle, Failure> {
    stage.say(&format!("$ {command}")).await?;
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
            stage.check(&format!("parked as {}", call.background_id()), true).await?;
            Ok(call)
        }
        _ => {
            let claim = "the call is parked";
            stage.check(claim, false).await?;
            Err(Failure::answer(claim))
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
        _ => None,
    });
    texts.collect()
}

/// All output of a task that has ended.
async fn output(call: &TaskHandle) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let mut chunks = std::pin::pin!(call.output(OutputOptions::default()));
    while let Some(chunk) = chunks.next().await {
        bytes.extend_from_slice(&chunk?.data);
    }
    Ok(bytes)
}

/// The process ids on the first line of the output, which is waited for.
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

/// Whether a process runs. One that only waits for its parent to take note of its end doesn't.
fn is_alive(pid: u32) -> bool {
    if !Path::new("/proc/self").exists() {
        let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
        return pid.is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok());
    }
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state stands behind the name, which is in parentheses and may hold any character.
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
