//! Calls of tools that run as tasks of the protocol of 2025-11-25 only (`taskSupport: required`).
//!
//! The library knows the tasks of 2026-07-28, which a server starts by itself. Those of 2025-11-25 are
//! asked for by the call, with requests that the library sends as they are.

use std::sync::Arc;
use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, CallToolResult, ClientRequest, CustomRequest, ErrorCode, ServerResult,
};
use rmcp::service::ServiceError;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::connection::{CANCEL_TIMEOUT, ServerConnection};
use super::convert::{result, stopped};
use super::polling::{
    self, POLL_TIMEOUT, PollErrors, StatusReports, forgotten, not_answered, truncate,
};
use super::request::{Answer, answer_of};
use super::result_parts::ConvertedResult;
use super::task_handle::{TaskError, TaskHandle, TaskProtocol};
use crate::tool::ToolContext;

/// The time for which a server is asked to keep a task: the longest that a call may run.
const TIME_TO_LIVE: Duration = Duration::from_secs(30 * 24 * 3600);

/// Calls a tool as a task, and waits for its end. An error is an error of the server, as the end of a
/// sentence.
pub(super) async fn call_as_task(
    connection: &Arc<ServerConnection>,
    params: CallToolRequestParams,
    context: &ToolContext,
) -> Result<ConvertedResult, String> {
    let ttl = u64::try_from(TIME_TO_LIVE.as_millis()).unwrap_or(u64::MAX);
    let arguments = params.arguments.unwrap_or_default();
    let call = json!({ "name": params.name, "arguments": arguments, "task": { "ttl": ttl } });
    let Some(created) = ask(connection, "tools/call", call, context).await? else {
        return Ok(stopped());
    };
    let Some(id) = created["task"]["taskId"].as_str() else {
        // It has answered without a task, as servers may that are older than their list says.
        return read(created);
    };
    let handle = TaskHandle { task_id: id.to_owned(), protocol: TaskProtocol::AskedFor };
    handle.keep(context).await;
    let followed = follow(connection, id, created["task"]["pollInterval"].as_u64(), context).await;
    followed.map_err(TaskError::into_reason)
}

/// Follows a task until it ends, with the interval between two polls that the server has named, if any,
/// in milliseconds.
pub(super) async fn follow(
    connection: &Arc<ServerConnection>,
    id: &str,
    interval_ms: Option<u64>,
    context: &ToolContext,
) -> Result<ConvertedResult, TaskError> {
    let task = TaskOfCall { connection, context, id, interval: polling::interval(interval_ms) };
    match task.end().await {
        Ok(result) => Ok(result),
        Err(NoResult::Ended(reason)) => Err(TaskError::Failed(reason)),
        Err(NoResult::Forgotten(reason)) => Err(TaskError::Forgotten(reason)),
        Err(NoResult::Unknown(reason)) => {
            task.cancel().await;
            Err(TaskError::Failed(reason))
        }
        Err(NoResult::Stopped) => {
            task.cancel().await;
            Ok(stopped())
        }
    }
}

/// The reason why there is no result of a task, as the end of a sentence.
enum NoResult {
    /// The task has ended, or cannot be cancelled.
    Ended(String),
    /// The server does not know the task.
    Forgotten(String),
    /// The server has not said how the task is, which may go on.
    Unknown(String),
    /// The call was stopped, and the task may go on.
    Stopped,
}

/// A task that a call waits for.
struct TaskOfCall<'a> {
    connection: &'a Arc<ServerConnection>,
    context: &'a ToolContext,
    id: &'a str,
    interval: Duration,
}

