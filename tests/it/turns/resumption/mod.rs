//! Turns whose server goes away: the next one goes on with them.

use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::task::TaskTracker;

use super::*;
use crate::support::program::{Clients, Program, Site};
use crate::support::span;
use crate::support::streams::{replay_of, stream_of};
use crate::support::waiting::{Gate, lines_of, start_of_turn};

mod agents;
mod follow_ups;
mod losses;
mod points;

/// A home with a model, whose servers come and go.
struct World {
    site: Site,
    endpoint: Endpoint,
    config: String,
    flags: Vec<String>,
}

impl World {
    async fn new(scripts: Vec<Script>) -> Self {
        let endpoint = Endpoint::new(scripts).await;
        let site = Site::new();
        let config = site.write("callpark.toml", &config(&endpoint, "")).display().to_string();
        let flags = ["--drain", "300ms", "--follow-up-delay", "2ms"].map(str::to_owned).to_vec();
        Self { site, endpoint, config, flags }
    }

    async fn serve(&self) -> Program {
        let mut flags = vec!["--config", self.config.as_str()];
        flags.extend(self.flags.iter().map(String::as_str));
        self.site.serve(&flags).await
    }

    /// A gate, and a command that notes its run before the gate and ends behind it.
    fn gate(&self) -> (Gate, Value) {
        let gate = Gate::new(self.site.folder(), "gate");
        let ran = self.ran().display().to_string();
        let command = format!("echo ran >> {ran}; {}; echo out", gate.wait());
        (gate, json!({ "command": command }))
    }

    /// The file in which commands note their runs.
    fn ran(&self) -> std::path::PathBuf {
        self.site.folder().join("ran")
    }
}

async fn session(clients: &Clients, request: v1::CreateSessionRequest) -> String {
    let answer = soon("a session", clients.tools.clone().create_session(request)).await;
    answer.expect("an answer").into_inner().session.expect("a session").session_id
}

/// Starts a turn in the background, in a new session.
async fn started(server: &Program, request: v1::CreateSessionRequest) -> v1::Task {
    let clients = server.connect();
    let session_id = session(&clients, request).await;
    let request = start_of_turn(prompt(&session_id, "go"));
    let answer = soon("a start", clients.tasks.clone().start(request)).await;
    answer.expect("an answer").into_inner().task.expect("a task")
}

/// A task once it has ended.
async fn ended(server: &Program, background_id: &str) -> v1::Task {
    let wait = span(Duration::from_secs(60));
    let request = v1::WaitRequest { background_id: background_id.into(), wait, acknowledge: false };
    let answer = soon("an end", server.connect().tasks.wait(request)).await;
    let answer = answer.expect("an answer").into_inner();
    assert!(!answer.still_running, "{answer:?}");
    answer.task.expect("a task")
}

/// All events of a session.
async fn log(server: &Program, session_id: &str) -> Vec<v1::SessionEvent> {
    let stream = server.connect().tools.stream_session(replay_of(session_id)).await;
    let mut stream = stream.expect("a stream").into_inner();
    let mut events = Vec::new();
    while let Some(update) = soon("an update", stream.message()).await.expect("no error") {
        events.extend(update.events);
    }
    events
}

/// Waits for an event of a session.
async fn until(server: &Program, session_id: &str, is_it: impl Fn(&Payload) -> bool) {
    let stream = server.connect().tools.stream_session(stream_of(session_id)).await;
    let mut stream = stream.expect("a stream").into_inner();
    let found = async {
        while let Some(update) = stream.message().await.expect("no error") {
            if update.events.iter().filter_map(|event| event.payload.as_ref()).any(&is_it) {
                return;
            }
        }
        panic!("the stream has ended");
    };
    soon("an event", found).await;
}

fn is_delta(payload: &Payload) -> bool {
    matches!(payload, Payload::AssistantDelta(_))
}

