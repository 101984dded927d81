//! The stop of a server in good order: nothing is lost, and nobody waits for an answer in vain.

use std::path::Path;

use rustix::process::Signal;
use tokio_util::task::TaskTracker;
use tonic::Code;
use v1::session_event::Payload;
use v1::session_update::Control;

use super::{check_outputs, code_of};
use crate::history::{History, Shims, check_everything, check_everything_with};
use crate::support::program::Site;
use crate::support::streams::stream_of;
use crate::support::waiting::lines_of;
use crate::support::{bash, check_reason, remote, soon, v1};

/// A command that notes that it runs, and ends with this code once the gate is there.
fn gated(ready: &Path, gate: &Path, code: u8) -> String {
    let (ready, gate) = (ready.display(), gate.display());
    format!(
        "echo $$ >> {ready}; echo begun; until [ -e {gate} ]; do sleep 0.02; done; \
         seq 1 1000 >&2; exit {code}"
    )
}

/// The updates of a stream, and the error at its end, or `None` if it ended well.
async fn rest(
    mut stream: tonic::Streaming<v1::SessionUpdate>,
) -> (Vec<v1::SessionUpdate>, Option<tonic::Status>) {
    let mut updates = Vec::new();
    loop {
        match soon("an update", stream.message()).await {
            Ok(Some(update)) => updates.push(update),
            Ok(None) => return (updates, None),
            Err(status) => return (updates, Some(status)),
        }
    }
}

fn is_draining(update: &v1::SessionUpdate) -> bool {
    matches!(update.control, Some(Control::Draining(_)))
}

fn park_of(updates: &[v1::SessionUpdate]) -> Option<&v1::ToolCallParked> {
    let payloads = updates.iter().flat_map(|update| &update.events);
    payloads.filter_map(|event| event.payload.as_ref()).find_map(|payload| match payload {
        Payload::ToolCallParked(parked) => Some(parked),
        _ => None,
    })
}

#[tokio::test]
async fn a_stop_parks_foreground_calls_and_the_next_server_goes_on_with_all() {
    let site = Site::new();
    let server = site.serve(&["--drain", "300ms"]).await;
    let clients = server.connect();
    let (ready, gate) = (site.folder().join("ready"), site.folder().join("gate"));
    let session_id = remote::session(&clients).await;
    let here = |code| v1::RunToolRequest {
        session_id: session_id.clone(),
        ..bash(&gated(&ready, &gate, code))
    };
    let parked = remote::start(&clients, here(1)).await.background_id;
    let tracker = TaskTracker::new();
    let (mut tools, call) = (clients.tools.clone(), here(2));
    let unary = tracker.spawn(async move { tools.run_tool(call).await });
    let streamed = soon("a call", clients.tools.clone().stream_tool(here(3))).await;
    let streamed = tracker.spawn(rest(streamed.expect("a stream").into_inner()));
    let (mut tasks, id) = (clients.tasks.clone(), parked.clone());
    let wait = v1::WaitRequest { background_id: id, ..Default::default() };
    let wait = tracker.spawn(async move { tasks.wait(wait).await });
    let log = soon("a log", clients.tools.clone().stream_session(stream_of(&session_id))).await;
    let log = tracker.spawn(rest(log.expect("a stream").into_inner()));
    lines_of(&ready, 3).await;

    let (ended, took) = server.terminate().await;
    ended.exits(0);
    assert!(took < std::time::Duration::from_secs(10), "{took:?}");
    let answer = soon("an answer", unary).await.expect("no panic").expect("no error").into_inner();
    let Some(v1::run_tool_response::Outcome::Parked(call)) = answer.outcome else {
        panic!("not parked: {answer:?}")
    };
    let task = call.task.expect("a task");
    assert_eq!(task.park_reason(), v1::ParkReason::ServerStopping, "{task:?}");
    let (updates, end) = soon("the stream of the call", streamed).await.expect("no panic");
    let draining = updates.iter().filter(|update| is_draining(update)).count();
    assert_eq!(draining, 1, "{updates:?}");
    check_reason(&end.expect("an error"), Code::Unavailable, "DRAINING");
    let (updates, end) = soon("the log", log).await.expect("no panic");
    assert_eq!(updates.iter().filter(|update| is_draining(update)).count(), 1, "{updates:?}");
    check_reason(&end.expect("an error"), Code::Unavailable, "DRAINING");
    let wait = soon("a wait", wait).await.expect("no panic").expect_err("it runs");
    check_reason(&wait, Code::Unavailable, "DRAINING");
    assert!(site.processes().len() >= 3);

    let server = site.serve(&[]).await;
    let clients = server.connect();
    let log = remote::log(&clients, &session_id).await;
    let updates = [v1::SessionUpdate { events: log, control: None }];
    assert_eq!(park_of(&updates).expect("an event").reason(), v1::ParkReason::BackgroundStart);
    std::fs::write(&gate, "").expect("a gate");
    let mut codes = Vec::new();
    let numbers: String = (1..=1_000).map(|number| format!("{number}\n")).collect();
    for task in remote::tasks(&clients).await {
        let task = remote::ended(&clients, &task.background_id).await;
        codes.push(code_of(&task));
        check_outputs(&clients, &task.background_id, [b"begun\n", numbers.as_bytes()]).await;
    }
    codes.sort_unstable();
    assert_eq!(codes, [1, 2, 3]);
    assert_eq!(code_of(&remote::ended(&clients, &call.background_id).await), 2);
    site.quiet().await;
    check_everything(&clients, 1).await;
}

