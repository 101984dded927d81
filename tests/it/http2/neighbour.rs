//! A client that behaves and the memory of the server, both of which must be unharmed.

use std::time::{Duration, Instant};

use callpark_proto::v1::tool_runner_client::ToolRunnerClient;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Request;
use tonic::transport::{Channel, Endpoint};

use crate::support::program::Program;
use crate::support::{TestServer, bash, result_of, soon, stdout_of};

/// Longer than a call may take beside peers that misbehave, on a busy machine.
const CALL_TIME_MAX: Duration = Duration::from_secs(10);

/// More than the server may grow by, whatever one peer does.
pub const GROWTH_BYTES_MAX: usize = 24 << 20;

/// A server, wherever it runs.
pub trait Serves {
    /// `http://ADDRESS`.
    fn endpoint(&self) -> &str;
    /// Returns the token that callers show.
    fn token(&self) -> &str;
}

impl Serves for TestServer {
    fn endpoint(&self) -> &str {
        &self.endpoint
    }

    fn token(&self) -> &str {
        Self::token(self)
    }
}

impl Serves for Program {
    fn endpoint(&self) -> &str {
        &self.endpoint
    }

    fn token(&self) -> &str {
        &self.token
    }
}

/// A client that runs one call after the other, from the first one on until the test ends.
pub struct Neighbour {
    stop: CancellationToken,
    count: watch::Receiver<usize>,
    running: JoinHandle<Vec<Duration>>,
}

impl Neighbour {
    /// A client that has run a call.
    pub async fn of(server: &impl Serves) -> Self {
        let channel = Endpoint::from_shared(server.endpoint().to_owned()).expect("an endpoint");
        let tools = ToolRunnerClient::new(channel.connect_lazy());
        let bearer = format!("Bearer {}", server.token());
        let stop = CancellationToken::new();
        let (sender, count) = watch::channel(0);
        let running = TaskTracker::new().spawn(run_calls(tools, bearer, stop.clone(), sender));
        let mut neighbour = Self { stop, count, running };
        neighbour.more(1).await;
        neighbour
    }

    /// Waits until it has run so many calls more.
    pub async fn more(&mut self, calls: usize) {
        let run = *self.count.borrow();
        for wanted in run + 1..=run + calls {
            let next = self.count.wait_for(|count| *count >= wanted);
            soon("one more call", next).await.expect("calls that are answered");
        }
    }

    /// Lets it run one more call, and checks that none of them took long. How long each took.
    pub async fn unharmed(mut self) -> Vec<Duration> {
        // The one under way may be from before the harm.
        self.more(2).await;
        self.stop.cancel();
        let times = soon("the last call", self.running).await.expect("no panic");
        let slowest = times.iter().max().expect("a call");
        assert!(*slowest < CALL_TIME_MAX, "{slowest:?} among {} calls", times.len());
        times
    }
}

async fn run_calls(
    mut tools: ToolRunnerClient<Channel>,
    bearer: String,
    stop: CancellationToken,
    count: watch::Sender<usize>,
) -> Vec<Duration> {
    let mut times = Vec::new();
    while !stop.is_cancelled() {
        let mut request = Request::new(bash("echo good"));
        request.metadata_mut().insert("authorization", bearer.parse().expect("a header"));
        let began = Instant::now();
        let answer = soon("a good call", tools.run_tool(request)).await.expect("an answer");
        times.push(began.elapsed());
        assert_eq!(stdout_of(result_of(answer.get_ref())), b"good\n");
        count.send_replace(times.len());
    }
    times
}

/// The memory of a server in a process of its own, from now on.
pub struct Memory {
    pid: u32,
    resident_bytes: usize,
    peak_bytes: usize,
    reserved_bytes: usize,
}

impl Memory {
    /// Returns the memory of the server now.
    pub fn of(server: &Program) -> Self {
        let pid = server.live.pid();
        Self {
            pid,
            resident_bytes: bytes_of(pid, "VmRSS:"),
            peak_bytes: bytes_of(pid, "VmHWM:"),
            reserved_bytes: bytes_of(pid, "VmPeak:"),
        }
    }

    /// Checks that no more than this was ever in use at a time beyond what was before.
    #[track_caller]
    pub fn check_peak(&self, bytes_max: usize) {
        let grown = bytes_of(self.pid, "VmHWM:") - self.peak_bytes;
        assert!(grown <= bytes_max, "the server grew by {} KiB", grown >> 10);
    }

    /// Checks that no more than this was ever asked of the system, used or not.
    #[track_caller]
    pub fn check_reserved(&self, bytes_max: usize) {
        let grown = bytes_of(self.pid, "VmPeak:") - self.reserved_bytes;
        assert!(grown <= bytes_max, "the server reserved {} KiB", grown >> 10);
    }

    /// Checks that no more than this is in use now beyond what was before.
    #[track_caller]
    pub fn check_now(&self, bytes_max: usize) {
        let grown = bytes_of(self.pid, "VmRSS:").saturating_sub(self.resident_bytes);
        assert!(grown <= bytes_max, "the server has {} KiB more", grown >> 10);
    }
}

#[track_caller]
fn bytes_of(pid: u32, name: &str) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a live process");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("the line");
    let kib = line.trim().strip_suffix(" kB").and_then(|number| number.parse::<usize>().ok());
    kib.expect("a number of KiB") << 10
}
