//! The server's stop: in good order at the first signal, at once at the second.

use std::time::{Duration, Instant};

use callpark_proto::v1::session_update::Control;
use rustix::process::Signal;
use tokio_util::task::TaskTracker;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::support::program::{Clients, Program, Site};
use crate::support::streams::{start_of, stream_of};
use crate::support::waiting::lines_of;
use crate::support::{bash, check_reason, soon, v1};

/// For what happens at once, on a machine that is busy.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Follows the health of the server, which must be good.
async fn health(server: &Program) -> tonic::Streaming<tonic_health::pb::HealthCheckResponse> {
    let request = HealthCheckRequest { service: String::new() };
    let watch = HealthClient::new(server.channel()).watch(request).await;
    let mut stream = watch.expect("a stream").into_inner();
    let first = soon("health", stream.message()).await.expect("no cut").expect("a status");
    assert_eq!(first.status(), ServingStatus::Serving);
    stream
}

async fn session(clients: &Clients) -> String {
    let request = v1::CreateSessionRequest::default();
    let answer = soon("a session", clients.tools.clone().create_session(request)).await;
    answer.expect("an answer").into_inner().session.expect("a session").session_id
}

/// Starts a task that says when it runs.
async fn task(clients: &Clients, session_id: &str, command: &str) -> String {
    let request = start_of(session_id, command);
    let answer = soon("a task", clients.tasks.clone().start(request)).await;
    answer.expect("an answer").into_inner().task.expect("a task").background_id
}

/// The updates of a stream up to its end, and the error that it ends with.
async fn rest(
    mut stream: tonic::Streaming<v1::SessionUpdate>,
) -> (Vec<v1::SessionUpdate>, tonic::Status) {
    let mut updates = Vec::new();
    loop {
        match soon("an update", stream.message()).await {
            Ok(Some(update)) => updates.push(update),
            Ok(None) => panic!("a good end: {updates:?}"),
            Err(status) => return (updates, status),
        }
    }
}

/// Checks that a stream has said that it would end, and how its client goes on.
#[track_caller]
fn check_drained((updates, end): &(Vec<v1::SessionUpdate>, tonic::Status), head: i64) {
    let Some(Control::Draining(draining)) = updates.last().and_then(|last| last.control.as_ref())
    else {
        panic!("no word before the end: {updates:?}");
    };
    assert_eq!(draining.last_sequence, head);
    assert!(draining.retry_after.is_some());
    check_reason(end, Code::Unavailable, "DRAINING");
}

#[tokio::test]
async fn a_first_signal_lets_streams_end_and_leaves_no_process_if_runs_are_to_stop() {
    let site = Site::new();
    let server = site.serve(&["--drain", "2s", "--stop-runs"]).await;
    let clients = server.connect();
    let session_id = session(&clients).await;
    let ready = site.folder().join("ready");
    let say = format!("echo $$ >> {}", ready.display());
    // One that ends when it is asked, one that doesn't, and one that leaves its group.
    let stubborn = format!("trap '' TERM; {say}; while :; do sleep 1; done");
    let away = format!("setsid bash -c '{say}; sleep 300' & wait");
    let ids = [
        task(&clients, &session_id, &format!("{say}; sleep 300")).await,
        task(&clients, &session_id, &stubborn).await,
        task(&clients, &session_id, &away).await,
    ];
    let request = bash(&format!("{say}; sleep 300"));
    let call = soon("a call", clients.tools.clone().stream_tool(request)).await;
    let call = call.expect("a stream").into_inner();
    let foreground = bash(&format!("{say}; sleep 300"));
    let mut tools = clients.tools.clone();
    let foreground = TaskTracker::new().spawn(async move { tools.run_tool(foreground).await });
    let (mut tasks, id) = (clients.tasks.clone(), ids[0].clone());
    let wait = v1::WaitRequest { background_id: id, ..Default::default() };
    let wait = TaskTracker::new().spawn(async move { tasks.wait(wait).await });
    lines_of(&ready, 5).await;
    let log = soon("a stream", clients.tools.clone().stream_session(stream_of(&session_id))).await;
    let log = log.expect("a stream").into_inner();
    let mut health = health(&server).await;
    assert!(site.processes().len() >= 5, "{:?}", site.processes());

    let began = Instant::now();
    server.live.signal(Signal::TERM);
    let status = soon("health", health.message()).await.expect("no cut").expect("a status");
    assert_eq!(status.status(), ServingStatus::NotServing);
    let log = rest(log).await;
    let call = rest(call).await;
    let wait = soon("the wait", wait).await.expect("no panic").expect_err("not ended");
    check_reason(&wait, Code::Unavailable, "DRAINING");
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    let head = log.0.iter().flat_map(|update| &update.events).map(|event| event.sequence).max();
    check_drained(&log, head.expect("events"));
    check_drained(&call, 2);
    let stopped = server.live.ended().await.exits(0);
    let took = began.elapsed();
    assert!(stopped.stderr().contains("stopping: 5 running calls end"), "{stopped}");
    assert!(stopped.stderr().contains("running calls end with the server: they are lost calls=5"));
    let foreground = soon("the call", foreground).await.expect("no panic");
    check_reason(&foreground.expect_err("not ended"), Code::Unavailable, "DRAINING");
    assert!(took <= Duration::from_secs(2 + 5), "{took:?}");
    assert_eq!(site.processes(), [0; 0]);

    let server = site.serve(&[]).await;
    for id in &ids {
        let ended = server.cli(&["wait", id]).await;
        assert!(ended.exits(71).stderr().contains("lost"));
        // As long as the first server is known to have run it.
        let task = server.cli(&["show", "--json", id]).await.exits(0).json();
        let elapsed = task["elapsed"].as_str().expect("a duration").trim_end_matches('s');
        let elapsed: f64 = elapsed.parse().expect("seconds");
        assert!((2.0..took.as_secs_f64() + 10.0).contains(&elapsed), "{task}");
    }
}

