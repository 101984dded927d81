//! The main process of a call, and the group that it leads.

use std::future::pending;
use std::io;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitIdOptions, WaitIdStatus, kill_process_group, pidfd_open,
    setpriority_pgrp,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::orphans::wait_for_leader;
use super::reaper::Reaper;
use super::unless_shut_down;
use crate::model::Exit;

/// The main process of a call.
///
/// The pidfd shows the exit without reaping the process. Until it is reaped, no other process can
/// get its id, which is also the id of its group. So the group can be killed safely after the exit,
/// too.
///
/// Dropping it before it is reaped kills the group and leaves the reaping to a task.
#[derive(Debug)]
pub(super) struct Leader {
    pid: Pid,
    /// The pidfd, or `None` only while the leader is dropped.
    pidfd: Option<AsyncFd<OwnedFd>>,
    reaped: bool,
    reaper: Reaper,
}

impl Leader {
    /// Adopts a child that leads its own group. If its pidfd cannot be opened, the group is killed.
    pub(super) fn adopt(pid: Pid, reaper: Reaper) -> io::Result<Self> {
        let mut leader = Self { pid, pidfd: None, reaped: false, reaper };
        let pidfd = pidfd_open(leader.pid, PidfdFlags::empty())?;
        leader.pidfd = Some(watch(pidfd)?);
        Ok(leader)
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw_pid().unsigned_abs()
    }

    pub(super) fn reaper(&self) -> &Reaper {
        &self.reaper
    }

    /// Sends a signal to the whole group. Does nothing once the leader is reaped.
    pub(super) fn signal_group(&self, signal: Signal) {
        if !self.reaped {
            signal_group(self.pid, signal);
        }
    }

    /// Sets the niceness of the whole group, which processes that it starts inherit. The leader
    /// runs already, and may have started processes: those are in the group.
    pub(super) fn set_niceness(&self, niceness: i32) {
        // Fails when all members have ended.
        let _result = setpriority_pgrp(Some(self.pid), niceness);
    }

    /// Waits until the process has exited. [`Leader::exit`] returns how.
    pub(super) async fn exited(&self) {
        match &self.pidfd {
            Some(pidfd) => exited(pidfd).await,
            None => pending().await,
        }
    }

    /// Returns the exit of the process, or `None` if it runs. The process is not reaped.
    pub(super) fn exit(&self) -> Option<Exit> {
        self.wait(WaitIdOptions::NOWAIT)
    }

    /// Reaps the process if it has ended. From then on another process may get its id.
    pub(super) fn reap(&mut self) {
        if !self.reaped {
            self.reaped = self.wait(WaitIdOptions::empty()).is_some();
        }
    }

    fn wait(&self, options: WaitIdOptions) -> Option<Exit> {
        let options = options | WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        match wait_for_leader(self.pid, options) {
            Ok(status) => status.as_ref().map(exit_of),
            // Another part of this program has reaped the child. Its status is lost.
            Err(_) => Some(Exit::Code(EXIT_UNKNOWN)),
        }
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        self.signal_group(Signal::KILL);
        self.reap();
        if self.reaped {
            return;
        }
        let pid = self.pid;
        match self.pidfd.take() {
            Some(pidfd) => {
                let reaping = async move {
                    exited(&pidfd).await;
                    let _status = wait_for_leader(pid, REAP);
                };
                // A runtime that is shutting down drops the task. Then init reaps the process.
                self.reaper.tasks.spawn_on(reaping, &self.reaper.runtime);
            }
            // It was killed, so the wait is short.
            None => {
                while matches!(wait_for_leader(pid, REAP), Ok(None)) {
                    thread::sleep(DEATH_POLL);
                }
            }
        }
    }
}

/// Reaps a process that has ended, and does not wait.
const REAP: WaitIdOptions = WaitIdOptions::EXITED.union(WaitIdOptions::NOHANG);
/// The interval of the checks whether a killed process without a pidfd has ended.
const DEATH_POLL: Duration = Duration::from_millis(1);

/// The exit code of a process whose status was taken by another part of this program, such as a
/// handler that waits for every child.
const EXIT_UNKNOWN: i32 = 255;

fn exit_of(status: &WaitIdStatus) -> Exit {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Code(EXIT_UNKNOWN),
    }
}

#[expect(
    deprecated,
    reason = "sound for an OwnedFd, which always names the descriptor that it owns; what replaces \
              it is unsafe, and there is no other way to wait for an exit without reaping"
)]
fn watch(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(pidfd, Interest::READABLE)
}

/// Waits until the process of a pidfd has exited. The pidfd stays ready afterwards.
async fn exited(pidfd: &AsyncFd<OwnedFd>) {
    unless_shut_down(pidfd.readable().await).await.retain_ready();
}

fn signal_group(leader: Pid, signal: Signal) {
    // Fails if all members are gone, or none may be signalled. Those that are still there are found
    // by their mark and reported as survivors.
    let _result = kill_process_group(leader, signal);
}
