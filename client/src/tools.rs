//! Tools and their calls.

use callpark_proto::v1::run_tool_response::Outcome;

use crate::{
    error::Error,
    stream::{CallRequest, CallStream},
    task::{ParkedAnswer, TaskHandle},
    transport::{
        connection::Connection,
        handle::handle,
        pages::{Pages, page},
        request_id::identify,
        unary::{rpc, send},
    },
    v1,
};

handle! {
    /// The tools of a server. [`Client::tools`](crate::Client::tools) returns it.
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// use callpark_client::{Client, Error, RunOutcome, RunTool};
    /// use serde_json::json;
    ///
    /// # async fn show(client: Client) -> Result<(), Error> {
    /// for tool in client.tools().list().await?.tools {
    ///     println!("{}", tool.name);
    /// }
    /// let request = RunTool::new("bash")
    ///     .arguments(json!({ "command": "make test" }))?
    ///     .call_budget(Duration::from_secs(30));
    /// match client.tools().run(request).await? {
    ///     RunOutcome::Finished(call) => println!("{:?}", call.result.exit),
    ///     RunOutcome::Parked(task) => println!("still running as {}", task.background_id()),
    ///     _ => {}
    /// }
    /// # Ok(())
    /// # }
    /// ```
    Tools
}

impl Tools<'_> {
    /// Lists all tools that the caller may use, in as many requests as there are pages.
    ///
    /// # Errors
    /// Only the errors that every call may return.
    pub async fn list(self) -> Result<v1::ListToolsResponse, Error> {
        self.list_all(v1::ListToolsRequest::default()).await
    }

    /// Lists all tools that the request selects, in as many requests as there are pages, from the page
    /// of the request on.
    ///
    /// # Errors
    /// NOT_FOUND `SESSION_NOT_FOUND`; INVALID_ARGUMENT `PAGE_TOKEN_INVALID`.
    pub async fn list_all(
        self,
        request: impl Into<v1::ListToolsRequest>,
    ) -> Result<v1::ListToolsResponse, Error> {
        let mut pages = Pages::<v1::ListToolsRequest>::new(self.connection, request);
        let mut all = v1::ListToolsResponse::default();
        while let Some(page) = pages.next().await? {
            all.tools.extend(page.tools);
            all.unavailable.extend(page.unavailable);
        }
        Ok(all)
    }

    /// Lists one page of the tools that the request selects, such as
    /// [`ListTools::in_session`](crate::ListTools::in_session).
    ///
    /// # Errors
    /// NOT_FOUND `SESSION_NOT_FOUND`; INVALID_ARGUMENT `PAGE_TOKEN_INVALID`.
    pub async fn list_with(
        self,
        request: impl Into<v1::ListToolsRequest>,
    ) -> Result<v1::ListToolsResponse, Error> {
        page(self.connection, request).await
    }

    /// Runs one call of a tool. Returns its result if the call ends within its budget, and a handle
    /// to the parked call otherwise. If the deadline of the client is shorter than the budget, the
    /// call is parked before the deadline passes.
    ///
    /// A failure of the tool is not an error but a result, with `is_error` set.
    ///
    /// # Errors
    /// NOT_FOUND `SESSION_NOT_FOUND` or `TOOL_NOT_FOUND`; PERMISSION_DENIED `TOOL_NOT_ALLOWED`;
    /// INVALID_ARGUMENT `ARGUMENTS_INVALID`; ALREADY_EXISTS `REQUEST_ID_REUSED`; FAILED_PRECONDITION
    /// `SESSION_CLOSED`; RESOURCE_EXHAUSTED `TASK_LIMIT` or `STORAGE_FULL`. After these errors no work
    /// has been started.
    pub async fn run(self, request: impl Into<v1::RunToolRequest>) -> Result<RunOutcome, Error> {
        const RPC: &str = "ToolRunner.RunTool";
        let attempts = self.attempts(RPC);
        let answer = send(attempts, identify(request.into()), rpc!(tool_runner.run_tool)).await?;
        RunOutcome::new(self.connection, answer)
            .ok_or_else(|| Error::answer("the answer contains no outcome").of(RPC, 1))
    }

    /// Runs one call of a tool and streams its events. The stream opens at the first poll.
    ///
    /// An interruption counts as a disconnect of the caller, for which
    /// [`on_disconnect`](crate::RunTool::on_disconnect) is set: by default the call is then parked,
    /// and the resumed stream ends with `tool_call_parked`.
    ///
    /// # Errors
    /// An item may be one of the errors of [`run`](Self::run).
    pub fn stream(self, request: impl Into<v1::RunToolRequest>) -> CallStream {
        CallStream::new(self.connection, CallRequest::Tool(request.into()))
    }
}

/// The outcome of a tool call.
///
/// ```no_run
/// use callpark_client::{RunOutcome, WaitLimit};
///
/// # async fn show(outcome: RunOutcome) -> Result<(), callpark_client::Error> {
/// match outcome {
///     RunOutcome::Finished(call) => println!("{:?}", call.result.content),
///     RunOutcome::Parked(task) => {
///         task.wait(WaitLimit::Unbounded).await?;
///     }
///     _ => {}
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RunOutcome {
    /// The call ended within its budget. This includes failures of the tool: `result.is_error`.
    Finished(Box<FinishedCall>),
    /// The call continues as a background task.
    Parked(TaskHandle),
    /// The request was a dry run: it was checked, and nothing was started.
    Checked(Box<v1::RunToolResponse>),
}

/// A call that ended within its budget.
///
/// ```
/// use callpark_client::FinishedCall;
///
/// fn has_failed(call: &FinishedCall) -> bool {
///     call.result.is_error
/// }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FinishedCall {
    /// The session of the call.
    pub session_id: String,
    /// The id of the call.
    pub call_id: String,
    /// The result of the tool.
    pub result: v1::ToolResult,
    /// An earlier request with the same `request_id` started the call.
    pub replayed: bool,
}

impl RunOutcome {
    /// Returns the outcome, or `None` if the answer lacks one although it is no dry run.
    fn new(connection: &Connection, mut answer: v1::RunToolResponse) -> Option<Self> {
        let Some(outcome) = answer.outcome.take() else {
            return answer.dry_run.then(|| Self::Checked(Box::new(answer)));
        };
        let v1::RunToolResponse { session_id, call_id, replayed, .. } = answer;
        Some(match outcome {
            Outcome::Result(result) => {
                Self::Finished(Box::new(FinishedCall { session_id, call_id, result, replayed }))
            }
            Outcome::Parked(notice) => {
                let answer = ParkedAnswer { session_id, call_id, turn_id: None, replayed, notice };
                Self::Parked(TaskHandle::parked(connection, answer))
            }
        })
    }
}
