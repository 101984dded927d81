//! The separation of a process from this program: a group of its own or, away from a terminal, a session of
//! the system.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use process_wrap::std::{CommandWrap, ProcessSession};
use rustix::process::{Pid, getpid};

use super::status::ProcessStatus;

/// The way in which a new process is separated from this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Separation {
    /// A group of its own. This is enough where this program has no controlling terminal: then its
    /// children have none either, and only the leader of a session can get one.
    Group,
    /// A session of its own, and with it a group. Its processes have no controlling terminal: one
    /// that asks for a password there fails at once, rather than being stopped until its time is
    /// up, and none writes between the lines of a person who uses that terminal.
    Session,
}

impl Separation {
    /// Returns the separation that keeps processes away from the terminal of this program.
    ///
    /// A session needs a `fork`, which copies the page tables of a large server for every call. A
    /// server that runs as a service has no terminal, and gets by with `posix_spawn`.
    pub(super) fn from_terminal() -> Self {
        match has_terminal() {
            Some(false) => Self::Group,
            // Where it is not known, the safe way is taken.
            Some(true) | None => Self::Session,
        }
    }

    /// Starts a command as the leader of its group. The command, which owns the child's ends of its
    /// pipes, is dropped.
    pub(super) fn spawn(self, mut command: Command) -> io::Result<Pid> {
        let id = match self {
            Self::Group => command.process_group(0).spawn()?.id(),
            Self::Session => CommandWrap::from(command).wrap(ProcessSession).spawn()?.id(),
        };
        let id = i32::try_from(id).map_err(io::Error::other)?;
        Pid::from_raw(id).ok_or_else(|| io::Error::other("a process without an id"))
    }
}

/// Returns whether this program has a controlling terminal, or `None` if that is not known.
fn has_terminal() -> Option<bool> {
    ProcessStatus::read(getpid()).map(|status| status.terminal != 0)
}
