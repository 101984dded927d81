//! Tasks of a server's: a call that was answered with the handle of one goes on until it has ended.

use std::sync::Arc;
use std::time::Duration;

use rmcp::model::{
    CallToolResult, CancelTaskParams, DetailedTask, ErrorCode, GetTaskParams, JsonObject, Task,
    TaskPayload, TaskStatus,
};
use rmcp::service::ServiceError;
use serde_json::Value;
use tokio::time::{Instant, sleep_until, timeout};

use super::call::{TELLING, lost};
use super::convert::{failure, result, service_fault};
use super::hearing::Watching;
use super::link::Link;
use crate::model::limits::TEXT_BYTES_MAX;
use crate::model::{Progress, ToolResult};
use crate::tool::ToolContext;

/// How often a server is asked that doesn't say how often it wants to be.
const INTERVAL_DEFAULT: Duration = Duration::from_secs(1);
/// How often it is asked at most, whatever it says and however much news it has.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// How often it is asked at least: else one number could put a call to sleep for good.
const INTERVAL_MAX: Duration = Duration::from_secs(300);
/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Wrong answers in a row. With the last one the task is given up.
const FAULTS_MAX: u32 = 5;

/// Follows a task to its end. An error is the server's fault, as the end of a sentence.
pub(super) async fn follow(
    link: &Arc<Link>,
    handle: Task,
    context: &ToolContext,
) -> Result<ToolResult, String> {
    let offers_tasks = link.peer.peer_info().is_some_and(|info| info.capabilities.supports_tasks());
    if !offers_tasks {
        return Err("it answered with a task, which it never offered".to_owned());
    }
    let mut task = RemoteTask {
        link,
        watching: link.hearing.watch(&handle.task_id),
        id: handle.task_id.clone(),
        context,
        since: Instant::now(),
        interval: INTERVAL_DEFAULT,
        time_to_live: None,
        said: String::new(),
        reports: 0,
        faults: 0,
    };
    let end = tokio::select! {
        biased;
        end = task.end(&handle) => end,
        () = context.cancellation_token().cancelled() => End::Abandoned(Ok(failure("it was told to stop".to_owned()))),
        reason = link.closed() => End::Over(Err(reason.to_owned())),
    };
    match end {
        End::Over(outcome) => outcome,
        End::Abandoned(outcome) => {
            task.cancel().await;
            outcome
        }
    }
}

/// How the waiting for a task ends.
enum End {
    /// There is nothing more that could be cancelled.
    Over(Result<ToolResult, String>),
    /// The task may go on, and nobody wants it any more.
    Abandoned(Result<ToolResult, String>),
}

/// A task that a call waits for.
struct RemoteTask<'a> {
    link: &'a Link,
    watching: Watching,
    id: String,
    context: &'a ToolContext,
    /// When its handle came, which is not before it was made.
    since: Instant,
    /// How often the server wants to be asked.
    interval: Duration,
    /// How long after it was made the server may forget it. None: never.
    time_to_live: Option<Duration>,
    /// What was said of it last.
    said: String,
    reports: u32,
    /// Wrong answers since the last right one.
    faults: u32,
}