impl TaskOfCall<'_> {
    /// Polls the task until it ends, and returns its result.
    async fn end(&self) -> Result<ConvertedResult, NoResult> {
        let stop = self.context.cancellation_token();
        let (mut reports, mut errors) = (StatusReports::default(), PollErrors::default());
        loop {
            if stop.run_until_cancelled(sleep(self.interval)).await.is_none() {
                return Err(NoResult::Stopped);
            }
            let state = match self.poll().await {
                Ok(state) => state,
                Err(NoResult::Unknown(reason)) => {
                    errors.count(&reason).map_err(NoResult::Unknown)?;
                    continue;
                }
                Err(end) => return Err(end),
            };
            errors.reset();
            let message = state["statusMessage"].as_str().unwrap_or_default();
            match state["status"].as_str() {
                Some("working") => {
                    let report = reports.report(message, self.context);
                    let _sent = stop.run_until_cancelled(report).await;
                }
                // The server asks for its input with the answer, and is declined.
                Some("completed" | "failed" | "input_required") => return self.result().await,
                Some("cancelled") => {
                    let reason = format!("its task was cancelled: {}", truncate(message));
                    return Err(NoResult::Ended(reason));
                }
                other => {
                    let reason = format!("its task is in an unknown state: {other:?}");
                    return Err(NoResult::Ended(reason));
                }
            }
        }
    }

    /// Asks for the state of the task.
    async fn poll(&self) -> Result<Value, NoResult> {
        let request = custom("tasks/get", json!({ "taskId": self.id }));
        let asking = timeout(POLL_TIMEOUT, self.connection.peer.send_request(request));
        let answer = tokio::select! {
            answer = asking => answer,
            () = self.context.cancellation_token().cancelled() => return Err(NoResult::Stopped),
            reason = self.connection.closed() => return Err(NoResult::Ended(reason.to_owned())),
        };
        let Ok(answer) = answer else {
            return Err(NoResult::Unknown(not_answered()));
        };
        match answer {
            Ok(result) => value_of(result, "tasks/get").map_err(NoResult::Unknown),
            Err(ServiceError::McpError(error)) if error.code == ErrorCode::INVALID_PARAMS => {
                Err(NoResult::Forgotten(forgotten(&error)))
            }
            Err(error) => {
                let reason = self.connection.request_error(&error).await;
                Err(match self.connection.is_closed() {
                    true => NoResult::Ended(reason),
                    false => NoResult::Unknown(reason),
                })
            }
        }
    }

    /// Asks for the result, for which the server may let wait.
    async fn result(&self) -> Result<ConvertedResult, NoResult> {
        let params = json!({ "taskId": self.id });
        let answer = ask(self.connection, "tasks/result", params, self.context).await;
        let value = answer.map_err(NoResult::Ended)?.ok_or(NoResult::Stopped)?;
        read(value).map_err(NoResult::Ended)
    }

    /// Asks the server to cancel the task, and waits a moment for the answer.
    async fn cancel(&self) {
        let request = custom("tasks/cancel", json!({ "taskId": self.id }));
        let cancel = self.connection.peer.send_request(request);
        let _answered = timeout(CANCEL_TIMEOUT, self.connection.until_closed(cancel)).await;
    }
}

/// Sends a request, and returns its result, or `None` if the call is stopped.
async fn ask(
    connection: &Arc<ServerConnection>,
    method: &str,
    params: Value,
    context: &ToolContext,
) -> Result<Option<Value>, String> {
    match answer_of(connection, custom(method, params), context).await? {
        Answer::Stopped(_) => Ok(None),
        Answer::Result(result) => value_of(result, method).map(Some),
    }
}

/// Returns the result of a request as it was sent.
fn value_of(result: ServerResult, method: &str) -> Result<Value, String> {
    match result {
        ServerResult::CustomResult(result) => Ok(result.0),
        result => serde_json::to_value(result)
            .map_err(|_| format!("its answer to {method} cannot be read")),
    }
}

fn custom(method: &str, params: Value) -> ClientRequest {
    ClientRequest::CustomRequest(CustomRequest::new(method, Some(params)))
}

fn read(value: Value) -> Result<ConvertedResult, String> {
    let read: Result<CallToolResult, _> = serde_json::from_value(value);
    read.map(result).map_err(|_| "the result of its task is not a valid MCP result".to_owned())
}