#[tokio::test]
async fn stops_under_load_lose_nothing() {
    let site = Site::new();
    let mut ids = Vec::new();
    let numbers: String = (1..=20_000).map(|number| format!("{number}\n")).collect();
    let mut server = site.serve(&["--drain", "0s"]).await;
    for code in 0..4_u8 {
        // Both streams, in pieces of all sizes, longer than several stops take.
        let command = format!(
            "seq 1 20000 | while read -r n; do echo $n; [ $((n % 2000)) = 0 ] && sleep 0.05; done; exit {code}"
        );
        ids.push(remote::start(&server.connect(), bash(&command)).await.background_id);
        if code % 2 == 1 {
            server.live.signal(Signal::TERM);
            server.live.ended().await.exits(0);
        } else {
            server.kill().await;
        }
        server = site.serve(&["--drain", "0s"]).await;
    }
    let clients = server.connect();
    for (code, id) in ids.iter().enumerate() {
        assert_eq!(
            code_of(&remote::ended(&clients, id).await),
            i32::try_from(code).expect("small")
        );
        check_outputs(&clients, id, [numbers.as_bytes(), b""]).await;
    }
    let known = History { stops: 4, shims: Shims::Lived, ..History::default() };
    check_everything_with(&clients, known).await;
}

#[tokio::test]
async fn a_kill_in_the_middle_of_a_stop_loses_nothing() {
    let site = Site::new();
    let server = site.serve(&["--drain", "1h"]).await;
    let clients = server.connect();
    let (ready, gate) = (site.folder().join("ready"), site.folder().join("gate"));
    let (mut tools, call) = (clients.tools.clone(), bash(&gated(&ready, &gate, 4)));
    let unary = TaskTracker::new().spawn(async move { tools.run_tool(call).await });
    lines_of(&ready, 1).await;
    let mut server = server;
    server.live.signal(Signal::TERM);
    server.live.stderr.until("stopping").await;
    server.kill().await;
    soon("an error", unary).await.expect("no panic").expect_err("its server was killed");
    let server = site.serve(&[]).await;
    std::fs::write(&gate, "").expect("a gate");
    let clients = server.connect();
    let task = remote::tasks(&clients).await.pop().expect("a task");
    assert_eq!(task.park_reason(), v1::ParkReason::Disconnected, "{task:?}");
    assert_eq!(code_of(&remote::ended(&clients, &task.background_id).await), 4);
}

#[tokio::test]
async fn adopted_runs_end_with_a_server_that_is_to_stop_them() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let (ready, gate) = (site.folder().join("ready"), site.folder().join("gate"));
    let id = remote::start(&server.connect(), bash(&gated(&ready, &gate, 4))).await.background_id;
    lines_of(&ready, 1).await;
    server.kill().await;
    let server = site.serve(&["--stop-runs", "--drain", "0s"]).await;
    let (ended, _) = server.terminate().await;
    ended.exits(0);
    assert_eq!(site.processes(), [0; 0]);
    site.without_shims().await;
    let server = site.serve(&[]).await;
    super::loss_of(&remote::ended(&server.connect(), &id).await);
}

#[tokio::test]
async fn a_foreground_call_that_ends_with_its_caller_does_so_after_a_kill() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let (ready, gate) = (site.folder().join("ready"), site.folder().join("gate"));
    let session_id = remote::session(&server.connect()).await;
    let call = v1::RunToolRequest {
        session_id: session_id.clone(),
        on_disconnect: v1::OnDisconnect::Cancel.into(),
        ..bash(&gated(&ready, &gate, 4))
    };
    let mut tools = server.connect().tools;
    let unary = TaskTracker::new().spawn(async move { tools.run_tool(call).await });
    lines_of(&ready, 1).await;
    server.kill().await;
    soon("an error", unary).await.expect("no panic").expect_err("its server was killed");
    let server = site.serve(&[]).await;
    site.quiet().await;
    let clients = server.connect();
    let log = remote::log(&clients, &session_id).await;
    let finished = log.iter().find_map(|event| match &event.payload {
        Some(Payload::ToolCallFinished(finished)) => Some(finished),
        _ => None,
    });
    assert_eq!(finished.expect("an end").state(), v1::State::Cancelled, "{log:?}");
    check_everything(&clients, 1).await;
}

#[tokio::test]
async fn the_follow_up_of_a_call_that_ended_without_a_server_comes_with_the_next_one() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let clients = server.connect();
    let (ready, gate) = (site.folder().join("ready"), site.folder().join("gate"));
    let session_id = remote::session(&clients).await;
    let call = v1::RunToolRequest {
        session_id: session_id.clone(),
        follow_up: v1::FollowUpPolicy::OnFinish.into(),
        ..bash(&gated(&ready, &gate, 4))
    };
    let id = remote::start(&clients, call).await.background_id;
    lines_of(&ready, 1).await;
    server.kill().await;
    std::fs::write(&gate, "").expect("a gate");
    site.quiet().await;
    let server = site.serve(&[]).await;
    let request = v1::LeaseFollowUpsRequest {
        session_id,
        wait: crate::support::millis(20_000),
        ..Default::default()
    };
    let answer = soon("follow-ups", server.connect().tasks.lease_follow_ups(request)).await;
    let follow_ups = answer.expect("an answer").into_inner().follow_ups;
    assert_eq!(follow_ups.len(), 1, "{follow_ups:?}");
    let follow_up = follow_ups[0].follow_up.as_ref().expect("a follow-up");
    assert_eq!(follow_up.background_id, id);
    assert!(follow_up.message.contains("exit code 4"), "{follow_up:?}");
}
