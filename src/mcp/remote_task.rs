//! Tasks that a server starts by itself, by the protocol of 2026-07-28: a call that was answered with the
//! handle of a task lasts until the task ends. `task_only` has those of 2025-11-25.

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
use super::polling::{
    self, INTERVAL_MIN, POLL_TIMEOUT, PollErrors, StatusReports, forgotten, not_answered, truncate,
};
use super::result_parts::ConvertedResult;
use super::task_handle::{TaskError, TaskHandle, TaskProtocol};
use crate::tool::ToolContext;

/// Follows a task of a call from the state in the answer to the call.
pub(super) async fn follow_new(
    connection: &Arc<ServerConnection>,
    task: Task,
    context: &ToolContext,
) -> Result<ConvertedResult, String> {
    let offers_tasks =
        connection.peer.peer_info().is_some_and(|info| info.capabilities.supports_tasks());
    if !offers_tasks {
        return Err(
            "it answered with a task, but does not declare that it supports tasks".to_owned()
        );
    }
    let task_id = task.task_id.clone();
    let handle = TaskHandle { task_id, protocol: TaskProtocol::MadeByServer };
    handle.keep(context).await;
    let followed = follow(connection, &handle.task_id, Some(&task), context).await;
    followed.map_err(TaskError::into_reason)
}

/// Follows a task until it ends, from a state that is known, if any.
pub(super) async fn follow(
    connection: &Arc<ServerConnection>,
    task_id: &str,
    state: Option<&Task>,
    context: &ToolContext,
) -> Result<ConvertedResult, TaskError> {
    let mut task = RemoteTask {
        connection,
        updates: connection.notifications.updates_of(task_id),
        id: task_id.to_owned(),
        context,
        since: Instant::now(),
        interval: polling::interval(None),
        time_to_live: None,
        reports: StatusReports::default(),
        errors: PollErrors::default(),
    };
    let end = tokio::select! {
        biased;
        end = task.end(state) => end,
        () = context.cancellation_token().cancelled() => TaskEnd::Abandoned(Ok(stopped())),
        reason = connection.closed() => TaskEnd::Over(Err(TaskError::Failed(reason.to_owned()))),
    };
    match end {
        TaskEnd::Over(outcome) => outcome,
        TaskEnd::Abandoned(outcome) => {
            task.cancel().await;
            outcome.map_err(TaskError::Failed)
        }
    }
}

/// The end of the wait for a task.
enum TaskEnd {
    /// The task has ended, or cannot be cancelled.
    Over(Result<ConvertedResult, TaskError>),
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
    reports: StatusReports,
    errors: PollErrors,
}

impl RemoteTask<'_> {
    /// Polls the task until it ends.
    async fn end(&mut self, state: Option<&Task>) -> TaskEnd {
        // The state has neither a result nor a reason: a task that is not working is polled at once.
        let mut is_due = state.is_none_or(|state| state.status != TaskStatus::Working);
        if let Some(state) = state {
            self.note(state).await;
        }
        loop {
            if !is_due {
                self.pause().await;
            }
            is_due = false;
            match self.ask().await {
                Ok(task) => {
                    self.errors.reset();
                    self.note(&task.task).await;
                    if let Some(end) = end_of(task) {
                        return end;
                    }
                }
                Err(PollError::Final(error)) => return TaskEnd::Over(Err(error)),
                Err(PollError::Transient(reason)) => {
                    if let Err(reason) = self.errors.count(&reason) {
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
            return Err(PollError::Transient(not_answered()));
        };
        match answer {
            Ok(answer) if answer.task.task.task_id == self.id => Ok(answer.task),
            Ok(_) => Err(PollError::Transient("it answered about another task".to_owned())),
            Err(ServiceError::McpError(error)) if error.code == ErrorCode::INVALID_PARAMS => {
                Err(PollError::Final(TaskError::Forgotten(forgotten(&error))))
            }
            Err(error @ (ServiceError::TransportClosed | ServiceError::TransportSend(_))) => Err(
                PollError::Final(TaskError::Failed(self.connection.request_error(&error).await)),
            ),
            Err(error) => Err(PollError::Transient(service_error(&error))),
        }
    }

    /// Takes over the state of the task, and reports its status message if that is new.
    async fn note(&mut self, task: &Task) {
        self.interval = polling::interval(task.poll_interval_ms);
        self.time_to_live = task.ttl_ms.map(Duration::from_millis);
        let message = task.status_message.as_deref().unwrap_or_default();
        self.reports.report(message, self.context).await;
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
    Final(TaskError),
    Transient(String),
}

/// Returns the end of a task, or `None` if the task continues.
fn end_of(task: DetailedTask) -> Option<TaskEnd> {
    let status = task.task.status_message;
    match task.payload {
        TaskPayload::Working => None,
        TaskPayload::Completed { result } => {
            Some(TaskEnd::Over(completed(result).map_err(TaskError::Failed)))
        }
        TaskPayload::Failed { error } => {
            let message = error.get("message").and_then(Value::as_str);
            let reason = message.or(status.as_deref()).unwrap_or("it gives no reason");
            let code = error.get("code").and_then(Value::as_i64);
            let code = code.map(|code| format!(" ({code})")).unwrap_or_default();
            let reason = format!("its task failed: {}{code}", truncate(reason));
            Some(TaskEnd::Over(Err(TaskError::Failed(reason))))
        }
        TaskPayload::Cancelled => {
            let reason = status.as_deref().unwrap_or("it gives no reason");
            let reason = format!("its task was cancelled: {}", truncate(reason));
            Some(TaskEnd::Over(Err(TaskError::Failed(reason))))
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
