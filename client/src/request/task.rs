//! Requests about background tasks.

use callpark_proto::v1::read_output_request::Position;

use crate::{
    request::{RunTool, RunTurn, builder},
    v1,
};

builder! {
    /// Work to start in the background, for [`Tasks::start`](crate::Tasks::start), if the options of
    /// [`RunTool`] or [`RunTurn`] do not suffice.
    ///
    /// ```
    /// use callpark_client::{RunTool, StartTask, v1};
    ///
    /// let request = StartTask::from(RunTool::new("build")).concurrency(v1::Concurrency::Reject);
    /// let message = v1::StartRequest::from(request);
    /// assert_eq!(message.concurrency(), v1::Concurrency::Reject);
    /// ```
    StartTask(StartRequest) {
        /// Sets what happens if the session has a live task. Default: both run.
        concurrency: choice(v1::Concurrency),
    }
}

impl From<RunTool> for StartTask {
    fn from(request: RunTool) -> Self {
        Self { message: request.into() }
    }
}

impl From<RunTurn> for StartTask {
    fn from(request: RunTurn) -> Self {
        Self { message: request.into() }
    }
}

builder! {
    /// A selection of tasks, for [`Tasks::list`](crate::Tasks::list).
    ///
    /// ```
    /// use callpark_client::{ListTasks, v1};
    ///
    /// let request = ListTasks::new().state(v1::State::Failed).state(v1::State::TimedOut);
    /// assert_eq!(v1::ListRequest::from(request).states.len(), 2);
    /// ```
    #[derive(Default)]
    ListTasks(ListRequest) {
        /// Selects the tasks of this session.
        session_id: text,
        /// Selects the tasks in this state. Repeated: in one of them.
        states: choices(state: v1::State),
        /// Selects the tasks of this kind. Repeated: of one of them.
        kinds: choices(kind: v1::Kind),
        /// Selects the tasks with this label. Repeated: with all of them.
        labels: label,
        /// Selects the tasks that were created after this time.
        created_after: time,
        /// Selects the tasks whose id begins with this text, such as `bg-3f2a`.
        background_id_prefix: text,
        /// Sets the number of tasks in one answer, 1 to 1,000. Default: 50.
        page_size: count,
        /// Continues after the answer with this `next_page_token`.
        page_token: text,
    }
}

impl ListTasks {
    /// Selects all tasks of the caller.
    pub fn new() -> Self {
        Self::default()
    }
}

builder! {
    /// A task to cancel, for [`Tasks::cancel`](crate::Tasks::cancel).
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use callpark_client::{CancelTask, v1};
    ///
    /// let request = CancelTask::new("bg-1").reason("no longer needed").grace(Duration::from_secs(20));
    /// assert_eq!(v1::CancelRequest::from(request).grace.unwrap().seconds, 20);
    /// ```
    CancelTask(CancelRequest) {
        /// Sets the id under which the request can be repeated, a UUID. Default: the client creates
        /// one.
        request_id: text,
        /// Sends KILL at once, without TERM and a grace period.
        force: flag,
        /// Sets the reason, for the task and the log. At most 4 KiB.
        reason: text,
        /// Checks the request and leaves the task as it is.
        dry_run: flag,
        /// Sets the time to wait for the end of the task. At most 540 s. Default: 10 s.
        wait: duration,
        /// Sets the time between TERM and KILL. At most 60 s. Default: 5 s.
        grace: duration,
    }
}

impl CancelTask {
    /// Cancels the task with this id.
    pub fn new(background_id: impl Into<String>) -> Self {
        let background_id = background_id.into();
        Self { message: v1::CancelRequest { background_id, ..Default::default() } }
    }
}

builder! {
    /// A finished task to delete, for [`Tasks::delete`](crate::Tasks::delete).
    ///
    /// ```
    /// use callpark_client::{DeleteTask, v1};
    ///
    /// let message = v1::DeleteRequest::from(DeleteTask::new("bg-1"));
    /// assert_eq!(message.background_id, "bg-1");
    /// ```
    DeleteTask(DeleteRequest) {
        /// Sets the id under which the request can be repeated, a UUID. Default: the client creates
        /// one.
        request_id: text,
    }
}

impl DeleteTask {
    /// Deletes the task with this id.
    pub fn new(background_id: impl Into<String>) -> Self {
        let background_id = background_id.into();
        Self { message: v1::DeleteRequest { background_id, ..Default::default() } }
    }
}

builder! {
    /// A part of the output of a task, for [`Tasks::read_output`](crate::Tasks::read_output).
    ///
    /// ```
    /// use callpark_client::{ReadOutput, v1};
    ///
    /// let request = ReadOutput::new("bg-1").stream(v1::OutputStream::Stderr).tail_lines(20);
    /// let message = v1::ReadOutputRequest::from(request);
    /// assert_eq!(message.stream(), v1::OutputStream::Stderr);
    /// ```
    ReadOutput(ReadOutputRequest) {
        /// Sets the stream. Default: both, in the order in which the server read them.
        stream: choice(v1::OutputStream),
        /// Sets the maximum number of bytes in the answer, 1 byte to 1 MiB. Default: 64 KiB.
        max_bytes: count,
        /// Sets the time to wait for output, or for the end of the task. At most 540 s. Default: the
        /// answer comes at once.
        wait: duration,
    }
}

impl ReadOutput {
    /// Reads the output of this task from the start.
    pub fn new(background_id: impl Into<String>) -> Self {
        let background_id = background_id.into();
        Self { message: v1::ReadOutputRequest { background_id, ..Default::default() } }
    }

    /// Begins at this offset, in bytes from the start of the stream.
    pub fn offset(mut self, offset: i64) -> Self {
        self.message.position = Some(Position::Offset(offset));
        self
    }

    /// Begins at the last lines, this many of them.
    pub fn tail_lines(mut self, lines: i32) -> Self {
        self.message.position = Some(Position::TailLines(lines));
        self
    }
}

builder! {
    /// The tasks to watch, for [`Tasks::watch`](crate::Tasks::watch).
    ///
    /// ```
    /// use callpark_client::{WatchTasks, v1};
    ///
    /// let request = WatchTasks::new().session_id("ses-1").watch_sequence(7);
    /// assert_eq!(v1::WatchRequest::from(request).watch_sequence, Some(7));
    /// ```
    #[derive(Default)]
    WatchTasks(WatchRequest) {
        /// Watches the tasks of this session only. Default: all tasks of the caller.
        session_id: text,
        /// Begins after the change with this number, from the answer to a list or an earlier watch.
        /// 0: with all changes that are kept. Default: with the changes from now on.
        watch_sequence: number(i64),
    }
}

impl WatchTasks {
    /// Watches all tasks of the caller.
    pub fn new() -> Self {
        Self::default()
    }
}
