//! `kill -9` between the end of a task and the mark that its follow-up is delivered: nothing is lost,
//! and nothing is delivered twice.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tonic::Streaming;

use super::*;
use crate::support::program::{Clients, Program, Site};
use crate::support::proofs::repetitions;
use crate::support::streams::replay_of;
use crate::support::waiting::{self, call_of};
use crate::support::{request_id, seed};
use crate::turns::{Endpoint, FinishedTurn, config, prompt, says};

/// The model's answer to every request.
const ANSWER: &str = "noted";
/// More answers than are asked for, whatever is killed.
const ANSWERS: usize = 2_000;

/// A home with a model, and a session whose agent has said something.
struct World {
    site: Site,
    endpoint: Endpoint,
    file: String,
    session_id: String,
}

impl World {
    async fn new() -> (Self, Program) {
        let answers = ANSWERS.max(10 * repetitions(200, 20));
        let endpoint = Endpoint::new(vec![says(ANSWER); answers]).await;
        let site = Site::new();
        let file = site.write("callpark.toml", &config(&endpoint, "")).display().to_string();
        let mut world = Self { site, endpoint, file, session_id: String::new() };
        let server = world.serve().await;
        let clients = server.connect();
        let request = v1::CreateSessionRequest::default();
        let session = clients.tools.clone().create_session(request).await.expect("a session");
        world.session_id = session.into_inner().session.expect("a session").session_id;
        let request = prompt(&world.session_id, "hi");
        let turn = soon("a turn", clients.tools.clone().run_turn(request)).await;
        assert_eq!(FinishedTurn::of(turn.expect("an answer").into_inner()).final_text, ANSWER);
        (world, server)
    }

    async fn serve(&self) -> Program {
        let flags = ["--config", &self.file, "--follow-up-delay", "2ms"];
        self.site.serve(&flags).await
    }

    /// Starts a task that has a follow-up; `None` if the server does not answer.
    async fn start(&self, clients: &Clients, command: &str) -> Option<String> {
        let call = call_of(&follow(&self.session_id, command)).clone();
        let request = waiting::start_of(v1::RunToolRequest { request_id: request_id(), ..call });
        let answer = clients.tasks.clone().start(request).await.ok()?;
        Some(answer.into_inner().task.expect("a task").background_id)
    }

    /// Reads the log from now on. What happens behind the first message is in it.
    async fn read(&self, clients: &Clients) -> Streaming<v1::SessionUpdate> {
        let request = v1::StreamSessionRequest {
            from_now: true,
            ..crate::support::streams::stream_of(&self.session_id)
        };
        let stream = clients.tools.clone().stream_session(request).await.expect("a stream");
        let mut stream = stream.into_inner();
        soon("the snapshot", stream.message()).await.expect("no error").expect("a snapshot");
        stream
    }

    async fn log(&self, clients: &Clients) -> Vec<v1::SessionEvent> {
        let stream = clients.tools.clone().stream_session(replay_of(&self.session_id)).await;
        let mut stream = stream.expect("a stream").into_inner();
        let mut events = Vec::new();
        while let Some(update) = soon("an update", stream.message()).await.expect("no error") {
            events.extend(update.events);
        }
        events
    }

