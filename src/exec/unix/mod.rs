//! Processes on Linux: one group for each call, watched through a pidfd and two pipes, and without
//! the terminal of this program.
//!
//! A process has no thread and no task of its own. It is handled while its next event is polled, so
//! 50,000 silent processes are 50,000 small structs without buffers. One task searches for the
//! processes that calls have left behind.

mod descendants;
mod leader;
mod left;
mod mark;
mod orphans;
mod output;
mod piped;
mod process;
mod reaper;
mod session;
mod spawn;
mod status;
mod stdin;

#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use rustix::process::getpriority_process;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Executor, ExecutorOptions, Process, StartError, Survivor};
use crate::model::{CallId, ProcessSpec};

use descendants::Sweeper;
pub use orphans::adopt_orphans;
pub(in crate::exec) use piped::PipedProcess;
pub use piped::ProcessLife;
use process::UnixProcess;
use reaper::Reaper;
use session::Separation;

/// Keeps the descriptors that this process has inherited from its parent away from its children.
///
/// Descriptors that Rust opens are closed on exec anyway, but one that the parent left open would
/// reach every tool. Call it once, early: it marks all open descriptors above 2.
pub fn close_inherited_on_exec() {
    close_fds::set_fds_cloexec_threadsafe(3, &[]);
}

/// The state that an executor shares with its processes.
#[derive(Debug)]
struct ExecutorState {
    options: ExecutorOptions,
    /// The niceness of processes, or `None` for that of the server.
    niceness: Option<i32>,
    separation: Separation,
    sweeper: Arc<Sweeper>,
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
        descendants::kill_leftovers(calls).into_iter().map(|(_, survivor)| survivor).collect()
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
