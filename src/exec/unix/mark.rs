//! The mark of a call: variables in the environment of all of its processes.

use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, getpid};

use super::status::ProcessStatus;
use crate::model::CallId;

/// The variable by which the descendants of a call are found.
pub(super) const MARK: &str = "CALLPARK_CALL_ID";

/// The variable with the process of the server that runs the call.
pub(super) const SERVER_PROCESS: &str = "CALLPARK_SERVER_PROCESS";

/// The number of times that an empty environment is read: that of a process that is being executed, and
/// that of one which has its arguments.
const READS_MAX: usize = 100;
const READS_WITH_ARGUMENTS_MAX: usize = 2;

/// The pause between two of these reads.
const READ_PAUSE: Duration = Duration::from_millis(1);

/// Returns the call whose mark the process carries, or `None` if it carries none. A dead process
/// has no environment any more, even before it is reaped.
///
/// Blocks, for a process that is being executed, until its environment is there, with a bound: `execve`
/// sets the environment last, behind the arguments, and after a parent that used `vfork` goes on.
pub(super) fn read_mark(pid: Pid, environment: &mut Vec<u8>) -> Option<CallId> {
    let mut reads_with_arguments = 0;
    for _ in 0..READS_MAX {
        environment.clear();
        File::open(format!("/proc/{pid}/environ")).ok()?.read_to_end(environment).ok()?;
        if !environment.is_empty() {
            return parse(environment, MARK);
        }
        // Threads of the kernel and dead processes have no program.
        fs::read_link(format!("/proc/{pid}/exe")).ok()?;
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        reads_with_arguments += usize::from(!arguments.is_empty());
        if reads_with_arguments == READS_WITH_ARGUMENTS_MAX {
            break;
        }
        thread::sleep(READ_PAUSE);
    }
    None
}

/// Returns the process of the server in an environment that was read by [`read_mark`].
pub(super) fn server_in(environment: &[u8]) -> Option<ServerProcess> {
    parse(environment, SERVER_PROCESS)
}

fn parse<T: std::str::FromStr>(environment: &[u8], name: &str) -> Option<T> {
    let value = environment
        .split(|byte| *byte == 0)
        .find_map(|variable| variable.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// The identity of a process: its id, which is reused, and the time of its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ServerProcess {
    pid: i32,
    start_ticks: u64,
}

impl ServerProcess {
    /// Returns the identity of this process.
    pub(super) fn this() -> Self {
        static THIS: OnceLock<ServerProcess> = OnceLock::new();
        *THIS.get_or_init(|| {
            let pid = getpid();
            let start_ticks = ProcessStatus::read(pid).map_or(0, |status| status.start_ticks);
            Self { pid: pid.as_raw_pid(), start_ticks }
        })
    }

    /// Returns whether this is another process, which is alive.
    pub(super) fn is_another_alive(self) -> bool {
        let status = Pid::from_raw(self.pid).and_then(ProcessStatus::read);
        let is_alive =
            status.is_some_and(|status| status.is_alive && status.start_ticks == self.start_ticks);
        is_alive && self.pid != getpid().as_raw_pid()
    }
}

impl fmt::Display for ServerProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.pid, self.start_ticks)
    }
}

impl std::str::FromStr for ServerProcess {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (pid, start_ticks) = text.split_once('.').unwrap_or((text, ""));
        Ok(Self { pid: pid.parse()?, start_ticks: start_ticks.parse()? })
    }
}
