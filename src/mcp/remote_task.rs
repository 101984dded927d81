//! Tasks of a server: a call that was answered with the handle of a task lasts until the task ends.

use std::sync::Arc;
use std::time::Duration;

use rmcp::model::{
    CallToolResult, CancelTaskParams, DetailedTask, ErrorCode, GetTaskParams, JsonObject, Task,
    TaskPayload, TaskStatus,
};
use rmcp::service::ServiceError;
use serde_json::Value;
use tokio::time::{Instant, sleep_until, timeout};

use super::connection::{CANCEL_TIMEOUT, ServerConnection};
use super::convert::{result, service_error, stopped};
use super::notifications::TaskUpdates;
use super::parts::ConvertedResult;
use crate::model::Progress;
use crate::model::limits::TEXT_BYTES_MAX;
use crate::tool::ToolContext;

/// The interval between two polls of a server that names none.
const INTERVAL_DEFAULT: Duration = Duration::from_secs(1);
/// The shortest interval, whatever the server names and however often it notifies.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// The longest interval: otherwise one number could put a call to sleep for good.
const INTERVAL_MAX: Duration = Duration::from_secs(300);
/// The timeout of a poll.
const POLL_TIMEOUT: Duration = Duration::from_secs(30);
/// The number of wrong answers in a row with which the task is given up.
const POLL_ERRORS_MAX: u32 = 5;

/// Follows a task until it ends. An error is an error of the server, as the end of a sentence.
pub(super) async fn follow(
    connection: &Arc<ServerConnection>,
    handle: Task,
    context: &ToolContext,
) -> Result<ConvertedResult, String> {
    let offers_tasks =
        connection.peer.peer_info().is_some_and(|info| info.capabilities.supports_tasks());
    if !offers_tasks {
        return Err(
            "it answered with a task, but does not declare that it supports tasks".to_owned()
        );
    }
    let mut task = RemoteTask {
        connection,
        updates: connection.notifications.updates_of(&handle.task_id),
        id: handle.task_id.clone(),
        context,
        since: Instant::now(),
        interval: INTERVAL_DEFAULT,
        time_to_live: None,
        last_message: String::new(),
        reports: 0,
        errors: 0,
    };
    let end = tokio::select! {
        biased;
        end = task.end(&handle) => end,
        () = context.cancellation_token().cancelled() => TaskEnd::Abandoned(Ok(stopped())),
        reason = connection.closed() => TaskEnd::Over(Err(reason.to_owned())),
    };
    match end {
        TaskEnd::Over(outcome) => outcome,
        TaskEnd::Abandoned(outcome) => {
            task.cancel().await;
            outcome
        }
    }
}

/// The end of the wait for a task.
enum TaskEnd {
    /// The task has ended, or cannot be cancelled.
    Over(Result<ConvertedResult, String>),
    /// The task may go on, and must be cancelled.
    Abandoned(Result<ConvertedResult, String>),
}

/// A task that a call waits for.
struct RemoteTask<'a> {
    connection: &'a ServerConnection,
    updates: TaskUpdates,
    id: String,
    context: &'a ToolContext,
    /// The time at which its handle arrived, which is not before the task was created.
    since: Instant,
    interval: Duration,
    /// The time after its creation at which the server may forget the task, or `None` if it never
    /// does.
    time_to_live: Option<Duration>,
    /// The last status message.
    last_message: String,
    reports: u32,
    /// Wrong answers since the last right one.
    errors: u32,
}