    /// Waits until no follow-up is left to deliver, and returns the log.
    async fn settled(&self, clients: &Clients) -> Vec<v1::SessionEvent> {
        let open = [State::Pending, State::Leased].map(i32::from).to_vec();
        let request = v1::ListFollowUpsRequest {
            session_id: self.session_id.clone(),
            states: open,
            ..Default::default()
        };
        let settled = async {
            loop {
                let answer = clients.tasks.clone().list_follow_ups(request.clone()).await;
                if answer.expect("a list").into_inner().follow_ups.is_empty() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        soon("the end of all follow-ups", settled).await;
        self.log(clients).await
    }

    /// Each of these tasks was delivered once, and the history holds one message for each turn that
    /// delivered some.
    async fn check(&self, clients: &Clients, ids: &[String]) {
        let log = self.settled(clients).await;
        let mut delivered: BTreeMap<&str, usize> = BTreeMap::new();
        let mut turns = Vec::new();
        let mut ends = Vec::new();
        for event in &log {
            match &event.payload {
                Some(Payload::FollowUpFinished(end)) if end.state() == State::Delivered => {
                    *delivered.entry(&end.follow_up_id).or_default() += 1;
                }
                Some(Payload::TurnStarted(started)) if !started.follow_up_ids.is_empty() => {
                    turns.push(&event.turn_id);
                }
                Some(Payload::SessionIdle(_)) => ends.push(&event.turn_id),
                _ => {}
            }
        }
        for id in ids {
            assert_eq!(delivered.get(follow_up_of(id).as_str()), Some(&1), "{id}");
        }
        assert!(delivered.values().all(|count| *count == 1), "{delivered:?}");
        let delivering = turns.iter().filter(|turn| ends.contains(turn)).count();
        let request = prompt(&self.session_id, "well?");
        soon("a turn", clients.tools.clone().run_turn(request)).await.expect("an answer");
        // Endpoints are sent messages of one role in a row as one.
        let request = v1::ListMessagesRequest {
            session_id: self.session_id.clone(),
            page_size: 1_000,
            ..Default::default()
        };
        let listed = soon("messages", clients.tools.clone().list_messages(request)).await;
        let messages = listed.expect("a list").into_inner().messages;
        let is_answer = |message: &&v1::Message| message.role() == v1::MessageRole::Assistant;
        let said = messages.iter().filter(is_answer).count();
        assert_eq!(said, 2 + delivering, "one for each prompt, and one for each delivering turn");
    }
}

#[tokio::test]
async fn a_kill_at_every_step_loses_nothing_and_repeats_nothing() {
    let (world, mut server) = World::new().await;
    type Step = (&'static str, fn(&Payload) -> bool);
    let steps: [Step; 9] = [
        ("the end", |payload| matches!(payload, Payload::ToolCallFinished(_))),
        ("scheduled", |payload| matches!(payload, Payload::FollowUpScheduled(_))),
        (
            "its turn",
            |payload| matches!(payload, Payload::ToolCallStarted(call) if call.tool.is_empty()),
        ),
        ("started", |payload| matches!(payload, Payload::FollowUpStarted(_))),
        ("the turn's beginning", |payload| matches!(payload, Payload::TurnStarted(_))),
        ("a word", |payload| matches!(payload, Payload::AssistantDelta(_))),
        ("the message", |payload| matches!(payload, Payload::AssistantMessage(_))),
        ("the mark", |payload| matches!(payload, Payload::FollowUpFinished(_))),
        ("the turn's end", |payload| matches!(payload, Payload::SessionIdle(_))),
    ];
    let mut ids = Vec::new();
    for (step, is_step) in steps {
        let clients = server.connect();
        let mut stream = world.read(&clients).await;
        ids.push(world.start(&clients, "echo x").await.expect("started"));
        let is_there = |update: &v1::SessionUpdate| {
            update.events.iter().any(|event| event.payload.as_ref().is_some_and(is_step))
        };
        let reading =
            async { while !is_there(&stream.message().await.expect("no error").expect("more")) {} };
        soon(step, reading).await;
        server.kill().await;
        server = world.serve().await;
        println!("killed at {step}");
        world.settled(&server.connect()).await;
    }
    world.check(&server.connect(), &ids).await;
}

#[tokio::test]
async fn kills_at_random_moments_lose_nothing_and_repeat_nothing() {
    let mut random = StdRng::seed_from_u64(seed());
    let (world, mut server) = World::new().await;
    let mut ids = Vec::new();
    let kills = repetitions(200, 20);
    for _ in 0..kills {
        let clients = server.connect();
        for _ in 0..random.random_range(1..3) {
            ids.push(world.start(&clients, "echo x").await.expect("a server that lives"));
        }
        // The moment is the subject of the test.
        tokio::time::sleep(Duration::from_millis(random.random_range(0..60))).await;
        server.kill().await;
        server = world.serve().await;
    }
    println!("{} tasks, {} requests", ids.len(), world.endpoint.requests().len());
    world.check(&server.connect(), &ids).await;
}