/// The end of a turn as its session's log has it.
#[track_caller]
fn idle(events: &[v1::SessionEvent]) -> &v1::SessionIdle {
    let ends = events.iter().filter_map(|event| match &event.payload {
        Some(Payload::SessionIdle(idle)) => Some(idle),
        _ => None,
    });
    let ends: Vec<_> = ends.collect();
    assert_eq!(ends.len(), 1, "{events:?}");
    ends[0]
}

/// An answer that begins, and never ends.
fn begins() -> Script {
    Script::Stream(vec![Piece::Text("I ".into()), Piece::Hang])
}

#[tokio::test]
async fn a_request_that_was_under_way_is_made_again() {
    let world = World::new(vec![begins(), says("done")]).await;
    let server = world.serve().await;
    let task = started(&server, v1::CreateSessionRequest::default()).await;
    until(&server, &task.session_id, is_delta).await;
    server.kill().await;
    let server = world.serve().await;
    let task = ended(&server, &task.background_id).await;
    assert_eq!(task.state(), v1::State::Succeeded, "{task:?}");
    assert_eq!(world.endpoint.messages(1), world.endpoint.messages(0));
    let events = log(&server, &task.session_id).await;
    assert_eq!(idle(&events).final_text, "done");
    assert_eq!(idle(&events).usage.expect("usage").requests, 1);
    let resumed: Vec<_> = events
        .iter()
        .filter_map(|event| match &event.payload {
            Some(Payload::TurnResumed(resumed)) => {
                Some((event.attempt, resumed.resumption, resumed.attempt))
            }
            _ => None,
        })
        .collect();
    assert_eq!(resumed, [(1, 1, 2)], "the event is of the void attempt");
    let deltas = events.iter().filter(|event| event.payload.as_ref().is_some_and(is_delta));
    let attempts: Vec<i32> = deltas.map(|event| event.attempt).collect();
    assert_eq!(attempts, [1, 2], "{:?}", short(&events));
    crate::history::check_everything(&server.connect(), 1).await;
}

#[tokio::test]
async fn a_call_that_outlives_the_server_is_waited_for() {
    for ends_before_the_next_server in [false, true] {
        let world = World::new(Vec::new()).await;
        let (mut gate, command) = world.gate();
        world.endpoint.then(calls(&[("c", "bash", command)]));
        world.endpoint.then(says("done"));
        let server = world.serve().await;
        let task = started(&server, v1::CreateSessionRequest::default()).await;
        lines_of(&world.ran(), 1).await;
        server.kill().await;
        if ends_before_the_next_server {
            gate.open();
            world.site.quiet().await;
        }
        let server = world.serve().await;
        if !ends_before_the_next_server {
            until(&server, &task.session_id, |payload| matches!(payload, Payload::TurnResumed(_)))
                .await;
            gate.open();
        }
        let task = ended(&server, &task.background_id).await;
        let events = log(&server, &task.session_id).await;
        assert_eq!(task.state(), v1::State::Succeeded, "{:?}", short(&events));
        let shown = world.endpoint.messages(1);
        let roles: Vec<&str> = shown.iter().filter_map(|m| m["role"].as_str()).collect();
        assert_eq!(roles, ["system", "user", "assistant", "tool"], "{shown:?}");
        assert_eq!(shown[3]["content"], "out\n");
        assert_eq!(lines_of(&world.ran(), 1).await, ["ran"], "it ran once");
        let idle = idle(&events);
        assert_eq!(
            (idle.usage.expect("usage").requests, idle.running_background_ids.len()),
            (2, 0)
        );
        crate::history::check_everything(&server.connect(), 1).await;
    }
}

