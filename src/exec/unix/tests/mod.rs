//! Tests with real processes. Every wait is for an event, with a bound.

mod ending;
mod output;
mod session;
mod starting;
mod stopping;

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::UnixExecutor;
use crate::exec::{Executor, ExecutorOptions, ExitReport, Process, ProcessEvent, StartError, Stop};
use crate::model::{CallId, Exit, OutputStream, ProcessSpec};

/// The longest time that a test takes, also on a busy machine.
const BOUND: Duration = Duration::from_secs(30);

const CHUNK_BYTES: usize = 32 * 1024;

fn executor() -> UnixExecutor {
    executor_with(Duration::from_secs(5))
}

fn executor_with(drain: Duration) -> UnixExecutor {
    UnixExecutor::new(options(drain))
}

fn options(drain: Duration) -> ExecutorOptions {
    ExecutorOptions {
        drain,
        chunk_bytes_max: CHUNK_BYTES,
        chunk_delay: Duration::from_millis(50),
        niceness: 5,
    }
}

fn spec(argv: &[&str]) -> ProcessSpec {
    let path = ("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned());
    ProcessSpec {
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        working_directory: None,
        environment: BTreeMap::from([path]),
        stdin: None,
    }
}

fn bash(script: &str) -> ProcessSpec {
    spec(&["bash", "-c", script])
}

fn start(spec: ProcessSpec) -> Box<dyn Process> {
    executor().start(CallId::random(), spec).unwrap()
}

fn start_error(spec: ProcessSpec) -> StartError {
    executor().start(CallId::random(), spec).err().unwrap()
}

/// All that a process did from some moment to its end.
struct ObservedRun {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    pieces: Vec<(OutputStream, usize)>,
    report: ExitReport,
}

impl ObservedRun {
    fn stdout(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(BOUND, future).await.expect("it takes too long")
}

async fn follow(process: &mut dyn Process) -> ObservedRun {
    let (mut stdout, mut stderr, mut pieces) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        match within(process.next()).await {
            ProcessEvent::Output { stream, data } => {
                pieces.push((stream, data.len()));
                match stream {
                    OutputStream::Stdout => stdout.extend_from_slice(&data),
                    OutputStream::Stderr => stderr.extend_from_slice(&data),
                }
            }
            ProcessEvent::Exited(report) => return ObservedRun { stdout, stderr, pieces, report },
        }
    }
}

async fn run(spec: ProcessSpec) -> ObservedRun {
    let mut process = start(spec);
    let pid = process.pid();
    let observed = follow(process.as_mut()).await;
    assert!(!fs::exists(format!("/proc/{pid}")).unwrap(), "the process was not reaped");
    observed
}

/// The next line of standard output, which must come alone.
async fn line(process: &mut dyn Process) -> String {
    match within(process.next()).await {
        ProcessEvent::Output { data, .. } => {
            String::from_utf8(data.to_vec()).unwrap().trim().to_owned()
        }
        ProcessEvent::Exited(report) => panic!("it ended: {report:?}"),
    }
}

async fn pid_line(process: &mut dyn Process) -> u32 {
    line(process).await.parse().unwrap()
}

/// Returns whether a process exists and is not a zombie.
fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}

async fn wait_until_gone(pid: u32) {
    within(async {
        while is_alive(pid) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}
