//! The port to runs: a process of a call from its start to its end, with the part of its output that is
//! kept, and, where its owner outlives this server, its adoption by the next one.

mod local;
mod output_keeper;

use std::time::Duration;

use async_trait::async_trait;

use super::{ShimStatus, StartError, Stop};
use crate::model::{
    CallId, Content, Exit, LeftProcesses, OutputSummary, ProcessSpec, RunOwner, StreamSummary,
    Survivor, ToolOutput,
};

pub use local::LocalRunner;
pub use output_keeper::{OutputKeeper, output_content};

/// A run to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSpec {
    /// The call.
    pub call_id: CallId,
    /// The process.
    pub process: ProcessSpec,
    /// The limits that the owner of the process applies.
    pub limits: RunLimits,
    /// The output of earlier attempts, after which that of this one comes.
    pub output_before: OutputBefore,
}

/// The counts of the output that a call has before a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OutputBefore {
    /// Standard output.
    pub stdout: StreamSummary,
    /// Standard error.
    pub stderr: StreamSummary,
    /// Both, in the order of arrival.
    pub combined: StreamSummary,
}

/// The limits of a run that its owner applies, also while no server is connected to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunLimits {
    /// The size of the output that is kept, in bytes.
    pub output_bytes_max: u64,
    /// The longest time without output, or `None` if there is no limit. The engine applies it;
    /// [`RunEvent::Alive`] comes often enough for that.
    pub idle_timeout: Option<Duration>,
    /// The longest time that the process may run, or `None` if there is no limit. The engine applies it
    /// too, and is a little earlier.
    pub execution_timeout: Option<Duration>,
    /// The time between TERM and KILL at the execution timeout.
    pub grace: Duration,
}

/// An event of a run.
#[derive(Debug, Clone, PartialEq)]
pub enum RunEvent {
    /// A piece of output that is kept.
    Output(ToolOutput),
    /// A sign of life: output that is not kept. At most four in the idle timeout of the run.
    Alive,
    /// The process was blocked while no server was there, because its output could not be kept for this
    /// reason. Only the first event of a run that was adopted.
    Blocked(String),
    /// The process has ended, and all of its output was returned. The last event.
    Exited(Box<RunReport>),
    /// The owner of the process is gone, and the process with it. The last event.
    OwnerLost,
}

/// The end of a run.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RunReport {
    /// The exit code or the signal.
    pub exit: Exit,
    /// `true` if a stop was requested before the exit was seen.
    #[serde(default)]
    pub stopped: bool,
    /// `true` if the owner of the process has stopped it at its execution timeout.
    #[serde(default)]
    pub timed_out: bool,
    /// `true` if the owner of the process has killed it because no server has given it a sign in
    /// [the time](Runner::keep_for).
    #[serde(default)]
    pub abandoned: bool,
    /// The processes that could not be killed.
    #[serde(default)]
    pub survivors: Vec<Survivor>,
    /// The processes that the run had left behind, if there were any.
    #[serde(default)]
    pub left: Option<Box<LeftProcesses>>,
    /// The first part of the output, for the record of the call.
    #[serde(default)]
    pub content: Vec<Content>,
    /// The counts of the output.
    #[serde(default)]
    pub output: OutputSummary,
}

impl RunReport {
    /// Creates the report of a process of which only the exit is known.
    pub fn ended(exit: Exit) -> Self {
        Self {
            exit,
            stopped: false,
            timed_out: false,
            abandoned: false,
            survivors: Vec::new(),
            left: None,
            content: Vec::new(),
            output: OutputSummary { incomplete: true, ..OutputSummary::default() },
        }
    }
}

/// A run that was started or adopted.
///
/// Dropping it ends the process, unless its owner outlives this server.
#[async_trait]
pub trait ProcessRun: Send {
    /// Waits for the next event. The future may be dropped: no event is lost. Output is read only while
    /// this is polled, up to a bound, so that a slow reader blocks the process. After the last event it
    /// never returns.
    async fn next(&mut self) -> RunEvent;

