//! The time for which the runs of a shim go on without another word of a server.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use prost::Message;
use rustix::process::Signal;

use super::faults::read_frame;
use super::owners::{run_again, stay};
use super::{check_outputs, code_of, connect, socket_name, until_steady, until_written};
use crate::history::check_everything;
use crate::support::program::{Live, Program, Site};
use crate::support::waiting::{Gate, is_alive, lines_of, outcome_of, pids};
use crate::support::{bash, remote, soon, v1};

/// The time that most servers here give. Longer than a server takes to be stopped or killed.
const TIME: Duration = Duration::from_millis(1_500);

/// The longest time from a deadline to the ends of processes, on a busy machine.
const LATE_MAX: Duration = Duration::from_secs(4);

/// An order of a server, as far as it is given here.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Order {
    #[prost(message, tag = "1")]
    hello: Option<ServerHello>,
    #[prost(message, tag = "3")]
    adopt: Option<Offset>,
    #[prost(message, tag = "8")]
    pub(super) keep_for: Option<KeepFor>,
}

#[derive(Clone, PartialEq, Message)]
struct ServerHello {
    #[prost(uint32, tag = "1")]
    protocol: u32,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
struct Offset {
    #[prost(bytes = "vec", tag = "1")]
    call_id: Vec<u8>,
    #[prost(uint64, tag = "2")]
    bytes: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct KeepFor {
    #[prost(uint64, optional, tag = "1")]
    pub(super) time_ms: Option<u64>,
    #[prost(uint64, tag = "2")]
    pub(super) given_ns: u64,
}

impl Order {
    fn hello() -> Self {
        let hello = ServerHello { protocol: 1, version: "9.9.9".into() };
        Self { hello: Some(hello), ..Self::default() }
    }

    fn keep_for(time: Option<Duration>) -> Self {
        let time_ms = time.map(|time| u64::try_from(time.as_millis()).expect("short"));
        Self { keep_for: Some(KeepFor { time_ms, given_ns: 0 }), ..Self::default() }
    }

    fn adopt(id: &str) -> Self {
        let call = uuid::Uuid::parse_str(id.trim_start_matches("bg-")).expect("an id");
        let adopt = Offset { call_id: call.as_bytes().to_vec(), bytes: 0 };
        Self { adopt: Some(adopt), ..Self::default() }
    }

    fn frame(&self) -> Vec<u8> {
        let order = self.encode_to_vec();
        let length = u32::try_from(order.len()).expect("short").to_be_bytes();
        [&length[..], &order].concat()
    }
}

/// A server that gives a shim the orders of a test, and nothing else.
struct FakeServer(UnixStream);

impl FakeServer {
    /// Takes the place of the server before.
    fn connect(folder: &Path) -> Self {
        let mut server = Self(connect(folder));
        server.order(&Order::hello());
        read_frame(&mut server.0).expect("the first message of the shim");
        server
    }