impl RemoteTask<'_> {
    /// Asks for it until it has ended.
    async fn end(&mut self, handle: &Task) -> End {
        self.note(handle).await;
        // A handle has neither results nor reasons: of what isn't at work there is more to know.
        let mut is_due = handle.status != TaskStatus::Working;
        loop {
            if !is_due {
                self.pause().await;
            }
            is_due = false;
            match self.ask().await {
                Ok(task) => {
                    self.faults = 0;
                    self.note(&task.task).await;
                    if let Some(end) = end_of(task) {
                        return end;
                    }
                }
                Err(Fault::Final(reason)) => return End::Over(Err(reason)),
                Err(Fault::Passing(reason)) => {
                    self.faults += 1;
                    if self.faults >= FAULTS_MAX {
                        let times = self.faults;
                        let reason = format!("asked for its task {times} times, {reason}");
                        return End::Abandoned(Err(reason));
                    }
                }
            }
            if let Some(time_to_live) = self.time_to_live
                && self.since.elapsed() >= time_to_live
            {
                let reason =
                    format!("its task hadn't ended after {time_to_live:?}, its time to live");
                return End::Abandoned(Err(reason));
            }
        }
    }

    /// Waits until the server may be asked again.
    async fn pause(&self) {
        let now = Instant::now();
        let due = now + self.interval;
        // One look more at the very end of its time.
        let end = self.time_to_live.and_then(|time| self.since.checked_add(time));
        let due = end.map_or(due, |end| due.min(end)).max(now + INTERVAL_MIN);
        tokio::select! {
            () = sleep_until(due) => {}
            () = self.watching.news() => sleep_until(now + INTERVAL_MIN).await,
        }
    }

    async fn ask(&self) -> Result<DetailedTask, Fault> {
        let asking = self.link.peer.get_task(GetTaskParams::new(self.id.clone()));
        let Ok(answer) = timeout(PATIENCE, asking).await else {
            return Err(Fault::Passing(format!("it didn't answer in {PATIENCE:?}")));
        };
        match answer {
            Ok(answer) if answer.task.task.task_id == self.id => Ok(answer.task),
            Ok(_) => Err(Fault::Passing("it told of another one".to_owned())),
            Err(ServiceError::McpError(error)) if error.code == ErrorCode::INVALID_PARAMS => {
                let message = clipped(&error.message);
                Err(Fault::Final(format!("it doesn't know its task any more: {message}")))
            }
            Err(error @ (ServiceError::TransportClosed | ServiceError::TransportSend(_))) => {
                Err(Fault::Final(lost(self.link, &error).await))
            }
            Err(error) => Err(Fault::Passing(service_fault(&error))),
        }
    }

    /// Takes over what the server says of it.
    async fn note(&mut self, task: &Task) {
        let interval = task.poll_interval_ms.map_or(INTERVAL_DEFAULT, Duration::from_millis);
        self.interval = interval.clamp(INTERVAL_MIN, INTERVAL_MAX);
        self.time_to_live = task.ttl_ms.map(Duration::from_millis);
        let said = clipped(task.status_message.as_deref().unwrap_or_default());
        if said.is_empty() || said == self.said {
            return;
        }
        said.clone_into(&mut self.said);
        self.reports = self.reports.saturating_add(1);
        // Of how far it is there are no numbers, so the reports are counted.
        let done = f64::from(self.reports);
        let report = Progress { done, total: None, message: said.to_owned() };
        self.context.progress(report).await;
    }

    /// Tells the server, for a moment, that nobody wants it any more.
    async fn cancel(&self) {
        let telling = self.link.peer.cancel_task(CancelTaskParams::new(self.id.clone()));
        let _told = timeout(TELLING, self.link.while_there(telling)).await;
    }
}

/// Why asking gave nothing, as the end of a sentence.
enum Fault {
    /// Asking again is of no use.
    Final(String),
    Passing(String),
}

/// How a task has ended, if it has or never can.
fn end_of(task: DetailedTask) -> Option<End> {
    let said = task.task.status_message;
    match task.payload {
        TaskPayload::Working => None,
        TaskPayload::Completed { result } => Some(End::Over(completed(result))),
        TaskPayload::Failed { error } => {
            let message = error.get("message").and_then(Value::as_str);
            let reason = message.or(said.as_deref()).unwrap_or("it doesn't say why");
            let code = error.get("code").and_then(Value::as_i64);
            let code = code.map(|code| format!(" ({code})")).unwrap_or_default();
            Some(End::Over(Err(format!("its task failed: {}{code}", clipped(reason)))))
        }
        TaskPayload::Cancelled => {
            let reason = said.as_deref().unwrap_or("it doesn't say why");
            Some(End::Over(Err(format!("its task was cancelled: {}", clipped(reason)))))
        }
        TaskPayload::InputRequired { .. } => {
            let reason = "its task waits for input, and there is nobody here to give it";
            Some(End::Abandoned(Err(reason.to_owned())))
        }
        _ => {
            let reason = "its task is in a state that callpark doesn't know";
            Some(End::Abandoned(Err(reason.to_owned())))
        }
    }
}

fn completed(object: JsonObject) -> Result<ToolResult, String> {
    // As the answer to a plain call: one without content.
    let is_bare = object.keys().all(|name| ["resultType", "_meta"].contains(&name.as_str()));
    if is_bare && !object.get("resultType").is_some_and(|kind| kind != "complete") {
        return Ok(ToolResult::default());
    }
    let read: Result<CallToolResult, _> = serde_json::from_value(Value::Object(object));
    read.map(result).map_err(|_| "the result of its task is none that MCP knows".to_owned())
}

/// As much of a text as a report or a reason holds.
fn clipped(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}
