//! The time for which the runs of a shim go on without another word of a server.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::fake_server::{FakeServer, Order, folder, silent_server};
use super::owners::{run_again, stay};
use super::{check_outputs, code_of, until_steady, until_written};
use crate::history::check_everything;
use crate::support::program::{Program, Site};
use crate::support::waiting::{Gate, is_alive, lines_of, pids};
use crate::support::{bash, remote, soon, v1};

/// The time that most servers here give. Longer than a server takes to be stopped or killed.
const TIME: Duration = Duration::from_millis(1_500);

/// The longest time from a deadline to the ends of processes, on a busy machine.
const LATE_MAX: Duration = Duration::from_secs(4);

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
        assert_eq!(task.state(), v1::State::Lost, "{task:?}");
        assert!(task.reason.contains("its server had given no sign"), "{task:?}");
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
    last.order(&[Order::keep_for(Some(TIME))]);
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
    last.order(&[Order::keep_for(Some(TIME))]);
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
    server.order(&[Order::keep_for(Some(time))]);
    // The last one comes after the first deadline.
    for _ in 0..RENEWALS {
        tokio::time::sleep(pause).await;
        given = Instant::now();
        server.order(&[Order::keep_for(Some(time))]);
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
    FakeServer::connect(&folder(&site)).order(&[Order::keep_for(Some(time))]);
    let taken = Instant::now();
    let server = site.serve(&[]).await;
    // The moment is the subject of the test.
    tokio::time::sleep((taken + time + Duration::from_millis(500)) - Instant::now()).await;
    std::fs::write(&gate, "").expect("a gate");
    assert_eq!(code_of(&remote::ended(&server.connect(), &id).await), 7);
}

/// Waits until so many processes of calls are left.
async fn until_left(site: &Site, count: usize) {
    let left = async {
        while site.processes().len() != count {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon("the ends of the others", left).await;
}

#[tokio::test]
async fn orders_right_behind_a_start_concern_its_run() {
    const STARTS: usize = 20;
    let site = Site::new();
    let server = site.serve(&[]).await;
    // The shim stays with a run of its own.
    remote::start(&server.connect(), bash("exec sleep 300")).await;
    until_left(&site, 1).await;
    server.kill().await;
    let mut server = FakeServer::connect(&folder(&site));
    for _ in 0..STARTS {
        let call = uuid::Uuid::new_v4();
        server.order(&[Order::start(&site, call, "300"), Order::release(call)]);
        server.started();
    }
    until_left(&site, 1).await;
    let call = uuid::Uuid::new_v4();
    server.order(&[Order::start(&site, call, "300"), Order::keep_for(Some(Duration::ZERO))]);
    server.started();
    until_left(&site, 0).await;
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
    let note = format!("echo $$ >> {}", file.display());
    let flood = format!("setsid bash -c '{note}; sleep 300' & {note}; {}; exec yes", gate.wait());
    // All of it is kept until the silent server has as much as it is sent without an answer.
    let call = v1::RunToolRequest { max_output_bytes: Some(64 << 20), ..bash(&flood) };
    let id = remote::start(&server.connect(), call).await.background_id;
    let processes = pids(&lines_of(&file, 2).await);
    server.kill().await;
    let given = Instant::now();
    let orders = [Order::hello(), Order::adopt(&id), Order::keep_for(Some(time))];
    let silent = silent_server(&site, &orders).await;
    silent.signal(Signal::STOP);
    let taken = Instant::now();
    gate.open();
    let written = || processes.iter().map(|pid| written_by(*pid)).sum();
    let blocked = until_steady("a process that is blocked", written).await;
    assert!((4 << 20..32 << 20).contains(&blocked), "{blocked} bytes");
    check_ends(&processes, time, [given, taken]).await;
    drop(silent);
    check_abandoned(&site.serve(&[]).await, &[id]).await;
}
