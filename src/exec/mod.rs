//! The port to processes: starting one, reading its output, stopping it, and its exit.

mod child_process_config;
mod launcher;
mod lines;
mod run;
mod shim;
mod unix;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::model::{CallId, Exit, OutputStream, ProcessSpec};

pub use crate::model::{LeftProcesses, Survivor};
pub use child_process_config::{ChildProcessConfig, ChildProcessError, variable_name_error};
pub use launcher::{LaunchedProcess, Launcher};
pub use lines::{BoundedLines, FirstError, LINE_BYTES_MAX, LastLines, describe_exit};
pub use run::{
    LocalRunner, OutputBefore, OutputKeeper, ProcessRun, RunEvent, RunLimits, RunReport, RunSpec,
    Runner, output_content,
};
pub use shim::{
    HostOptions, ShimError, ShimFolder, ShimProgram, ShimReport, ShimRunner, ShimStatus, host,
    inspect_shims,
};
pub use unix::{
    ProcError, ProcessLife, UnixExecutor, adopt_orphans, check_proc, close_inherited_on_exec,
    forbid_inspection, restore_ignored_signals,
};

/// The options of an executor, for all of its processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExecutorOptions {
    /// The time for which pipes are read after the process has exited.
    pub drain: Duration,
    /// The largest piece of output, in bytes.
    pub chunk_bytes_max: usize,
    /// The time for which output waits to be joined with more into a larger piece.
    pub chunk_delay: Duration,
    /// The steps of `nice` by which processes have a lower priority than the server, 0 to 19. A
    /// process that never sleeps must not keep the server from answering others.
    pub niceness: u32,
}

/// The reason why a process could not be started. It becomes the result of the call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The program was not found.
    #[error("program `{program}` was not found: check the name and the PATH of the tool")]
    ProgramMissing {
        /// The program, as the caller wrote it.
        program: String,
    },
    /// The program may not be executed.
    #[error("program `{program}` may not be executed: check its permissions")]
    NotExecutable {
        /// The program, as the caller wrote it.
        program: String,
    },
    /// The working directory cannot be entered.
    #[error("the working directory `{path}` is not a directory that can be entered")]
    WorkingDirectory {
        /// The directory.
        path: String,
    },
    /// The system refused to start the program.
    #[error("the system could not start `{program}`: {cause}")]
    System {
        /// The program, as the caller wrote it.
        program: String,
        /// The error of the system.
        cause: String,
    },
}

/// A way to stop a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Sends TERM to the group now, and KILL after this time.
    Graceful(Duration),
    /// Sends KILL to the group now.
    Kill,
}

/// The end of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitReport {
    /// The exit code or the signal.
    pub exit: Exit,
    /// `true` if a stop was requested before the exit was seen.
    pub stopped: bool,
    /// Descendants that left the group and could not be killed.
    pub survivors: Vec<Survivor>,
    /// Descendants that were running when the process had ended by itself, and were killed. None are
    /// known where the program adopts no orphans.
    pub left: Option<Box<LeftProcesses>>,
    /// `true` if a pipe was still open when reading ended. Later output is lost.
    pub output_incomplete: bool,
}

/// An event of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProcessEvent {
    /// The process wrote to a stream.
    Output {
        /// The stream.
        stream: OutputStream,
        /// The bytes.
        data: Bytes,
    },
    /// The process has ended and was reaped, and all of its output was returned. Always the last
    /// event.
    Exited(ExitReport),
}

/// A process that was started.
///
/// Dropping it kills its group, so that no process runs without an owner.
#[async_trait]
pub trait Process: Send {
    /// Returns the process id, which is also the id of the group.
    fn pid(&self) -> u32;

    /// Waits for the next event. The future may be dropped: no event is lost. Output is read only
    /// while this is polled, so a slow reader blocks the process and costs no memory. After
    /// [`ProcessEvent::Exited`] it never returns.
    async fn next(&mut self) -> ProcessEvent;

    /// Stops the process. The signal is sent at once, and [`Process::next`] returns the end.
    /// Another call may shorten the grace, but not lengthen it.
    fn stop(&mut self, stop: Stop);
}

/// Starts processes.
#[async_trait]
pub trait Executor: Send + Sync + 'static {
    /// Starts a process for a call, as the leader of a new group, without a controlling terminal.
    ///
    /// The process gets descriptors 0, 1 and 2, the variables of the spec, and `CALLPARK_CALL_ID`,
    /// the mark by which its descendants are found, with the process of this server in
    /// `CALLPARK_SERVER_PROCESS`; and `PYTHONUNBUFFERED=1`, unless the spec has that variable. It gets
    /// nothing else.
    ///
    /// # Errors
    ///
    /// The reason why the process could not be started, and what to do.
    fn start(&self, call_id: CallId, spec: ProcessSpec) -> Result<Box<dyn Process>, StartError>;

    /// Kills every process on this machine that carries the mark of one of these calls: those that
    /// a server which crashed has left behind, with those that descend from them, and those without a
    /// mark that the server has recorded. Those of another server that is alive are spared. Returns
    /// those that could not be killed.
    fn kill_leftovers(&self, calls: &[CallId]) -> Vec<Survivor>;

    /// Returns the calls whose mark is on a process of this machine, and whose server has ended. They
    /// may be of any store.
    fn leftover_calls(&self) -> Vec<CallId> {
        Vec::new()
    }

    /// Waits until all processes that were dropped before their end are dead and reaped, together
    /// with those that calls have left. An executor must not be used afterwards.
    async fn reaped(&self);
}

/// Waits until a time, or for ever if there is none.
pub(crate) async fn reached(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