#[tokio::test]
async fn a_stop_parks_a_turn_in_the_foreground_and_the_next_server_ends_it() {
    let world = World::new(Vec::new()).await;
    let (mut gate, command) = world.gate();
    world.endpoint.then(calls(&[("c", "bash", command)]));
    world.endpoint.then(says("done"));
    let server = world.serve().await;
    let mut clients = server.connect();
    let session_id = session(&clients, v1::CreateSessionRequest::default()).await;
    let request = prompt(&session_id, "go");
    let answer = TaskTracker::new().spawn(async move { clients.tools.run_turn(request).await });
    lines_of(&world.ran(), 1).await;
    let (end, _) = server.terminate().await;
    end.exits(0);
    let answer = soon("an answer", answer).await.expect("no panic").expect("an answer");
    let Some(v1::run_turn_response::Outcome::Parked(parked)) = answer.into_inner().outcome else {
        panic!("not parked")
    };
    let task = parked.task.expect("a task");
    assert_eq!(task.park_reason(), v1::ParkReason::ServerStopping);
    gate.open();
    let server = world.serve().await;
    let task = ended(&server, &task.background_id).await;
    let events = log(&server, &session_id).await;
    assert_eq!(task.state(), v1::State::Succeeded, "{:?}", short(&events));
    assert_eq!(idle(&events).final_text, "done");
    // The call stayed in the foreground of its turn.
    let parked = short(&events).iter().filter(|line| *line == "parked").count();
    assert_eq!(parked, 1, "{:?}", short(&events));
    assert_eq!(world.endpoint.messages(1)[3]["content"], "out\n");
    crate::history::check_everything(&server.connect(), 1).await;
}

#[tokio::test]
async fn a_turn_that_goes_on_can_be_stopped_and_its_call_goes_on() {
    let world = World::new(Vec::new()).await;
    let (mut gate, command) = world.gate();
    world.endpoint.then(calls(&[("c", "bash", command)]));
    let server = world.serve().await;
    let task = started(&server, v1::CreateSessionRequest::default()).await;
    lines_of(&world.ran(), 1).await;
    server.kill().await;
    let server = world.serve().await;
    let cancel =
        v1::CancelRequest { background_id: task.background_id.clone(), ..Default::default() };
    soon("a cancel", server.connect().tasks.cancel(cancel)).await.expect("an answer");
    let task = ended(&server, &task.background_id).await;
    assert_eq!(task.state(), v1::State::Cancelled, "{task:?}");
    // Its call goes on in the background, as when its caller leaves, and has a follow-up.
    world.endpoint.then(says("noted"));
    let events = log(&server, &task.session_id).await;
    let [call] = &idle(&events).running_background_ids[..] else { panic!("{:?}", short(&events)) };
    gate.open();
    assert_eq!(ended(&server, call).await.state(), v1::State::Succeeded);
    crate::history::check_everything(&server.connect(), 1).await;
}

#[tokio::test]
async fn a_turn_that_waits_for_another_begins_after_it() {
    let world = World::new(vec![begins(), says("one"), says("two")]).await;
    let server = world.serve().await;
    let first = started(&server, v1::CreateSessionRequest::default()).await;
    until(&server, &first.session_id, is_delta).await;
    let request = v1::RunTurnRequest {
        busy_policy: v1::BusyPolicy::Enqueue.into(),
        ..prompt(&first.session_id, "and then")
    };
    let request = start_of_turn(request);
    let second = soon("a start", server.connect().tasks.start(request)).await.expect("an answer");
    let second = second.into_inner().task.expect("a task");
    assert_eq!(second.state(), v1::State::Pending);
    server.kill().await;
    let server = world.serve().await;
    let ends =
        [ended(&server, &first.background_id).await, ended(&server, &second.background_id).await];
    assert!(ends.iter().all(|task| task.state() == v1::State::Succeeded), "{ends:?}");
    let shown = json!(world.endpoint.messages(2)).to_string();
    assert!(shown.contains("and then") && shown.contains("one"), "{shown}");
    let resumed = log(&server, &first.session_id).await;
    let resumed = short(&resumed).iter().filter(|line| line.starts_with("resumed")).count();
    assert_eq!(resumed, 1, "the other one had not begun");
    crate::history::check_everything(&server.connect(), 1).await;
}
