//! A process whose pipes callpark holds, to talk to it.

use std::time::Duration;

use rustix::process::Signal;
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::time::timeout;

use super::leader::Leader;
use super::spawn::Connected;
use crate::model::Exit;

/// The time for a process to end after its standard input is closed, and again after TERM.
const GRACE: Duration = Duration::from_secs(1);

/// A process, and the server's ends of its pipes.
#[derive(Debug)]
pub(in crate::exec) struct PipedProcess {
    pub stdin: Sender,
    pub stdout: Receiver,
    pub stderr: Receiver,
    pub life: ProcessLife,
}

impl PipedProcess {
    pub(super) fn new(connected: Connected) -> Self {
        let Connected { leader, stdin, stdout, stderr } = connected;
        Self { stdin, stdout, stderr, life: ProcessLife { leader } }
    }
}

/// The process behind the pipes. Dropping it kills the process and all of its group.
#[derive(Debug)]
pub struct ProcessLife {
    leader: Leader,
}

impl ProcessLife {
    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.leader.pid()
    }

    /// Waits until the process has ended, and returns its exit.
    pub async fn ended(&self) -> Exit {
        loop {
            self.leader.exited().await;
            if let Some(exit) = self.leader.exit() {
                return exit;
            }
        }
    }

    /// Kills the process with all of its group, and waits for its end.
    pub async fn kill(self) {
        self.leader.signal_group(Signal::KILL);
        self.ended().await;
    }

    /// Asks the process to end, and waits for that. After the grace, it is killed.
    pub async fn terminate(self, grace: Duration) {
        self.leader.signal_group(Signal::TERM);
        // The drop kills what is still there.
        let _ended = timeout(grace, self.ended()).await;
    }

    /// Ends a process whose standard input is closed. It has a second to end by itself, and another
    /// one after TERM. Then it is killed, together with its group.
    pub async fn end(self) {
        if timeout(GRACE, self.ended()).await.is_err() {
            self.leader.signal_group(Signal::TERM);
            // The drop kills what is still there.
            let _ended = timeout(GRACE, self.ended()).await;
        }
    }
}
