//! The port to processes: start one, read what it writes, stop it, learn how it ended.

mod child_process;
mod launcher;
mod lines;
mod unix;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::model::{CallId, Exit, OutputStream, ProcessSpec};

pub use crate::model::Survivor;
pub use child_process::{ChildProcessConfig, ChildProcessError, variable_name_error};
pub use launcher::{LaunchedProcess, Launcher};
pub use lines::{BoundedLines, FirstError, LINE_BYTES_MAX, LastLines, describe_exit};
pub use unix::{ProcessLife, UnixExecutor, adopt_orphans, close_inherited_on_exec};

/// How the processes of this executor are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExecutorOptions {
    /// How long pipes are read after the process has exited.
    pub drain: Duration,
    /// The largest piece of output, in bytes.
    pub chunk_bytes_max: usize,
    /// How long output waits to be coalesced into a larger piece.
    pub chunk_delay: Duration,
    /// By how many steps of `nice` processes stand behind the server, 0 to 19: one that never
    /// sleeps must not keep the server from answering others.
    pub niceness: u32,
}

/// Why a process couldn't be started: the caller's matter, told as the call's result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// There is no such program.
    #[error("program `{program}` was not found: check the name and the PATH of the tool")]
    ProgramMissing {
        /// What was to be run.
        program: String,
    },
    /// It may not be executed.
    #[error("program `{program}` may not be executed: check its permissions")]
    NotExecutable {
        /// What was to be run.
        program: String,
    },
    /// The working directory is not there.
    #[error("the working directory `{path}` is not a directory that can be entered")]
    WorkingDirectory {
        /// The directory.
        path: String,
    },
    /// The system refused.
    #[error("the system could not start `{program}`: {cause}")]
    System {
        /// What was to be run.
        program: String,
        /// What it said.
        cause: String,
    },
}

/// How to stop a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// TERM to the group now, KILL after this long.
    Graceful(Duration),
    /// KILL to the group now.
    Kill,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitReport {
    /// Its code or signal.
    pub exit: Exit,
    /// A stop was asked for before it was seen to have ended.
    pub stopped: bool,
    /// Descendants that left the group and could not be killed.
    pub survivors: Vec<Survivor>,
    /// The pipes were still held open by somebody when reading ended: later output isn't here.
    pub output_cut: bool,
}

/// What a process does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProcessEvent {
    /// It wrote.
    Output {
        /// To this stream.
        stream: OutputStream,
        /// These bytes.
        data: Bytes,
    },
    /// It ended, was reaped, and all of its output has been given. Always the last event.
    Exited(ExitReport),
}

/// A process that was started.
///
/// Dropping it kills the group: nothing is left running that nobody watches.
#[async_trait]
pub trait Process: Send {
    /// Its process id, which is also its group's.
    fn pid(&self) -> u32;

    /// The next thing that it does. Safe to drop and call again: nothing is lost. Output isn't
    /// read while nobody asks, so a slow reader blocks the process, not the memory. After
    /// [`ProcessEvent::Exited`] it never returns.
    async fn next(&mut self) -> ProcessEvent;

    /// Asks it to stop. Takes effect at once; the end is told by [`Process::next`]. Asking again
    /// may shorten the grace, never lengthen it.
    fn stop(&mut self, stop: Stop);
}

/// Starts processes.
#[async_trait]
pub trait Executor: Send + Sync + 'static {
    /// Starts a process for this call, as the leader of a new group.
    ///
    /// The process gets what the spec says and nothing else: descriptors 0, 1 and 2, the named
    /// variables, and `CALLPARK_CALL_ID`, the mark by which its descendants are found.
    fn start(&self, call_id: CallId, spec: ProcessSpec) -> Result<Box<dyn Process>, StartError>;

    /// Kills every process on this machine that carries the mark of one of these calls: what a
    /// server that died has left behind. Returns those that could not be killed.
    fn kill_leftovers(&self, calls: &[CallId]) -> Vec<Survivor>;

    /// Waits until every process that was dropped before its end is dead and reaped, and so is
    /// what calls have left. The last thing to do with an executor.
    async fn reaped(&self);
}
