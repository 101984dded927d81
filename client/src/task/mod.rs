//! Background tasks.

mod handle;
mod output;
mod wait;
mod wait_many;

use crate::{
    error::Error,
    stream::WatchStream,
    transport::{
        attempts::Attempts,
        handle::handle,
        pages::page,
        request_id::identify,
        unary::{rpc, send},
    },
    v1,
};

pub(crate) use handle::ParkedAnswer;
pub use handle::TaskHandle;
pub use output::{OutputChunk, OutputOptions, OutputReader};
pub use wait::WaitLimit;

use wait::WaitChain;

handle! {
    /// The background tasks of a server: parked calls and work that was started in the background.
    /// [`Client::tasks`](crate::Client::tasks) returns it.
    ///
    /// ```no_run
    /// use callpark_client::{Client, Error, ListTasks, RunTool, WaitLimit, v1};
    /// use serde_json::json;
    ///
    /// # async fn show(client: Client) -> Result<(), Error> {
    /// let tasks = client.tasks();
    /// let build = RunTool::new("bash").arguments(json!({ "command": "make" }))?.label("job", "build");
    /// let task = tasks.start(build).await?.task.unwrap_or_default();
    /// tasks.wait(&task.background_id, WaitLimit::Unbounded).await?;
    /// for task in tasks.list(ListTasks::new().state(v1::State::Failed)).await?.tasks {
    ///     println!("{} failed", task.background_id);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    Tasks
}

