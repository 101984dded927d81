//! A handle to one background task.

use std::sync::Arc;

use crate::{
    error::Error,
    request::CancelTask,
    task::{
        Tasks,
        output::{OutputOptions, OutputReader},
        wait::WaitLimit,
    },
    transport::connection::Connection,
    v1,
};

/// A handle to a background task. It owns nothing: dropping it does not affect the task.
///
/// The waits and the output reader are retried like streams: they draw on
/// [`resume_attempts`](crate::ClientOptions::resume_attempts), and each answer resets the count.
///
/// ```no_run
/// use std::time::Duration;
///
/// use callpark_client::{Client, Error};
///
/// # async fn show(client: Client) -> Result<(), Error> {
/// let task = client.tasks().handle("bg-0123456789abcdef0123456789abcdef");
/// let answer = task.wait(Duration::from_secs(600)).await?;
/// if answer.still_running {
///     task.cancel("it takes too long").await?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct TaskHandle {
    connection: Connection,
    background_id: String,
    parked: Option<Arc<ParkedAnswer>>,
}

/// The answer with which the server parked a call or a turn.
#[derive(Debug)]
pub(crate) struct ParkedAnswer {
    pub(crate) session_id: String,
    pub(crate) call_id: String,
    /// The id of the turn, or `None` for a call of a tool.
    pub(crate) turn_id: Option<String>,
    pub(crate) replayed: bool,
    pub(crate) notice: v1::ParkedCall,
}

impl TaskHandle {
    pub(crate) fn new(connection: &Connection, background_id: String) -> Self {
        Self { connection: connection.clone(), background_id, parked: None }
    }

    /// Creates the handle of a call that was parked with this answer.
    pub(crate) fn parked(connection: &Connection, answer: ParkedAnswer) -> Self {
        let background_id = answer.notice.background_id.clone();
        Self { parked: Some(Arc::new(answer)), ..Self::new(connection, background_id) }
    }

    /// Returns the id of the task: `bg-` and 32 hex digits.
    pub fn background_id(&self) -> &str {
        &self.background_id
    }

    /// Returns the session of the parked call, or `None` if the handle was created from an id.
    pub fn session_id(&self) -> Option<&str> {
        self.parked.as_ref().map(|parked| parked.session_id.as_str())
    }

    /// Returns the id of the parked call, or `None` if the handle was created from an id.
    pub fn call_id(&self) -> Option<&str> {
        self.parked.as_ref().map(|parked| parked.call_id.as_str())
    }

    /// Returns the id of the parked turn, or `None` if a call of a tool was parked or the handle was
    /// created from an id.
    pub fn turn_id(&self) -> Option<&str> {
        self.parked.as_ref().and_then(|parked| parked.turn_id.as_deref())
    }

    /// Returns `true` if an earlier request with the same `request_id` started the call.
    pub fn replayed(&self) -> bool {
        self.parked.as_ref().is_some_and(|parked| parked.replayed)
    }

    /// Returns the description of the parked call: the text for a model, the task at that moment, and
    /// a suggested wait. `None` if the handle was created from an id.
    pub fn notice(&self) -> Option<&v1::ParkedCall> {
        self.parked.as_ref().map(|parked| &parked.notice)
    }

    /// Returns the current state of the task.
    ///
    /// # Errors
    /// NOT_FOUND `TASK_NOT_FOUND`.
    pub async fn get(&self) -> Result<v1::Task, Error> {
        self.tasks().get(&self.background_id).await
    }

    /// Waits until the task has ended. If it has not ended within the limit, the answer is marked as
    /// `still_running`.
    ///
    /// A deadline of the client limits the whole wait. The answer arrives before the deadline if the
    /// server can be reached.
    ///
    /// # Errors
    /// NOT_FOUND `TASK_NOT_FOUND`.
    pub async fn wait(&self, limit: impl Into<WaitLimit>) -> Result<v1::WaitResponse, Error> {
        self.tasks().wait(&self.background_id, limit).await
    }

    /// Waits like [`wait`](Self::wait), and acknowledges the outcome: if the task has ended, its
    /// follow-up is suppressed.
    ///
    /// # Errors
    /// NOT_FOUND `TASK_NOT_FOUND`.
    pub async fn wait_and_acknowledge(
        &self,
        limit: impl Into<WaitLimit>,
    ) -> Result<v1::WaitResponse, Error> {
        self.tasks().wait_and_acknowledge(&self.background_id, limit).await
    }

    /// Cancels the task: TERM to its processes, and KILL after the grace period. A task that has
    /// finished keeps its result, which is in the answer. `reason` may be empty.
    ///
    /// # Errors
    /// NOT_FOUND `TASK_NOT_FOUND`.
    pub async fn cancel(&self, reason: impl Into<String>) -> Result<v1::CancelResponse, Error> {
        self.tasks().cancel(CancelTask::new(&self.background_id).reason(reason)).await
    }

    /// Cancels the task like [`cancel`](Self::cancel), with KILL at once.
    ///
    /// # Errors
    /// NOT_FOUND `TASK_NOT_FOUND`.
    pub async fn kill(&self, reason: impl Into<String>) -> Result<v1::CancelResponse, Error> {
        self.tasks().cancel(CancelTask::new(&self.background_id).force().reason(reason)).await
    }

    /// Returns the output of the task as a stream, from the start or from the position in `options`
    /// until the task has ended.
    pub fn output(&self, options: OutputOptions) -> OutputReader {
        self.tasks().output(&self.background_id, options)
    }

    fn tasks(&self) -> Tasks<'_> {
        Tasks::new(&self.connection)
    }
}
