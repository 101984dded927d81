//! The main process of a call, and the group that it leads.

use std::future::pending;
use std::io;
use std::os::fd::OwnedFd;
use std::process::Child;
use std::thread;
use std::time::Duration;

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitIdOptions, WaitIdStatus, kill_process_group, pidfd_open,
    setpriority_pgrp,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::orphans::wait_for_leader;
use super::unless_shut_down;
use crate::model::Exit;

/// The main process of a call.
///
/// Its exit is seen through the pidfd, without reaping it. While it isn't reaped its pid, and so
/// the id of its group, can't be given to anybody else: that is what makes a kill of the group
/// safe after the exit too.
///
/// Dropping it before it is reaped kills the group and leaves the reaping to a task.
#[derive(Debug)]
pub(super) struct Leader {
    pid: Pid,
    /// None only while it is dropped.
    pidfd: Option<AsyncFd<OwnedFd>>,
    reaped: bool,
    reaper: Reaper,
}

/// Where leaders go that are dropped alive, and where it is looked for what calls have left.
#[derive(Debug, Clone)]
pub(super) struct Reaper {
    pub(super) tasks: TaskTracker,
    pub(super) runtime: Handle,
    /// Nothing is to be put off any more.
    pub(super) closing: CancellationToken,
}

impl Leader {
    /// Watches a child that leads its own group. If that is impossible, the group is killed.
    pub(super) fn adopt(child: &Child, reaper: Reaper) -> io::Result<Self> {
        let mut leader = Self { pid: Pid::from_child(child), pidfd: None, reaped: false, reaper };
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

    /// Gives the whole group this niceness, and so what its members start from now on. It runs
    /// already, and may have started something: that is in the group.
    pub(super) fn set_niceness(&self, niceness: i32) {
        // Fails when all members have ended.
        let _result = setpriority_pgrp(Some(self.pid), niceness);
    }

    /// Waits until the process has exited; [`Leader::exit`] tells how.
    pub(super) async fn exited(&self) {
        match &self.pidfd {
            Some(pidfd) => exited(pidfd).await,
            None => pending().await,
        }
    }

    /// How the process ended, if it has. It stays to be reaped.
    pub(super) fn exit(&self) -> Option<Exit> {
        self.wait(WaitIdOptions::NOWAIT)
    }

    /// Lets the process go if it has ended. From here on its id may be another's.
    pub(super) fn reap(&mut self) {
        if !self.reaped {
            self.reaped = self.wait(WaitIdOptions::empty()).is_some();
        }
    }

    fn wait(&self, options: WaitIdOptions) -> Option<Exit> {
        let options = options | WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        match wait_for_leader(self.pid, options) {
            Ok(status) => status.as_ref().map(exit_of),
            // Somebody else reaped our child. It is gone, and its status with it.
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
                // A runtime that is shutting down drops the task; init will reap the process.
                self.reaper.tasks.spawn_on(reaping, &self.reaper.runtime);
            }
            // It was killed, so this takes as long as a process takes to die.
            None => {
                while matches!(wait_for_leader(pid, REAP), Ok(None)) {
                    thread::sleep(DEATH_POLL);
                }
            }
        }
    }
}

/// Reaps what has ended, and waits for nothing.
const REAP: WaitIdOptions = WaitIdOptions::EXITED.union(WaitIdOptions::NOHANG);
/// How often it is looked whether a killed process that can't be watched has ended.
const DEATH_POLL: Duration = Duration::from_millis(1);

/// The code of a process whose status was taken by somebody else, such as a handler that waits for
/// every child of the server.
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

/// Waits until the process behind the pidfd has exited. Its readiness is for ever.
async fn exited(pidfd: &AsyncFd<OwnedFd>) {
    unless_shut_down(pidfd.readable().await).await.retain_ready();
}

fn signal_group(leader: Pid, signal: Signal) {
    // Fails when all members are gone already, or when none may be signalled: what is then still
    // there is found by its mark and told as a survivor.
    let _result = kill_process_group(leader, signal);
}