impl Tasks<'_> {
    /// Returns a handle to the task with this id: `bg-` and 32 hex digits. Sends nothing.
    pub fn handle(self, background_id: impl Into<String>) -> TaskHandle {
        TaskHandle::new(self.connection, background_id.into())
    }

    /// Starts a call or a turn in the background: a [`RunTool`](crate::RunTool), a
    /// [`RunTurn`](crate::RunTurn) or the message itself.
    ///
    /// # Errors
    /// NOT_FOUND `SESSION_NOT_FOUND`, `TOOL_NOT_FOUND` or `MODEL_NOT_FOUND`; INVALID_ARGUMENT
    /// `ARGUMENTS_INVALID`; ALREADY_EXISTS `REQUEST_ID_REUSED`; ABORTED `SESSION_BUSY`;
    /// FAILED_PRECONDITION `SESSION_CLOSED`; PERMISSION_DENIED `TOOL_NOT_ALLOWED`; RESOURCE_EXHAUSTED
    /// `TASK_LIMIT` or `STORAGE_FULL`. After an error no work has been started.
    pub async fn start(
        self,
        request: impl Into<v1::StartRequest>,
    ) -> Result<v1::StartResponse, Error> {
        let attempts = self.attempts("BackgroundTasks.Start");
        send(attempts, identify(request.into()), rpc!(background_tasks.start)).await
    }

    /// Returns the current state of a task.
    ///
    /// # Errors
    /// NOT_FOUND `TASK_NOT_FOUND`.
    pub async fn get(self, background_id: impl Into<String>) -> Result<v1::Task, Error> {
        const RPC: &str = "BackgroundTasks.Get";
        let request = v1::GetRequest { background_id: background_id.into() };
        let answer = send(self.attempts(RPC), request, rpc!(background_tasks.get)).await?;
        answer.task.ok_or_else(|| Error::answer("the answer contains no task").of(RPC, 1))
    }

    /// Lists the tasks of the caller, newest first, in pages.
    ///
    /// # Errors
    /// NOT_FOUND `SESSION_NOT_FOUND`; INVALID_ARGUMENT `PAGE_TOKEN_INVALID`.
    pub async fn list(
        self,
        request: impl Into<v1::ListRequest>,
    ) -> Result<v1::ListResponse, Error> {
        page(self.connection, request).await
    }

    /// Waits until a task has ended. If it has not ended within the limit, the answer is marked as
    /// `still_running`.
    ///
    /// The wait consists of as many requests as it needs, and survives interruptions and restarts of
    /// the server. A deadline of the client limits the whole wait.
    ///
    /// # Errors
    /// NOT_FOUND `TASK_NOT_FOUND`.
    pub async fn wait(
        self,
        background_id: impl Into<String>,
        limit: impl Into<WaitLimit>,
    ) -> Result<v1::WaitResponse, Error> {
        self.wait_chain(background_id.into(), limit.into(), false).await
    }

    /// Waits like [`wait`](Self::wait), and acknowledges the outcome: if the task has ended, its
    /// follow-up is suppressed.
    ///
    /// # Errors
    /// NOT_FOUND `TASK_NOT_FOUND`.
    pub async fn wait_and_acknowledge(
        self,
        background_id: impl Into<String>,
        limit: impl Into<WaitLimit>,
    ) -> Result<v1::WaitResponse, Error> {
        self.wait_chain(background_id.into(), limit.into(), true).await
    }

    async fn wait_chain(
        self,
        background_id: String,
        limit: WaitLimit,
        acknowledge: bool,
    ) -> Result<v1::WaitResponse, Error> {
        let chain = WaitChain::new(self.connection, limit);
        loop {
            let wait = chain.next();
            let request = v1::WaitRequest {
                background_id: background_id.clone(),
                wait: wait.to_message(),
                acknowledge,
            };
            let attempts = Attempts::part_of_operation(self.connection, "BackgroundTasks.Wait")
                .until(chain.deadline);
            let mut answer = send(attempts, request, rpc!(background_tasks.wait)).await?;
            if !answer.still_running || chain.ends_with(&wait).await {
                answer.waited = chain.waited();
                return Ok(answer);
            }
        }
    }

    /// Waits until one of the tasks has ended, within the limit. The answer lists which of them have
    /// ended and which have not, in the order of the ids.
    ///
    /// # Errors
    /// NOT_FOUND `TASK_NOT_FOUND` if an id is unknown; INVALID_ARGUMENT for no id and for more than
    /// 6,400.
    pub async fn wait_any(
        self,
        background_ids: &[String],
        limit: impl Into<WaitLimit>,
    ) -> Result<v1::WaitManyResponse, Error> {
        wait_many::wait_any(self.connection, background_ids, limit.into()).await
    }

    /// Waits until all tasks have ended, within the limit. The answer lists which of them have ended
    /// and which have not, in the order of the ids.
    ///
    /// # Errors
    /// NOT_FOUND `TASK_NOT_FOUND` if an id is unknown; INVALID_ARGUMENT for no id.
    pub async fn wait_all(
        self,
        background_ids: &[String],
        limit: impl Into<WaitLimit>,
    ) -> Result<v1::WaitManyResponse, Error> {
        wait_many::wait_all(self.connection, background_ids, limit.into()).await
    }

    /// Sends a single `WaitMany` request: up to 100 tasks, for up to 540 s. Unlike
    /// [`wait_any`](Self::wait_any) and [`wait_all`](Self::wait_all) it can acknowledge the outcomes.
    ///
    /// # Errors
    /// NOT_FOUND `TASK_NOT_FOUND` if an id is unknown.
    pub async fn wait_many(
        self,
        request: impl Into<v1::WaitManyRequest>,
    ) -> Result<v1::WaitManyResponse, Error> {
        let attempts = self.attempts("BackgroundTasks.WaitMany");
        send(attempts, request.into(), rpc!(background_tasks.wait_many)).await
    }

    /// Cancels a task: TERM to its processes, and KILL after the grace period; with `force`, KILL at
    /// once. A task that has finished keeps its result, which is in the answer.
    ///
    /// # Errors
    /// NOT_FOUND `TASK_NOT_FOUND`; ALREADY_EXISTS `REQUEST_ID_REUSED`.
    pub async fn cancel(
        self,
        request: impl Into<v1::CancelRequest>,
    ) -> Result<v1::CancelResponse, Error> {
        let attempts = self.attempts("BackgroundTasks.Cancel");
        send(attempts, identify(request.into()), rpc!(background_tasks.cancel)).await
    }

    /// Deletes the record and the output of a finished task.
    ///
    /// # Errors
    /// NOT_FOUND `TASK_NOT_FOUND`; FAILED_PRECONDITION `TASK_RUNNING`; ALREADY_EXISTS
    /// `REQUEST_ID_REUSED`.
    pub async fn delete(
        self,
        request: impl Into<v1::DeleteRequest>,
    ) -> Result<v1::DeleteResponse, Error> {
        let attempts = self.attempts("BackgroundTasks.Delete");
        send(attempts, identify(request.into()), rpc!(background_tasks.delete)).await
    }

    /// Reads one part of the output of a task. [`output`](Self::output) reads all of it.
    ///
    /// # Errors
    /// NOT_FOUND `TASK_NOT_FOUND`.
    pub async fn read_output(
        self,
        request: impl Into<v1::ReadOutputRequest>,
    ) -> Result<v1::ReadOutputResponse, Error> {
        let attempts = self.attempts("BackgroundTasks.ReadOutput");
        send(attempts, request.into(), rpc!(background_tasks.read_output)).await
    }

    /// Returns the output of a task as a stream, from the start or from the position in `options`
    /// until the task has ended.
    pub fn output(self, background_id: impl Into<String>, options: OutputOptions) -> OutputReader {
        OutputReader::new(self.connection, background_id.into(), options)
    }

    /// Streams the changes of tasks. The stream opens at the first poll.
    ///
    /// # Errors
    /// An item may be an error: NOT_FOUND `SESSION_NOT_FOUND`; OUT_OF_RANGE `SEQUENCE_AHEAD` or
    /// `SEQUENCE_TRIMMED`, after which the tasks have to be listed again.
    pub fn watch(self, request: impl Into<v1::WatchRequest>) -> WatchStream {
        WatchStream::new(self.connection, request.into())
    }

    /// Returns a summary of the tasks of a session, for its model and for a person.
    ///
    /// # Errors
    /// NOT_FOUND `SESSION_NOT_FOUND`.
    pub async fn summarize(
        self,
        session_id: impl Into<String>,
    ) -> Result<v1::SummarizeResponse, Error> {
        let request = v1::SummarizeRequest { session_id: session_id.into() };
        let attempts = self.attempts("BackgroundTasks.Summarize");
        send(attempts, request, rpc!(background_tasks.summarize)).await
    }
}