#[tokio::test]
async fn work_that_ends_in_time_is_answered_while_the_server_stops() {
    let site = Site::new();
    let server = site.serve(&["--drain", "20s"]).await;
    let gate = site.folder().join("gate");
    let ready = site.folder().join("ready");
    let path = gate.display();
    let command = format!(
        "echo $$ >> {}; while [ ! -e {path} ]; do sleep 0.05; done; echo done",
        ready.display()
    );
    let mut tools = server.connect().tools;
    let call = TaskTracker::new().spawn(async move { tools.run_tool(bash(&command)).await });
    lines_of(&ready, 1).await;
    let mut health = health(&server).await;
    server.live.signal(Signal::TERM);
    let status = soon("health", health.message()).await.expect("no cut").expect("a status");
    assert_eq!(status.status(), ServingStatus::NotServing);
    drop(health);
    std::fs::write(&gate, "").expect("a gate");
    let answer = soon("an answer", call).await.expect("no panic").expect("an answer");
    let result = crate::support::result_of(answer.get_ref());
    assert_eq!(crate::support::stdout_of(result), b"done\n");
    let began = Instant::now();
    server.live.ended().await.exits(0);
    assert!(began.elapsed() < Duration::from_secs(10), "it had nothing more to wait for");
}

#[tokio::test]
async fn nothing_new_begins_while_it_stops() {
    let site = Site::new();
    let server = site.serve(&["--drain", "20s"]).await;
    // Both connections are there before; the open stream keeps the server from ending.
    let clients = server.connect();
    let session_id = session(&clients).await;
    let mut health = health(&server).await;
    server.live.signal(Signal::TERM);
    let status = soon("health", health.message()).await.expect("no cut").expect("a status");
    assert_eq!(status.status(), ServingStatus::NotServing);
    let marker = site.folder().join("marker");
    let request = start_of(&session_id, &format!("touch {}", marker.display()));
    let refused = soon("a refusal", clients.tasks.clone().start(request)).await;
    let refused = refused.expect_err("a refusal");
    // The server says so, or its GOAWAY was faster: then the transport of the client does.
    let by_transport = std::error::Error::source(&refused).is_some();
    assert!(refused.code() == Code::Unavailable || by_transport, "{refused:?}");
    drop((health, clients));
    server.live.ended().await.exits(0);
    assert!(!marker.exists());
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let site = Site::new();
    let mut server = site.serve(&["--drain", "1h"]).await;
    let clients = server.connect();
    let session_id = session(&clients).await;
    let ready = site.folder().join("ready");
    let stubborn = format!("trap '' TERM; echo $$ >> {}; sleep 300", ready.display());
    let id = task(&clients, &session_id, &stubborn).await;
    lines_of(&ready, 1).await;
    let _health = health(&server).await;
    server.live.signal(Signal::TERM);
    server.live.stderr.until("stopping").await;
    let began = Instant::now();
    server.live.signal(Signal::TERM);
    let ended = server.live.ended().await;
    // A second is what it may take; another one is for this machine.
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    assert_eq!(ended.code(), 143, "{ended}");
    let server = site.serve(&[]).await;
    assert!(!site.processes().is_empty(), "the process goes on");
    server.cli(&["cancel", "--force", &id]).await.exits(0);
    site.quiet().await;
}

#[tokio::test]
async fn an_idle_server_ends_at_once() {
    let site = Site::new();
    for signal in [Signal::TERM, Signal::INT] {
        let server = site.serve(&["--drain", "1h"]).await;
        server.cli(&["run", "bash", "true"]).await.exits(0);
        let began = Instant::now();
        server.live.signal(signal);
        server.live.ended().await.exits(0);
        assert!(began.elapsed() < Duration::from_secs(5), "{signal:?}: {:?}", began.elapsed());
    }
}
