//! Processes on Linux: one group for each call, watched through a pidfd and two pipes, and without
//! the terminal of this program.
//!
//! A process has no thread and no task of its own. It is handled while its next event is polled, so
//! 50,000 silent processes are 50,000 small structs without buffers. One task searches for the
//! processes that calls have left behind.
//!
//! `spawn` starts a process, `process` follows it to its end and stops it on request (TERM, the grace, KILL),
//! and `descendants` and `orphans` find what it has left behind.

mod children;
mod descendants;
mod ignored_signals;
mod kin;
mod leader;
mod left_processes;
mod mark;
mod orphans;
mod output;
mod piped;
mod process;
mod procfs;
mod reaper;
mod record;
mod separation;
mod spawn;
mod status;
mod stdin;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use rustix::process::{DumpableBehavior, Pid, getpriority_process, set_dumpable_behavior};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Executor, ExecutorOptions, Process, StartError, Survivor};
use crate::model::{CallId, ProcessSpec};

use descendants::Sweeper;
pub use ignored_signals::restore_ignored_signals;
pub use orphans::adopt_orphans;
pub(in crate::exec) use piped::PipedProcess;
pub use piped::ProcessLife;
use process::UnixProcess;
pub use procfs::{ProcError, check_proc};
use reaper::Reaper;
use record::Record;
use separation::Separation;

/// Keeps the descriptors that this process has inherited from its parent away from its children.
///
/// Descriptors that Rust opens are closed on exec anyway, but one that the parent left open would
/// reach every tool. Call it once, early: it marks all open descriptors above 2.
pub fn close_inherited_on_exec() {
    close_fds::set_fds_cloexec_threadsafe(3, &[]);
}

/// Keeps other processes of this user from reading the environment, the memory and the descriptors of
/// this process in `/proc`, and from tracing it. The system writes no core dump of it either. Processes
/// that it starts are not concerned, and root may do all of that.
///
/// Call it before the first process is started. A secret cannot be removed from the environment instead:
/// `/proc` shows the memory in which the process was given its variables, which no function clears.
///
/// # Errors
///
/// The system does not know the request.
pub fn forbid_inspection() -> io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(io::Error::from)
}

/// Returns a text that names this process also after its id has another owner.
pub(in crate::exec) fn this_process() -> String {
    mark::ServerProcess::this().to_string()
}

/// Returns whether the process that such a text names is running, and is another one.
pub(in crate::exec) fn is_running(process: &str) -> bool {
    process.parse().is_ok_and(mark::ServerProcess::is_another_alive)
}

/// The state that an executor shares with its processes.
#[derive(Debug)]
struct ExecutorState {
    options: ExecutorOptions,
    /// The niceness of processes, or `None` for that of the server.
    niceness: Option<i32>,
    separation: Separation,
    sweeper: Arc<Sweeper>,
    /// The records that earlier servers and shims have left of their processes.
    records: Mutex<Vec<Record>>,
    /// The tasks that reap dropped processes and search for what calls have left.
    reaping: TaskTracker,
    /// Cancelled when these tasks must end.
    closing: CancellationToken,
}

/// Starts processes on this machine. Linux 5.3 or newer.
///
/// A call's processes are those of its group, and those that left the group but still carry the
/// call's mark in their environment. When a call ends, its whole group is killed: a background
/// child of a finished `bash -c 'sleep 100 &'` does not outlive its call.
///
/// Descendants whose parent is gone are reaped by the machine's init, or by this program after
/// [`adopt_orphans`].
#[derive(Debug, Clone)]
pub struct UnixExecutor {
    shared: Arc<ExecutorState>,
}

impl UnixExecutor {
    /// Creates an executor.
    pub fn new(options: ExecutorOptions) -> Self {
        Self::with_separation(options, Separation::from_terminal())
    }

    fn with_separation(options: ExecutorOptions, separation: Separation) -> Self {
        let options =
            ExecutorOptions { chunk_bytes_max: options.chunk_bytes_max.max(1), ..options };
        Self {
            shared: Arc::new(ExecutorState {
                options,
                niceness: absolute_niceness(options.niceness),
                separation,
                sweeper: Arc::new(Sweeper::default()),
                records: Mutex::default(),
                reaping: TaskTracker::new(),
                closing: CancellationToken::new(),
            }),
        }
    }

    /// Starts a process whose pipes the caller holds, in a group of its own. It belongs to no call,
    /// and the standard input of the spec is not used. Blocks for about a millisecond. Must be
    /// called inside a Tokio runtime.
    pub(in crate::exec) fn connect(&self, spec: &ProcessSpec) -> Result<PipedProcess, StartError> {
        let connected =
            spawn::connect(CallId::random(), spec, self.shared.separation, self.reaper(spec)?)?;
        if let Some(niceness) = self.shared.niceness {
            connected.leader.set_niceness(niceness);
        }
        Ok(PipedProcess::new(connected))
    }

