//! Processes whose output can be watched, and how they ended.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::support::{TEST_TIMEOUT, soon};

/// Runs a command to its end.
pub async fn run(command: Command) -> Ended {
    Live::start(command).ended().await
}

/// Sends a signal to a process.
pub fn send(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
    // It may have ended meanwhile.
    let _gone = kill_process(pid, signal);
}

/// The exit status and the output of a process that has ended.
#[derive(Debug)]
pub struct Ended {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Ended {
    /// The exit code, which there must be.
    #[track_caller]
    pub fn code(&self) -> i32 {
        match self.status.code() {
            Some(code) => code,
            None => panic!("ended by signal {:?}: {self}", self.status.signal()),
        }
    }

    /// Checks the exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "{self}");
        self
    }

    /// The bytes on standard output.
    pub fn bytes(&self) -> &[u8] {
        &self.stdout
    }

    /// Standard output as text.
    #[track_caller]
    pub fn stdout(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("text")
    }

    /// Standard error as text.
    #[track_caller]
    pub fn stderr(&self) -> &str {
        std::str::from_utf8(&self.stderr).expect("text")
    }

    /// Standard output as one line.
    #[track_caller]
    pub fn line(&self) -> &str {
        match self.stdout().strip_suffix('\n') {
            Some(line) if !line.contains('\n') => line,
            _ => panic!("not one line: {self}"),
        }
    }

    /// Standard output as one JSON document.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        match serde_json::from_slice(&self.stdout) {
            Ok(value) => value,
            Err(error) => panic!("{error}: {self}"),
        }
    }

    /// Standard output as a JSON document a line.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<serde_json::Value> {
        let value = |line| serde_json::from_str(line).expect("JSON");
        self.stdout().lines().map(value).collect()
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&self.stdout), text(&self.stderr));
        write!(f, "{}\n--- stdout\n{stdout}--- stderr\n{stderr}---", self.status)
    }
}

/// A process whose output can be watched. Killed when it is dropped.
pub struct Live {
    child: Child,
    /// The standard output so far.
    pub stdout: Written,
    /// The standard error so far.
    pub stderr: Written,
}

impl Live {
    /// Starts it. Its output goes nowhere else, unless the command says so.
    pub fn start(mut command: Command) -> Self {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        Self::watch(child.expect("started"))
    }

    /// Watches a process as far as its output comes here.
    pub fn watch(mut child: Child) -> Self {
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        Self { stdout: Written::of(stdout), stderr: Written::of(stderr), child }
    }

    /// Returns the process id.
    #[track_caller]
    pub fn pid(&self) -> u32 {
        self.child.id().expect("a process that hasn't ended")
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    /// Waits for its end, which must come soon.
    pub async fn ended(self) -> Ended {
        self.ended_within(TEST_TIMEOUT).await
    }

    /// Waits for its end, which must come within this time.
    pub async fn ended_within(mut self, time: Duration) -> Ended {
        let Ok(status) = timeout(time, self.child.wait()).await else {
            panic!("runs after {time:?}: {}{}", self.stdout.now(), self.stderr.now());
        };
        let status = status.expect("its end");
        let (stdout, stderr) = (self.stdout.all().await, self.stderr.all().await);
        Ended { status, stdout, stderr }
    }
}

/// The output of a process, as it is written.
pub struct Written(watch::Receiver<Vec<u8>>);

impl Written {
    fn of(pipe: Option<impl AsyncRead + Unpin + Send + 'static>) -> Self {
        let (sender, receiver) = watch::channel(Vec::new());
        if let Some(mut pipe) = pipe {
            TaskTracker::new().spawn(async move {
                let mut piece = vec![0; 64 << 10];
                while let Ok(read @ 1..) = pipe.read(&mut piece).await {
                    sender.send_modify(|all| all.extend_from_slice(&piece[..read]));
                }
            });
        }
        Self(receiver)
    }

    /// Waits until the output has this text in it, and returns it.
    pub async fn until(&mut self, text: &str) -> String {
        let has = |all: &Vec<u8>| String::from_utf8_lossy(all).contains(text);
        let is_there = soon(&format!("`{text}`"), self.0.wait_for(has)).await.is_ok();
        assert!(is_there, "ended without `{text}`: {}", self.now());
        self.now()
    }

    /// Waits until there are so many bytes.
    pub async fn bytes(&mut self, count: usize) {
        let is_there = soon("bytes", self.0.wait_for(|all| all.len() >= count)).await.is_ok();
        assert!(is_there, "ended after {} of {count} bytes", self.0.borrow().len());
    }

    /// Waits for this text, and returns false if the output ends before.
    pub async fn has(&mut self, text: &str) -> bool {
        let has = |all: &Vec<u8>| String::from_utf8_lossy(all).contains(text);
        soon("a text or an end", self.0.wait_for(has)).await.is_ok()
    }

    /// Waits for the address of a server, and returns false if the output ends before.
    pub async fn started(&mut self) -> bool {
        self.has("callpark listens").await
    }

    /// Returns the output so far.
    pub fn now(&self) -> String {
        String::from_utf8_lossy(&self.0.borrow()).into_owned()
    }

    async fn all(mut self) -> Vec<u8> {
        // The sender goes at the end of the pipe.
        let is_closed = soon("the end of the output", self.0.wait_for(|_| false)).await.is_err();
        assert!(is_closed, "its end");
        self.0.borrow().clone()
    }
}