    /// Lets a run that was stopped go on while its output cannot be taken, until the process has ended:
    /// the output of that time is a part of the tail. Never returns if the owner does that by itself.
    async fn run_on(&mut self);

    /// Waits for the next event, or, if no event can be taken, lets a stopped run go on.
    async fn next_if(&mut self, takes_events: bool) -> Option<RunEvent> {
        match takes_events {
            true => Some(self.next().await),
            false => {
                self.run_on().await;
                None
            }
        }
    }

    /// Stops the process. [`ProcessRun::next`] returns the end. Another call may shorten the grace, but
    /// not lengthen it.
    fn stop(&mut self, stop: Stop);
}

/// Starts runs, and finds those that an earlier server has started.
#[async_trait]
pub trait Runner: Send + Sync + 'static {
    /// Starts a run.
    ///
    /// # Errors
    ///
    /// The reason why its process could not be started, and what to do.
    async fn start(&self, spec: RunSpec) -> Result<Box<dyn ProcessRun>, StartError>;

    /// Returns whether runs go on after this server has ended, so that the next one can adopt them.
    fn outlives_server(&self) -> bool {
        false
    }

    /// Lets the runs go on for this time from now; without another word of this server they are ended
    /// then, with all their descendants. `None` removes the limit, which is the default.
    ///
    /// The limit is for runs that outlive this server: their owner applies it, also while no server is
    /// connected to it, and starts no run after it until it is given another one. It keeps the ends,
    /// which are reported as [abandoned](RunReport::abandoned). Returns at once. The time does not go on
    /// while the system is suspended.
    fn keep_for(&self, _time: Option<Duration>) {}

    /// Returns the owner of the runs that are started now, or `None` if they end with this server.
    fn owner(&self) -> Option<RunOwner> {
        None
    }

    /// Returns whether this owner of runs is there, or has ended in good order, so that each of its runs
    /// whose end is not durable is known.
    fn has_owner(&self, _owner: RunOwner) -> bool {
        false
    }

    /// Notes that the calls of earlier servers are taken up, so that no owner has to be known any more
    /// that is not there.
    fn recovered(&self) {}

    /// Returns the shims that own the processes, or nothing if this program does.
    fn shims(&self) -> Vec<ShimStatus> {
        Vec::new()
    }

    /// Returns the process id of the shim that owns the process of a call, or `None` if none does.
    fn shim_of(&self, _call_id: CallId) -> Option<u32> {
        None
    }

    /// Returns the calls of the runs that an earlier server has started, and that are not followed.
    fn adoptable(&self) -> Vec<CallId> {
        Vec::new()
    }

    /// Returns whether an earlier server has started the run of this call, and it is not followed.
    fn is_adoptable(&self, _call_id: CallId) -> bool {
        false
    }

    /// Adopts such a run. Its output goes on after the first `stored_bytes` of it, both streams together.
    /// Returns `None` if there is no such run.
    fn adopt(&self, _call_id: CallId, _stored_bytes: u64) -> Option<Box<dyn ProcessRun>> {
        None
    }

    /// Notes that the first `stored_bytes` of the output of a run, both streams together, are durable.
    fn acknowledge(&self, _call_id: CallId, _stored_bytes: u64) {}

    /// Forgets a run: the end of its call is durable. A process that is still there is killed.
    fn release(&self, _call_id: CallId) {}

    /// Kills every process on this machine that belongs to one of these calls and whose owner is gone.
    /// Returns those that could not be killed. Blocks for a read of all of `/proc`, and for up to about
    /// a second more if a process must be killed.
    fn kill_leftovers(&self, calls: &[CallId]) -> Vec<Survivor>;

    /// Returns the calls that have a process on this machine whose owner is gone. They may be of any
    /// store. Blocks for a read of all of `/proc`.
    fn leftover_calls(&self) -> Vec<CallId> {
        Vec::new()
    }

    /// Waits until all processes that were dropped before their end are dead and reaped, and leaves
    /// those that outlive this server. A runner must not be used afterwards.
    async fn close(&self);
}