impl RemoteTask<'_> {
    /// Polls the task until it ends.
    async fn end(&mut self, handle: &Task) -> TaskEnd {
        self.note(handle).await;
        // A handle has neither a result nor a reason: a task that is not working is polled at once.
        let mut is_due = handle.status != TaskStatus::Working;
        loop {
            if !is_due {
                self.pause().await;
            }
            is_due = false;
            match self.ask().await {
                Ok(task) => {
                    self.errors = 0;
                    self.note(&task.task).await;
                    if let Some(end) = end_of(task) {
                        return end;
                    }
                }
                Err(PollError::Final(reason)) => return TaskEnd::Over(Err(reason)),
                Err(PollError::Transient(reason)) => {
                    self.errors += 1;
                    if self.errors >= POLL_ERRORS_MAX {
                        let times = self.errors;
                        let reason = format!("asked about its task {times} times, {reason}");
                        return TaskEnd::Abandoned(Err(reason));
                    }
                }
            }
            if let Some(time_to_live) = self.time_to_live
                && self.since.elapsed() >= time_to_live
            {
                let reason =
                    format!("its task did not end within its time to live of {time_to_live:?}");
                return TaskEnd::Abandoned(Err(reason));
            }
        }
    }

    /// Waits until the server may be polled again.
    async fn pause(&self) {
        let now = Instant::now();
        let due = now + self.interval;
        // One more poll at the very end of its time to live.
        let end = self.time_to_live.and_then(|time| self.since.checked_add(time));
        let due = end.map_or(due, |end| due.min(end)).max(now + INTERVAL_MIN);
        tokio::select! {
            () = sleep_until(due) => {}
            () = self.updates.changed() => sleep_until(now + INTERVAL_MIN).await,
        }
    }

    async fn ask(&self) -> Result<DetailedTask, PollError> {
        let asking = self.connection.peer.get_task(GetTaskParams::new(self.id.clone()));
        let Ok(answer) = timeout(POLL_TIMEOUT, asking).await else {
            return Err(PollError::Transient(format!("it did not answer in {POLL_TIMEOUT:?}")));
        };
        match answer {
            Ok(answer) if answer.task.task.task_id == self.id => Ok(answer.task),
            Ok(_) => Err(PollError::Transient("it answered about another task".to_owned())),
            Err(ServiceError::McpError(error)) if error.code == ErrorCode::INVALID_PARAMS => {
                let message = truncate(&error.message);
                Err(PollError::Final(format!("it no longer knows its task: {message}")))
            }
            Err(error @ (ServiceError::TransportClosed | ServiceError::TransportSend(_))) => {
                Err(PollError::Final(self.connection.request_error(&error).await))
            }
            Err(error) => Err(PollError::Transient(service_error(&error))),
        }
    }

    /// Takes over the state of the task, and reports its status message if that is new.
    async fn note(&mut self, task: &Task) {
        let interval = task.poll_interval_ms.map_or(INTERVAL_DEFAULT, Duration::from_millis);
        self.interval = interval.clamp(INTERVAL_MIN, INTERVAL_MAX);
        self.time_to_live = task.ttl_ms.map(Duration::from_millis);
        let message = truncate(task.status_message.as_deref().unwrap_or_default());
        if message.is_empty() || message == self.last_message {
            return;
        }
        message.clone_into(&mut self.last_message);
        self.reports = self.reports.saturating_add(1);
        // A task has no numbers for its progress, so the reports are counted.
        let done = f64::from(self.reports);
        let report = Progress { done, total: None, message: message.to_owned() };
        self.context.progress(report).await;
    }

    /// Asks the server to cancel the task, and waits a moment for the answer.
    async fn cancel(&self) {
        let cancel = self.connection.peer.cancel_task(CancelTaskParams::new(self.id.clone()));
        let _answered = timeout(CANCEL_TIMEOUT, self.connection.until_closed(cancel)).await;
    }
}

/// The reason why a poll failed, as the end of a sentence.
enum PollError {
    /// Another poll would fail, too.
    Final(String),
    Transient(String),
}

/// Returns the end of a task, or `None` if the task continues.
fn end_of(task: DetailedTask) -> Option<TaskEnd> {
    let status = task.task.status_message;
    match task.payload {
        TaskPayload::Working => None,
        TaskPayload::Completed { result } => Some(TaskEnd::Over(completed(result))),
        TaskPayload::Failed { error } => {
            let message = error.get("message").and_then(Value::as_str);
            let reason = message.or(status.as_deref()).unwrap_or("it gives no reason");
            let code = error.get("code").and_then(Value::as_i64);
            let code = code.map(|code| format!(" ({code})")).unwrap_or_default();
            Some(TaskEnd::Over(Err(format!("its task failed: {}{code}", truncate(reason)))))
        }
        TaskPayload::Cancelled => {
            let reason = status.as_deref().unwrap_or("it gives no reason");
            Some(TaskEnd::Over(Err(format!("its task was cancelled: {}", truncate(reason)))))
        }
        TaskPayload::InputRequired { .. } => {
            let reason = "its task waits for input, which callpark cannot give";
            Some(TaskEnd::Abandoned(Err(reason.to_owned())))
        }
        _ => {
            let reason = "its task is in a state that callpark does not know";
            Some(TaskEnd::Abandoned(Err(reason.to_owned())))
        }
    }
}

fn completed(object: JsonObject) -> Result<ConvertedResult, String> {
    // A result without content, as in the answer to a plain call.
    let is_bare = object.keys().all(|name| ["resultType", "_meta"].contains(&name.as_str()));
    if is_bare && !object.get("resultType").is_some_and(|kind| kind != "complete") {
        return Ok(ConvertedResult::default());
    }
    let read: Result<CallToolResult, _> = serde_json::from_value(Value::Object(object));
    read.map(result).map_err(|_| "the result of its task is not a valid MCP result".to_owned())
}

/// Truncates a text to the length of a report or a reason.
fn truncate(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}
