//! Processes on Linux: one group for each call, watched through a pidfd and two pipes.
//!
//! No process needs a thread or a task of its own: everything that happens to a process happens
//! while somebody asks for its next event, so 50,000 silent processes are 50,000 small structs
//! and no buffers. What calls have left behind is looked for by a task for all of them.

mod descendants;
mod leader;
mod orphans;
mod output;
mod piped;
mod process;
mod spawn;
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
use leader::Reaper;
pub use orphans::adopt_orphans;
pub(in crate::exec) use piped::PipedProcess;
pub use piped::ProcessLife;
use process::UnixProcess;

/// Keeps the descriptors that this process inherited from its own parent away from its children.
///
/// Descriptors that Rust opens are closed on exec anyway; one that a careless parent left open
/// would reach every tool. Call it once, early: it marks every open descriptor above 2.
pub fn close_inherited_on_exec() {
    close_fds::set_fds_cloexec_threadsafe(3, &[]);
}

/// What an executor shares with the processes that it started.
#[derive(Debug)]
struct ExecutorState {
    options: ExecutorOptions,
    /// What processes get as their niceness. None: the server's own.
    niceness: Option<i32>,
    sweeper: Arc<Sweeper>,
    /// Waits for dropped processes, so that none stays a zombie, and looks for what calls have
    /// left.
    reaping: TaskTracker,
    /// Cancelled when that must end.
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
    /// An executor that treats its processes like this.
    pub fn new(options: ExecutorOptions) -> Self {
        let options =
            ExecutorOptions { chunk_bytes_max: options.chunk_bytes_max.max(1), ..options };
        Self {
            shared: Arc::new(ExecutorState {
                options,
                niceness: absolute_niceness(options.niceness),
                sweeper: Arc::new(Sweeper::default()),
                reaping: TaskTracker::new(),
                closing: CancellationToken::new(),
            }),
        }
    }

    /// Starts a process to be talked to over its standard input and output, in a group of its own.
    /// It belongs to no call; what the spec has as standard input isn't used. Blocks for about a
    /// millisecond. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// The process could not be started: why, and what to do.
    pub(in crate::exec) fn connect(&self, spec: &ProcessSpec) -> Result<PipedProcess, StartError> {
        let connected = spawn::connect(CallId::random(), spec, self.reaper(spec)?)?;
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
    /// As the port says. Blocks for about a millisecond, until the program has been executed.
    fn start(&self, call_id: CallId, spec: ProcessSpec) -> Result<Box<dyn Process>, StartError> {
        let reaper = self.reaper(&spec)?;
        let spawned = spawn::spawn(call_id, &spec, reaper)?;
        if let Some(niceness) = self.shared.niceness {
            spawned.leader.set_niceness(niceness);
        }
        Ok(Box::new(UnixProcess::new(call_id, spawned, Arc::clone(&self.shared))))
    }

    /// As the port says. Blocks for a read of all of `/proc`, and up to about a second more when
    /// something must be killed.
    fn kill_leftovers(&self, calls: &[CallId]) -> Vec<Survivor> {
        descendants::kill_marked(calls).into_iter().map(|(_, survivor)| survivor).collect()
    }

    async fn reaped(&self) {
        self.shared.closing.cancel();
        self.shared.reaping.close();
        self.shared.reaping.wait().await;
        // It fails only while the runtime is shutting down.
        let _result = tokio::task::spawn_blocking(orphans::settle).await;
    }
}

/// The niceness of what stands so many steps behind this program. None: as far as it is, or one
/// that can't be told.
fn absolute_niceness(steps: u32) -> Option<i32> {
    let own = getpriority_process(None).ok()?;
    let niceness = own.saturating_add_unsigned(steps).min(NICENESS_MAX);
    (niceness > own).then_some(niceness)
}

/// The last step that `nice` knows.
const NICENESS_MAX: i32 = 19;

/// What the wait for a descriptor gave. It fails only while the runtime is shutting down; then
/// nothing will ever be ready, and whoever waits is about to be dropped.
async fn unless_shut_down<T>(ready: io::Result<T>) -> T {
    match ready {
        Ok(ready) => ready,
        Err(_) => std::future::pending().await,
    }
}

/// Trying again later may help.
fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