    /// Reads what an earlier server has recorded of its processes in a folder, for
    /// [`Executor::kill_leftovers`], and records its own there from now on, if this program
    /// [adopts orphans](adopt_orphans).
    pub fn record_in(&self, folder: &Path) {
        self.read_record(folder);
        orphans::record_in(folder);
    }

    /// Reaps orphans whenever a child of this program ends, if this program
    /// [adopts orphans](adopt_orphans). Must be called inside a Tokio runtime.
    pub fn reap_orphans(&self) {
        let (tasks, closing) = (self.shared.reaping.clone(), self.shared.closing.clone());
        orphans::reap_always(Reaper { tasks, runtime: Handle::current(), closing });
    }

    /// Reads what a program that has ended has recorded of its processes in a folder, for
    /// [`Executor::kill_leftovers`].
    pub(in crate::exec) fn read_record(&self, folder: &Path) {
        let record = Record::read(folder);
        self.shared.records.lock().unwrap_or_else(PoisonError::into_inner).push(record);
    }

    /// Starts a program in a session of its own, which goes on after this one. The program has a socket
    /// as its standard input, a file as its standard error, and no variables.
    pub(in crate::exec) fn launch_apart(
        &self,
        argv: &[String],
        socket: OwnedFd,
        messages: File,
    ) -> io::Result<()> {
        spawn::launch_apart(argv, socket, messages)
    }

    /// Waits until a process has ended, with a bound. Blocks.
    pub(in crate::exec) fn wait_for_end(&self, pid: Pid) {
        descendants::wait_for_end(pid);
    }

    /// Kills a process and waits until it has ended, with a bound, if one of its arguments ends with this
    /// text. Blocks.
    pub(in crate::exec) fn kill_and_wait(&self, pid: Pid, argument_end: &str) {
        descendants::kill_and_wait(pid, argument_end);
    }

    fn reaper(&self, spec: &ProcessSpec) -> Result<Reaper, StartError> {
        let runtime = Handle::try_current().map_err(|error| StartError::System {
            program: spec.argv.first().cloned().unwrap_or_default(),
            cause: error.to_string(),
        })?;
        let (tasks, closing) = (self.shared.reaping.clone(), self.shared.closing.clone());
        Ok(Reaper { tasks, runtime, closing })
    }
}

#[async_trait]
impl Executor for UnixExecutor {
    /// Blocks for about a millisecond, until the program has been executed.
    fn start(&self, call_id: CallId, spec: ProcessSpec) -> Result<Box<dyn Process>, StartError> {
        let reaper = self.reaper(&spec)?;
        let spawned = spawn::spawn(call_id, &spec, self.shared.separation, reaper)?;
        if let Some(niceness) = self.shared.niceness {
            spawned.leader.set_niceness(niceness);
        }
        Ok(Box::new(UnixProcess::new(call_id, spawned, Arc::clone(&self.shared))))
    }

    /// Blocks for a read of all of `/proc`, and for up to about a second more if a process must be
    /// killed.
    fn kill_leftovers(&self, calls: &[CallId]) -> Vec<Survivor> {
        let mut records = self.shared.records.lock().unwrap_or_else(PoisonError::into_inner);
        let records = std::mem::take(&mut *records);
        descendants::kill_leftovers(calls, records)
    }

    /// Blocks for a read of all of `/proc`.
    fn leftover_calls(&self) -> Vec<CallId> {
        descendants::leftover_calls()
    }

    async fn reaped(&self) {
        self.shared.closing.cancel();
        self.shared.reaping.close();
        self.shared.reaping.wait().await;
        // It fails only while the runtime is shutting down.
        let _result = tokio::task::spawn_blocking(orphans::wait_until_gone).await;
    }
}

/// Returns the niceness that is `steps` above that of this program, or `None` if it is the same or
/// not known.
fn absolute_niceness(steps: u32) -> Option<i32> {
    let own = getpriority_process(None).ok()?;
    let niceness = own.saturating_add_unsigned(steps).min(NICENESS_MAX);
    (niceness > own).then_some(niceness)
}

/// The highest niceness.
const NICENESS_MAX: i32 = 19;

/// Returns the result of a wait for a descriptor. The wait fails only while the runtime is shutting
/// down. Then this never returns: the task that waits is about to be dropped.
async fn unless_shut_down<T>(ready: io::Result<T>) -> T {
    match ready {
        Ok(ready) => ready,
        Err(_) => std::future::pending().await,
    }
}

/// Returns whether another try may succeed.
fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
