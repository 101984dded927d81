//! A process that is talked to over its pipes, for as long as somebody holds it.

use std::time::Duration;

use rustix::process::Signal;
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::time::timeout;

use super::leader::Leader;
use super::spawn::Connected;
use crate::model::Exit;

/// How long a process may take to end by itself once its standard input is closed, and how long
/// after TERM.
const GRACE: Duration = Duration::from_secs(1);

/// A process that is talked to, and the server's ends of its pipes.
#[derive(Debug)]
pub(in crate::exec) struct PipedProcess {
    /// What it reads.
    pub stdin: Sender,
    /// What it says.
    pub stdout: Receiver,
    /// What it says to people.
    pub stderr: Receiver,
    /// The process itself.
    pub life: ProcessLife,
}

impl PipedProcess {
    pub(super) fn new(connected: Connected) -> Self {
        let Connected { leader, stdin, stdout, stderr } = connected;
        Self { stdin, stdout, stderr, life: ProcessLife { leader } }
    }
}

/// The life of a process that is talked to. Dropping it kills the process and all of its group.
#[derive(Debug)]
pub struct ProcessLife {
    leader: Leader,
}

impl ProcessLife {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.leader.pid()
    }

    /// Waits until the process has ended, and says how.
    pub async fn ended(&self) -> Exit {
        loop {
            self.leader.exited().await;
            if let Some(exit) = self.leader.exit() {
                return exit;
            }
        }
    }

    /// Ends a process whose standard input has been closed: it has a second to end by itself, and
    /// another one after TERM; then it is killed, as is all that it leaves in its group.
    pub async fn end(self) {
        if timeout(GRACE, self.ended()).await.is_err() {
            self.leader.signal_group(Signal::TERM);
            // What is still there is killed with the drop.
            let _ended = timeout(GRACE, self.ended()).await;
        }
    }
}
