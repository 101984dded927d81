//! Processes whose whole output and end are known: each writes to a file all that it writes to a stream.

use std::path::{Path, PathBuf};

use rand::RngExt as _;
use rand::rngs::StdRng;

use super::Stream;
use crate::history::KnownWork;
use crate::support::program::Clients;
use crate::support::waiting::start_of;
use crate::support::{bash, request_id, soon, v1};
use v1::OutputStream::{Stderr, Stdout};

/// The output that is kept of a call that writes too much.
const KEPT_BYTES: i64 = 500_000;

/// The program of the processes. It is never written while a call may read it.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/program/shim/worker.py");

/// The end of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Code(i32),
    Signal(i32),
}

/// A call whose output and end are known.
#[derive(Debug)]
pub struct Job {
    folder: PathBuf,
    number: usize,
    kind: &'static str,
    end: End,
    request: v1::StartRequest,
    /// The id of the task, once a server has answered.
    pub id: Option<String>,
    /// The session of the task, once a server has answered.
    pub session_id: Option<String>,
}

/// The description by which the call of a job is known.
fn mark(number: usize) -> String {
    format!("job {number}")
}

impl Job {
    /// A random job in a session. Its files are in the folder.
    pub fn new(folder: &Path, number: usize, session_id: &str, random: &mut StdRng) -> Self {
        let kind = match random.random_range(0..12) {
            0..4 => "slow",
            4..6 => "quick",
            6..8 => "flood",
            8..10 => "huge",
            _ => "family",
        };
        let end = match random.random_range(0..10) {
            0..5 => End::Code(0),
            5..7 => End::Code(random.random_range(1..100)),
            _ => End::Signal([1, 9, 10, 15][random.random_range(0..4)]),
        };
        let word = match end {
            End::Code(code) => format!("c{code}"),
            End::Signal(signal) => format!("s{signal}"),
        };
        let seed: u32 = random.random();
        let place = folder.display();
        let command = format!("exec python3 {SCRIPT} {place} {number} {seed} {kind} {word}");
        let call = v1::RunToolRequest {
            session_id: session_id.into(),
            request_id: request_id(),
            description: mark(number),
            max_output_bytes: (kind == "huge").then_some(KEPT_BYTES),
            ..bash(&command)
        };
        let request = start_of(call);
        let folder = folder.to_owned();
        Self { folder, number, kind, end, request, id: None, session_id: None }
    }

    /// Starts the call, or asks again for the one that was started. Returns `false` if the server has
    /// gone.
    pub async fn start(&mut self, clients: &Clients) -> bool {
        let answer = soon("a start", clients.tasks.clone().start(self.request.clone())).await;
        let Ok(answer) = answer else { return false };
        let task = answer.into_inner().task.expect("a task");
        let first = self.id.get_or_insert_with(|| task.background_id.clone());
        assert_eq!(*first, task.background_id, "another call for the same request");
        self.session_id = Some(task.session_id);
        true
    }

    /// Returns the number of times that the process was started.
    pub fn runs(&self) -> usize {
        let path = self.folder.join(format!("{}.runs", self.number));
        std::fs::read_to_string(path).map_or(0, |lines| lines.lines().count())
    }

    /// Returns what is known of its work.
    pub fn work(&self) -> KnownWork {
        KnownWork {
            mark: mark(self.number),
            stdout: Some(self.written(1).into()),
            stderr: Some(self.written(2).into()),
            effects: Some(self.runs()),
        }
    }

    fn written(&self, stream: u32) -> Vec<u8> {
        std::fs::read(self.folder.join(format!("{}.{stream}", self.number))).unwrap_or_default()
    }

    /// Checks the output so far: it is the beginning of what the process has written.
    pub async fn check_prefix(&self, clients: &Clients) {
        let Some(id) = &self.id else { return };
        for (stream, number) in [(Stdout, 1), (Stderr, 2)] {
            let read = Stream::read(clients, id, stream).await;
            read.check_pieces(&self.written(number), &format!("{self:?}, {stream:?}"));
        }
    }

    /// Checks a task that has ended and was not lost: end, exit and output are those of the process.
    pub async fn check(&self, clients: &Clients, task: &v1::Task) {
        assert_eq!(self.runs(), 1, "{self:?}: {task:?}");
        let Some(v1::task::Outcome::Result(result)) = &task.outcome else {
            panic!("no result: {self:?}: {task:?}")
        };
        let (state, exit) = match self.end {
            End::Code(0) => (v1::State::Succeeded, v1::tool_result::Exit::ExitCode(0)),
            End::Code(code) => (v1::State::Failed, v1::tool_result::Exit::ExitCode(code)),
            End::Signal(signal) => (v1::State::Failed, v1::tool_result::Exit::Signal(signal)),
        };
        assert_eq!((task.state(), result.exit), (state, Some(exit)), "{self:?}: {task:?}");
        let summary = result.output.as_ref().expect("output");
        assert!(!summary.incomplete, "{self:?}: {task:?}");
        let mut dropped = 0;
        for (stream, number) in [(Stdout, 1), (Stderr, 2)] {
            let read = Stream::read(clients, &task.background_id, stream).await;
            read.check(&self.written(number), &format!("{self:?}, {stream:?}"));
            dropped += read.dropped;
        }
        assert_eq!(dropped > 0, self.kind == "huge", "{self:?}: {dropped} bytes dropped");
        let left = result.killed_process_count > 0;
        assert_eq!(left, self.kind == "family", "{self:?}: {task:?}");
    }
}