    fn order(&mut self, order: &Order) {
        self.0.write_all(&order.frame()).expect("written");
    }
}

/// The same in a process of its own, which gives one time and nothing after it.
const SILENT_SERVER: &str = "import signal, socket, sys
shim = socket.socket(socket.AF_UNIX)
shim.connect('\\0' + sys.argv[1])
shim.sendall(bytes.fromhex(sys.argv[2]))
assert shim.recv(1)
print('connected', flush=True)
signal.pause()";

/// Starts such a server with the orders of its connection.
async fn silent_server(site: &Site, orders: &[Order]) -> Live {
    let frames: Vec<u8> = orders.iter().flat_map(Order::frame).collect();
    let frames: String = frames.iter().map(|byte| format!("{byte:02x}")).collect();
    let name = socket_name(&folder(site));
    let mut server = Live::start(site.other("python3", &["-c", SILENT_SERVER, &name, &frames]));
    server.stdout.until("connected").await;
    server
}

/// The folder of the only shim of a site.
fn folder(site: &Site) -> PathBuf {
    let entries = std::fs::read_dir(site.data().join("callpark.db.shims")).expect("shims");
    entries.map(|entry| entry.expect("an entry").path()).next().expect("a shim")
}

/// Waits until all of these processes have ended. Returns the times of the first end and of the last.
async fn ends(processes: &[u32]) -> [Instant; 2] {
    let ended = async {
        let mut first = None;
        loop {
            let alive = processes.iter().filter(|pid| is_alive(**pid)).count();
            if alive < processes.len() {
                first.get_or_insert_with(Instant::now);
            }
            if let (0, Some(first)) = (alive, first) {
                return [first, Instant::now()];
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon("the ends of processes", ended).await
}

/// Starts calls with three processes each, and kills their server. Returns their ids and their processes.
async fn left_behind(site: &Site, calls: usize) -> (Vec<String>, Vec<u32>) {
    let server = site.serve(&[]).await;
    let clients = server.connect();
    let file = site.folder().join("pids");
    let mut ids = Vec::new();
    for _ in 0..calls {
        ids.push(remote::start(&clients, bash(&stay(&file))).await.background_id);
    }
    let processes = pids(&lines_of(&file, 3 * calls).await);
    for id in &ids {
        until_written(&clients, id, 6).await;
    }
    server.kill().await;
    (ids, processes)
}

/// Checks that the processes end at the deadline: not before `time` after `given`, and not much later than
/// the same after `taken`.
async fn check_ends(processes: &[u32], time: Duration, [given, taken]: [Instant; 2]) {
    let [first, last] = ends(processes).await;
    assert!(first - given >= time, "the first ended after {:?}", first - given);
    assert!(last - taken < time + LATE_MAX, "the last ended after {:?}", last - taken);
}

/// Checks that a server has the ends of calls whose runs were ended, and starts others.
async fn check_abandoned(server: &Program, ids: &[String]) {
    let clients = server.connect();
    for id in ids {
        let task = remote::ended(&clients, id).await;
        let result = outcome_of(&task);
        assert_eq!(task.state(), v1::State::Failed, "{task:?}");
        assert_eq!(result.exit, Some(v1::tool_result::Exit::Signal(9)), "{task:?}");
        assert!(result.error_message.contains("its server has given no sign"), "{task:?}");
    }
    run_again(server).await;
}

#[tokio::test]
async fn runs_end_in_time_while_their_server_is_stopped_and_the_next_server_has_the_ends() {
    let site = Site::new();
    let (ids, processes) = left_behind(&site, 3).await;
    let given = Instant::now();
    let silent = silent_server(&site, &[Order::hello(), Order::keep_for(Some(TIME))]).await;
    silent.signal(Signal::STOP);
    check_ends(&processes, TIME, [given, Instant::now()]).await;
    assert_eq!(site.shims().len(), 1, "it keeps the ends");
    assert_eq!(site.processes(), [0; 0]);
    drop(silent);
    let server = site.serve(&[]).await;
    check_abandoned(&server, &ids).await;
    for id in &ids {
        check_outputs(&server.connect(), id, [b"begun\n", b""]).await;
    }
    check_everything(&server.connect(), 1).await;
    server.terminate().await.0.exits(0);
    site.without_shims().await;
}

#[tokio::test]
async fn runs_end_in_time_while_no_server_is_there() {
    let site = Site::new();
    let (ids, processes) = left_behind(&site, 1).await;
    let given = Instant::now();
    let mut last = FakeServer::connect(&folder(&site));
    last.order(&Order::keep_for(Some(TIME)));
    drop(last);
    check_ends(&processes, TIME, [given, Instant::now()]).await;
    check_abandoned(&site.serve(&[]).await, &ids).await;
}

#[tokio::test]
async fn a_server_that_only_connects_changes_no_deadline() {
    let site = Site::new();
    let (_ids, processes) = left_behind(&site, 1).await;
    let given = Instant::now();
    let mut last = FakeServer::connect(&folder(&site));
    last.order(&Order::keep_for(Some(TIME)));
    let _next = FakeServer::connect(&folder(&site));
    check_ends(&processes, TIME, [given, Instant::now()]).await;
}

#[tokio::test]
async fn runs_go_on_while_their_server_renews_the_time() {
    const RENEWALS: u32 = 4;
    let (time, pause) = (Duration::from_secs(3), Duration::from_secs(1));
    let site = Site::new();
    let (_ids, processes) = left_behind(&site, 1).await;
    let mut server = FakeServer::connect(&folder(&site));
    let mut given = Instant::now();
    server.order(&Order::keep_for(Some(time)));
    // The last one comes after the first deadline.
    for _ in 0..RENEWALS {
        tokio::time::sleep(pause).await;
        given = Instant::now();
        server.order(&Order::keep_for(Some(time)));
    }
    check_ends(&processes, time, [given, Instant::now()]).await;
}

#[tokio::test]
async fn a_server_that_has_its_store_alone_removes_a_deadline_at_its_start() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let gate = site.folder().join("gate");
    let wait = format!("echo begun; until [ -e {} ]; do sleep 0.02; done; exit 7", gate.display());
    let id = remote::start(&server.connect(), bash(&wait)).await.background_id;
    until_written(&server.connect(), &id, 6).await;
    server.kill().await;
    let time = Duration::from_secs(5);
    FakeServer::connect(&folder(&site)).order(&Order::keep_for(Some(time)));
    let taken = Instant::now();
    let server = site.serve(&[]).await;
    // The moment is the subject of the test.
    tokio::time::sleep((taken + time + Duration::from_millis(500)) - Instant::now()).await;
    std::fs::write(&gate, "").expect("a gate");
    assert_eq!(code_of(&remote::ended(&server.connect(), &id).await), 7);
}

/// Returns the bytes that a process has written so far.
fn written_by(pid: u32) -> u64 {
    let counts = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let count = counts.lines().find_map(|line| line.strip_prefix("wchar: "));
    count.and_then(|count| count.parse().ok()).unwrap_or_default()
}

#[tokio::test]
async fn a_process_that_is_blocked_by_a_silent_server_ends_in_time() {
    let time = Duration::from_secs(4);
    let site = Site::new();
    let server = site.serve(&[]).await;
    let (mut gate, file) = (Gate::new(site.folder(), "gate"), site.folder().join("pids"));
    let flood = format!("echo $$ >> {}; {}; exec yes", file.display(), gate.wait());
    // All of it is kept until the silent server has as much as it is sent without an answer.
    let call = v1::RunToolRequest { max_output_bytes: Some(64 << 20), ..bash(&flood) };
    let id = remote::start(&server.connect(), call).await.background_id;
    let processes = pids(&lines_of(&file, 1).await);
    server.kill().await;
    let given = Instant::now();
    let orders = [Order::hello(), Order::adopt(&id), Order::keep_for(Some(time))];
    let silent = silent_server(&site, &orders).await;
    silent.signal(Signal::STOP);
    let taken = Instant::now();
    gate.open();
    let blocked = until_steady("a process that is blocked", || written_by(processes[0])).await;
    assert!((4 << 20..32 << 20).contains(&blocked), "{blocked} bytes");
    check_ends(&processes, time, [given, taken]).await;
    drop(silent);
    check_abandoned(&site.serve(&[]).await, &[id]).await;
}
