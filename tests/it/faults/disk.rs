//! A full disk: what can't be saved is refused, all else goes on, and space is all it needs.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;
use tokio_util::task::TaskTracker;
use tonic::{Code, Response, Status};
use tonic_types::StatusExt as _;
use v1::State;

use crate::support::program::{Clients, Live, Program, Site};
use crate::support::small_disk::SmallDisk;
use crate::support::waiting::{Gate, is_alive, lines_of, outcome_of, pids, start_of};
use crate::support::{
    bash, check_reason, millis, python, remote, request_id, result_of, soon, stdout_of, v1,
};

const SIZE: &str = "size=16m";

/// Checks that something was refused for want of space, and that it says when to come again.
#[track_caller]
fn check_full<T: std::fmt::Debug>(answer: Result<Response<T>, Status>) {
    let status = answer.expect_err("a refusal");
    check_reason(&status, Code::ResourceExhausted, "STORAGE_FULL");
    let retry = status.get_details_retry_info().and_then(|info| info.retry_delay);
    assert!(retry.is_some_and(|delay| delay > Duration::ZERO), "{status:?}");
}

/// Fills the disk, and what the store had taken of it before: the tasks that were still accepted.
async fn fill(disk: &SmallDisk, clients: &Clients, session_id: &str) -> Vec<v1::Task> {
    disk.fill(0);
    let mut accepted = Vec::new();
    for _ in 0..500 {
        let call = v1::RunToolRequest { session_id: session_id.into(), ..bash("true") };
        match soon("a start", clients.tasks.clone().start(start_of(call))).await {
            Ok(answer) => accepted.push(answer.into_inner().task.expect("a task")),
            refused => {
                check_full(refused);
                return accepted;
            }
        }
    }
    panic!("the disk is not full after {} tasks", accepted.len());
}

/// Everything that makes something is refused, and makes nothing.
async fn check_starts(clients: &Clients, session_id: &str, mark: &std::path::Path) {
    let call = v1::RunToolRequest {
        session_id: session_id.into(),
        ..bash(&format!("echo ran >> {}", mark.display()))
    };
    let (mut tools, mut tasks) = (clients.tools.clone(), clients.tasks.clone());
    check_full(soon("a call", tools.run_tool(call.clone())).await);
    let at_once = v1::RunToolRequest { call_budget: millis(0), ..call.clone() };
    check_full(soon("a call", tools.run_tool(at_once)).await);
    let alone = v1::RunToolRequest { session_id: String::new(), ..call.clone() };
    check_full(soon("a call", tools.run_tool(alone)).await);
    check_full(soon("a start", tasks.start(start_of(call.clone()))).await);
    check_full(soon("a session", tools.create_session(v1::CreateSessionRequest::default())).await);
    match soon("a stream", tools.stream_tool(call)).await {
        Err(status) => check_full::<()>(Err(status)),
        Ok(stream) => {
            let first = soon("an update", stream.into_inner().message()).await;
            check_full(first.map(Response::new));
        }
    }
}

/// Waits until starts are accepted again, without any help.
async fn healed(clients: &Clients, session_id: &str) -> v1::Task {
    let accepted = async {
        loop {
            let call = v1::RunToolRequest { session_id: session_id.into(), ..bash("echo again") };
            match clients.tasks.clone().start(start_of(call)).await {
                Ok(answer) => return answer.into_inner().task.expect("a task"),
                refused => check_full(refused),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    soon("a start that is accepted", accepted).await
}

/// The answers of all reads, which must be the same while nothing is written.
#[derive(Debug, PartialEq)]
struct Seen {
    tasks: Vec<v1::Task>,
    task: v1::Task,
    log: Vec<v1::SessionEvent>,
    output: Vec<u8>,
    sessions: Vec<v1::Session>,
    session: v1::Session,
}

async fn seen(clients: &Clients, session_id: &str, ended_id: &str) -> Seen {
    let mut tools = clients.tools.clone();
    let request = v1::ListSessionsRequest::default();
    let sessions = soon("sessions", tools.list_sessions(request)).await.expect("an answer");
    let request = v1::GetSessionRequest { session_id: session_id.into() };
    let session = soon("a session", tools.get_session(request)).await.expect("an answer");
    let now = |mut tasks: Vec<v1::Task>| {
        // It goes on for those that run.
        tasks.iter_mut().for_each(|task| task.elapsed = None);
        tasks
    };
    Seen {
        tasks: now(remote::tasks(clients).await),
        task: remote::task(clients, ended_id).await,
        log: remote::log(clients, session_id).await,
        output: remote::output(clients, ended_id).await,
        sessions: sessions.into_inner().sessions,
        session: session.into_inner().session.expect("a session"),
    }
}

/// A number for every byte, of more than what waits in pipes and in memory.
const WRITTEN: usize = 3_000_000;

/// Writes a part, and the rest once the gate is open.
fn writer(gate: &Gate) -> v1::RunToolRequest {
    python(&format!(
        "import sys
block = bytes(n * 7 % 251 for n in range({WRITTEN}))
sys.stdout.buffer.write(block[:1000]); sys.stdout.buffer.flush()
open('{}').readline()
sys.stdout.buffer.write(block[1000:])",
        gate.path().display()
    ))
}

fn written() -> Vec<u8> {
    (0..WRITTEN).map(|n| u8::try_from(n * 7 % 251).expect("a byte")).collect()
}

#[tokio::test]
async fn a_full_disk_refuses_starts_serves_reads_and_needs_nothing_but_space() {
    let site = Site::new();
    let Some(disk) = SmallDisk::new(&site, SIZE).await else { return };
    let server = disk.serve(&site, &["--max-live-tasks", "1000"]).await;
    let clients = server.connect();
    let session_id = remote::session(&clients).await;
    let here = |call| v1::RunToolRequest { session_id: session_id.clone(), ..call };
    let (mut gate, mut tap) = (Gate::new(site.folder(), "gate"), Gate::new(site.folder(), "tap"));
    let ended = remote::start(&clients, here(bash("seq 1 20000"))).await;
    let ended = remote::ended(&clients, &ended.background_id).await;
    let waits = remote::start(&clients, here(bash(&format!("{}; echo done", gate.wait())))).await;
    let writes = remote::start(&clients, here(writer(&tap))).await;
    let begun = async {
        while remote::output(&clients, &writes.background_id).await.len() < 1_000 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon("the first bytes", begun).await;
    let said = site.folder().join("said");
    let call = here(bash(&format!("echo x > {}; {}; echo done", said.display(), gate.wait())));
    let mut tools = clients.tools.clone();
    let caller = TaskTracker::new().spawn(async move { tools.run_tool(call).await });
    lines_of(&said, 1).await;
    let mut accepted = fill(&disk, &clients, &session_id).await;
    // What was accepted last can't be ended now.
    let before = seen(&clients, &session_id, &ended.background_id).await;
    check_starts(&clients, &session_id, &site.folder().join("mark")).await;
    gate.open();
    gate.open();
    tap.open();
    let request = v1::WaitRequest {
        background_id: waits.background_id.clone(),
        wait: millis(500),
        acknowledge: false,
    };
    let answer = soon("a wait", clients.tasks.clone().wait(request)).await.expect("an answer");
    assert!(answer.get_ref().still_running, "an end that isn't saved is none: {answer:?}");
    assert_eq!(seen(&clients, &session_id, &ended.background_id).await, before);
    assert!(!caller.is_finished(), "its end is not saved, either");
    disk.free();
    accepted.push(healed(&clients, &session_id).await);
    assert!(!site.folder().join("mark").exists(), "what was refused has run");
    for task in &accepted {
        let task = remote::ended(&clients, &task.background_id).await;
        assert_eq!(task.state(), State::Succeeded, "{task:?}");
    }
    let answer = soon("the caller's answer", caller).await.expect("no panic").expect("an answer");
    assert_eq!(stdout_of(result_of(answer.get_ref())), b"done\n");
    let end = remote::ended(&clients, &waits.background_id).await;
    assert_eq!((end.state(), stdout_of(outcome_of(&end))), (State::Succeeded, b"done\n".to_vec()));
    let end = remote::ended(&clients, &writes.background_id).await;
    assert_eq!(end.state(), State::Succeeded);
    assert!(remote::output(&clients, &writes.background_id).await == written());
    let last = seen(&clients, &session_id, &ended.background_id).await;
    assert!(last.log.starts_with(&before.log));
    server.kill().await;
    let server = disk.serve(&site, &[]).await;
    assert_eq!(seen(&server.connect(), &session_id, &ended.background_id).await, last);
}

/// A server on a full disk with these calls running, each of which has said its process id. They go
/// on once all are there: one that writes would fill the disk before the next could start.
async fn running(
    site: &Site,
    disk: &SmallDisk,
    calls: Vec<v1::RunToolRequest>,
) -> (Program, String, Vec<(String, u32)>) {
    let server =
        disk.serve(site, &["--drain", "2s", "--max-live-tasks", "1000", "--stop-runs"]).await;
    let clients = server.connect();
    let session_id = remote::session(&clients).await;
    let mut gate = Gate::new(site.folder(), "all-there");
    let mut runs = Vec::new();
    for (number, call) in calls.into_iter().enumerate() {
        let file = site.folder().join(format!("pid-{number}"));
        let environment = json!({ "PID_FILE": file.to_str(), "GATE": gate.path().to_str() });
        let mut call = v1::RunToolRequest { session_id: session_id.clone(), ..call };
        let variables = crate::support::waiting::json(json!({ "env": environment }));
        call.arguments.as_mut().expect("arguments").fields.extend(variables.expect("one").fields);
        let id = remote::start(&clients, call).await.background_id;
        runs.push((id, pids(&lines_of(&file, 1).await)[0]));
    }
    runs.iter().for_each(|_| gate.open());
    fill(disk, &clients, &session_id).await;
    (server, session_id, runs)
}

/// A call that says its process id, and does this once the gate is open.
fn says_pid(command: &str) -> v1::RunToolRequest {
    bash(&format!("echo $$ > $PID_FILE; read -r _ < $GATE; {command}"))
}

/// Doesn't listen to TERM.
const STUBBORN: &str = "trap '' TERM; while :; do sleep 0.1; done";

async fn gone(pid: u32, what: &str, within: Duration) {
    let wait = async {
        while is_alive(pid) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let is_gone = tokio::time::timeout(within, wait).await;
    assert!(is_gone.is_ok(), "`{what}` goes on after {within:?}");
}

/// Cancels tasks on a full disk: each process is gone, and each end is recorded once there is space.
async fn check_cancels(commands: &[&str], cancel: impl Fn(usize) -> v1::CancelRequest) {
    let site = Site::new();
    let Some(disk) = SmallDisk::new(&site, SIZE).await else { return };
    let calls = commands.iter().map(|command| says_pid(command)).collect();
    let (server, session_id, runs) = running(&site, &disk, calls).await;
    let clients = server.connect();
    for (number, (id, pid)) in runs.iter().enumerate() {
        let wait = millis(500);
        let request = v1::CancelRequest { background_id: id.clone(), wait, ..cancel(number) };
        // The cancel cannot be recorded now, but it takes effect all the same.
        if let Err(status) = soon("a cancel", clients.tasks.clone().cancel(request)).await {
            check_full::<()>(Err(status));
        }
        gone(*pid, commands[number], Duration::from_secs(10)).await;
    }
    disk.free();
    healed(&clients, &session_id).await;
    for (id, _) in &runs {
        let task = remote::ended(&clients, id).await;
        assert_eq!(task.state(), State::Cancelled, "{task:?}");
        assert!(task.cancellation.is_some(), "{task:?}");
    }
}

#[tokio::test]
async fn a_cancel_on_a_full_disk_stops_the_process_all_the_same() {
    let commands = ["sleep 300", STUBBORN, "sleep 300", "sleep 300"];
    let cancel = |number| v1::CancelRequest {
        grace: millis(300),
        force: number == 2,
        // An id that can't be saved now doesn't keep it from being done.
        request_id: if number == 3 { request_id() } else { String::new() },
        ..Default::default()
    };
    check_cancels(&commands, cancel).await;
}

#[tokio::test]
async fn a_cancel_on_a_full_disk_stops_a_process_whose_output_waits_for_space() {
    let cancel = |number| v1::CancelRequest { force: number == 1, ..Default::default() };
    check_cancels(&["yes", "yes"], cancel).await;
}

#[tokio::test]
async fn a_hard_limit_on_a_full_disk_stops_the_process_all_the_same() {
    let site = Site::new();
    let Some(disk) = SmallDisk::new(&site, SIZE).await else { return };
    let commands = ["sleep 300", "yes"];
    let limited = |command: &&str| v1::RunToolRequest {
        execution_timeout: millis(4_000),
        ..says_pid(command)
    };
    let calls = commands.iter().map(limited).collect();
    let (server, session_id, runs) = running(&site, &disk, calls).await;
    let clients = server.connect();
    for (number, (_, pid)) in runs.iter().enumerate() {
        gone(*pid, commands[number], Duration::from_secs(15)).await;
    }
    disk.free();
    healed(&clients, &session_id).await;
    for (id, _) in &runs {
        let task = remote::ended(&clients, id).await;
        assert_eq!(task.state(), State::TimedOut, "{task:?}");
    }
}

#[tokio::test]
async fn a_server_stops_in_time_on_a_full_disk_and_loses_nothing_acknowledged() {
    let site = Site::new();
    let Some(disk) = SmallDisk::new(&site, SIZE).await else { return };
    let calls = ["sleep 300", STUBBORN, "yes"].map(says_pid).into();
    let (server, session_id, runs) = running(&site, &disk, calls).await;
    let clients = server.connect();
    let known = remote::tasks(&clients).await;
    let log = remote::log(&clients, &session_id).await;
    let began = Instant::now();
    server.live.signal(Signal::TERM);
    server.live.ended().await.exits(0);
    let took = began.elapsed();
    assert!(took <= Duration::from_secs(2 + 5 + 1), "{took:?}");
    assert_eq!(site.processes(), [0; 0]);
    disk.free();
    let server = disk.serve(&site, &[]).await;
    let clients = server.connect();
    for (id, _) in &runs {
        assert_eq!(remote::ended(&clients, id).await.state(), State::Lost);
    }
    for task in known {
        let now = remote::ended(&clients, &task.background_id).await;
        let was_over = task.end_time.is_some();
        assert!(!was_over || now.state() == task.state(), "{task:?} became {now:?}");
    }
    assert!(remote::log(&clients, &session_id).await.starts_with(&log));
}

#[tokio::test]
async fn a_second_signal_ends_a_server_on_a_full_disk_at_once() {
    let site = Site::new();
    let Some(disk) = SmallDisk::new(&site, SIZE).await else { return };
    let (mut server, _, _) = running(&site, &disk, [STUBBORN, "yes"].map(says_pid).into()).await;
    server.live.signal(Signal::TERM);
    server.live.stderr.until("stopping").await;
    let began = Instant::now();
    server.live.signal(Signal::TERM);
    server.live.ended().await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

/// The one line of a server that can't start.
async fn refused_start(site: &Site, disk: &SmallDisk) -> String {
    let ended = Live::start(disk.server(site, &[])).ended().await;
    assert_ne!(ended.code(), 0, "{ended}");
    assert_eq!(ended.bytes(), b"", "{ended}");
    match ended.stderr().strip_suffix('\n') {
        Some(line) if !line.contains('\n') && line.starts_with("error: ") => line.to_owned(),
        _ => panic!("not one line: {ended}"),
    }
}

#[tokio::test]
async fn a_server_that_finds_its_disk_full_says_so_in_one_line_and_starts_once_there_is_space() {
    let site = Site::new();
    let Some(disk) = SmallDisk::new(&site, SIZE).await else { return };
    disk.fill(0);
    let line = refused_start(&site, &disk).await;
    assert!(line.contains("full") || line.contains("space"), "{line}");
    disk.free();
    let server = disk.serve(&site, &[]).await;
    let task = remote::start(&server.connect(), bash("echo well")).await;
    let task = remote::ended(&server.connect(), &task.background_id).await;
    assert_eq!(stdout_of(outcome_of(&task)), b"well\n");
}
