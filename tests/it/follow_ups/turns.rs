//! Agents that run here are woken: a turn delivers the follow-ups.

use prost::Message as _;
use serde_json::{Value, json};

use super::*;
use crate::support::streams::{Gate, close, ended, log_of, new_session};
use crate::support::waiting::start_of_turn;
use crate::turns::{Endpoint, calls, config, prompt, says, short, turn};

async fn serve(endpoint: &Endpoint) -> TestServer {
    TestServer::with_config(&config(endpoint, PARKS), &QUICK).await
}

/// Bash that goes to the background at once.
const PARKS: &str = "
[[tools]]
name = 'parks'
argv = ['bash', '-c', '{command}']
call_budget = '0s'
input_schema = { type = 'object', properties = { command = { type = 'string' } } }
";

/// A session whose agent has said hello.
async fn agent_session(server: &TestServer, endpoint: &Endpoint) -> String {
    let session = new_session(server).await;
    endpoint.then(says("hello"));
    assert_eq!(turn(server, prompt(&session, "hi")).await.final_text, "hello");
    session
}

/// Returns the role and the text of each message of a request.
fn conversation(messages: &[Value]) -> Vec<(&str, &str)> {
    messages
        .iter()
        .filter(|message| message["role"] != "system")
        .map(|message| {
            (
                message["role"].as_str().unwrap_or_default(),
                message["content"].as_str().unwrap_or_default(),
            )
        })
        .collect()
}

#[tokio::test]
async fn a_call_that_parked_wakes_its_agent_when_it_ends() {
    let endpoint = Endpoint::new(vec![]).await;
    let server = serve(&endpoint).await;
    let session = new_session(&server).await;
    let gate = Gate::new(&server, "a");
    let command = json!({ "command": format!("{}; echo the result; exit 3", gate.command()) });
    endpoint.then(calls(&[("c", "parks", command)]));
    endpoint.then(says("I come back to it"));
    let answer = turn(&server, prompt(&session, "do it")).await;
    let id = answer.running_background_ids[0].clone();
    gate.open();
    endpoint.then(says("it failed, as it should"));
    let events = until(&server, &session, 1, State::Delivered).await;
    assert_eq!(story(&events), ["scheduled", "started 1", "DELIVERED 1"]);
    // The turn shows it as the message of a tool, not as a person's.
    let messages = endpoint.messages(2);
    let messages = conversation(&messages);
    let (role, text) = messages[messages.len() - 1];
    assert_eq!(role, "user");
    for word in [&id, "failed", "exit code 3", "the result", "not from a person", "data"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let follow_up = list(&server, &session).await.remove(0);
    assert_eq!((follow_up.state(), follow_up.attempt), (State::Delivered, 1));
    assert_eq!(follow_up.delivery(), v1::FollowUpDelivery::Engine);
    let events = log_of(&server, &session).await;
    let starts = events.iter().filter_map(|event| match &event.payload {
        Some(Payload::TurnStarted(started)) => Some((&event.turn_id, &started.follow_up_ids)),
        _ => None,
    });
    let (turn_id, follow_ups) = starts.last().expect("a turn");
    assert_eq!((&follow_up.turn_id, follow_ups), (turn_id, &vec![follow_up_of(&id)]));
    let last = short(&events);
    let last = last.iter().rfind(|line| line.starts_with("idle")).expect("an end");
    assert_eq!(last, "idle STOP_REASON_END_TURN \"it failed, as it should\"");
    // The history keeps the agent's answer, and no message that neither side has sent.
    endpoint.then(says("yes"));
    turn(&server, prompt(&session, "well?")).await;
    let history = endpoint.messages(3);
    let roles: Vec<&str> = conversation(&history).iter().map(|(role, _)| *role).collect();
    assert_eq!(roles, ["user", "assistant", "tool", "assistant", "user"]);
    // Two messages of the model in a row are sent as one.
    assert_eq!(conversation(&history)[3].1, "I come back to it\n\nit failed, as it should");
}

#[tokio::test]
async fn three_ends_at_once_are_one_turn() {
    let endpoint = Endpoint::new(vec![]).await;
    let server = serve(&endpoint).await;
    let session = agent_session(&server, &endpoint).await;
    // Nothing is delivered until the running turn has ended; then all are, together.
    let (hold, gate) = (Gate::new(&server, "hold"), Gate::new(&server, "go"));
    let mut ids = Vec::new();
    for number in 1..=3 {
        let command = format!("{}; echo result {number}", gate.command());
        ids.push(followed(&server, &session, &command).await);
    }
    endpoint.then(calls(&[("c", "bash", json!({ "command": hold.command() }))]));
    let running = turn(&server, prompt(&session, "hold"));
    let meanwhile = async {
        endpoint.asked(2).await;
        gate.open();
        for id in &ids {
            ended(&server, id).await;
        }
        // The next round begins when the call has ended.
        endpoint.then(says("held, and noted"));
        hold.open();
    };
    let (answer, ()) = tokio::join!(running, meanwhile);
    assert_eq!(answer.final_text, "held, and noted");
    let events = until(&server, &session, 3, State::Delivered).await;
    assert_eq!(endpoint.requests().len(), 3, "no other turn delivers them");
    let messages = endpoint.messages(2);
    let (_, text) = *conversation(&messages).last().expect("a message");
    assert!((1..=3).all(|number| text.contains(&format!("result {number}"))), "{text}");
    let events = story(&events);
    assert_eq!(
        events[3..],
        ["started 1", "started 1", "started 1", "DELIVERED 1", "DELIVERED 1", "DELIVERED 1"]
    );
}

#[tokio::test]
async fn ends_during_the_last_message_of_a_turn_are_one_turn_after_it() {
    let endpoint = Endpoint::new(vec![]).await;
    let server = serve(&endpoint).await;
    let session = agent_session(&server, &endpoint).await;
    let gate = Gate::new(&server, "go");
    let mut ids = Vec::new();
    for number in 1..=3 {
        let command = format!("{}; echo result {number}", gate.command());
        ids.push(followed(&server, &session, &command).await);
    }
    let last_words = std::sync::Arc::new(tokio::sync::Notify::new());
    endpoint.then(crate::turns::Script::Stream(vec![
        crate::turns::Piece::Text("bye".into()),
        crate::turns::Piece::Wait(last_words.clone()),
        crate::turns::Piece::Finish("stop"),
    ]));
    let running = turn(&server, prompt(&session, "say bye"));
    let meanwhile = async {
        endpoint.asked(2).await;
        gate.open();
        for id in &ids {
            ended(&server, id).await;
        }
        endpoint.then(says("all three are there"));
        last_words.notify_one();
    };
    let (answer, ()) = tokio::join!(running, meanwhile);
    assert_eq!(answer.final_text, "bye");
    until(&server, &session, 3, State::Delivered).await;
    assert_eq!(endpoint.requests().len(), 3, "one turn for all");
    let log = short(&log_of(&server, &session).await);
    assert_eq!(log.iter().filter(|line| line.starts_with("idle")).count(), 3);
}

#[tokio::test]
async fn an_end_that_the_agent_has_waited_for_is_not_delivered_again() {
    let endpoint = Endpoint::new(vec![]).await;
    let server = serve(&endpoint).await;
    let session = new_session(&server).await;
    let gate = Gate::new(&server, "quick");
    let command = json!({ "command": format!("{}; echo quick", gate.command()) });
    endpoint.then(calls(&[("c", "parks", command)]));
    let running = turn(&server, prompt(&session, "do it"));
    let meanwhile = async {
        endpoint.asked(2).await;
        let messages = endpoint.messages(1);
        let (_, text) = *conversation(&messages).last().expect("an answer");
        let parked: Value = serde_json::from_str(text).expect("JSON");
        let wait = json!({ "background_id": parked["background_id"], "wait_seconds": 30 });
        endpoint.then(calls(&[("w", "check_background_task", wait)]));
        endpoint.then(says("quick"));
        gate.open();
    };
    let (answer, ()) = tokio::join!(running, meanwhile);
    assert_eq!(answer.final_text, "quick");
    // It may have ended before the model came to wait: then it was delivered between the rounds.
    let follow_up = list(&server, &session).await.remove(0);
    let is_settled = matches!(follow_up.state(), State::Suppressed | State::Delivered);
    assert!(is_settled, "{follow_up:?}");
    assert_eq!(endpoint.requests().len(), 3, "no turn is started for it");
}

#[tokio::test]
async fn a_session_may_do_without() {
    let endpoint = Endpoint::new(vec![]).await;
    let server = serve(&endpoint).await;
    let request = v1::CreateSessionRequest {
        follow_up: v1::FollowUpPolicy::OnFailure.into(),
        ..Default::default()
    };
    let session = crate::support::streams::created(&server, request).await;
    assert_eq!(session.follow_up(), v1::FollowUpPolicy::OnFailure);
    let session = session.session_id;
    endpoint.then(calls(&[("c", "parks", json!({ "command": "echo fine" }))]));
    endpoint.then(says("gone"));
    let answer = turn(&server, prompt(&session, "do it")).await;
    for id in &answer.running_background_ids {
        ended(&server, id).await;
    }
    assert_eq!(list(&server, &session).await, []);
    close(&server, &session).await;
}

#[tokio::test]
async fn the_end_of_a_background_turn_is_delivered_to_its_starter() {
    let works = calls(&[("c", "bash", json!({ "command": "true" }))]);
    let endpoint = Endpoint::new(vec![works, says(""), says(""), says("")]).await;
    let server = serve(&endpoint).await;
    let request = start_of_turn(v1::RunTurnRequest {
        prompt: "work".into(),
        follow_up: v1::FollowUpPolicy::OnFinish.into(),
        ..Default::default()
    });
    let task = started(&server, request).await;
    let lease = leased(&server, &task.session_id).await;
    let message = &record(&lease).message;
    assert!(message.contains("\n(no output)\n"), "{message}");
    let task = record(&lease).task.as_ref().expect("a task");
    assert_eq!(task.usage.expect("usage").requests, 4, "kept without a text");
    let system = endpoint.messages(0)[0]["content"].as_str().expect("text").to_owned();
    assert!(system.contains("You are working in the background"), "{system}");
    acknowledge(&server, &lease, None).await.expect("taken");
}

#[tokio::test]
async fn the_work_of_a_turn_is_kept_with_its_message() {
    let endpoint = Endpoint::new(vec![]).await;
    let mut server = serve(&endpoint).await;
    let session = agent_session(&server, &endpoint).await;
    let command = "echo used --password=hunter2 > /dev/null; echo seen; exit 4";
    endpoint.then(calls(&[("c", "bash", json!({ "command": command }))]));
    endpoint.then(says("I looked"));
    let id = followed(&server, &session, "seq 100000").await;
    until(&server, &session, 1, State::Delivered).await;
    server.stop().await;
    let store = rusqlite::Connection::open(server.folder().join("callpark.db")).expect("a store");
    let newest = "SELECT body FROM messages ORDER BY key DESC LIMIT 1";
    let body: String = store.query_row(newest, [], |row| row.get(0)).expect("a message");
    // The checksum stands in front.
    let message: Value = serde_json::from_str(&body[8..]).expect("JSON");
    let said = &message["assistant"];
    assert_eq!(said["text"], "I looked");
    let note = &said["note"];
    assert_eq!(note["model"], "main");
    assert_eq!(note["tasks"], json!([id.replace("bg-", "call-")]));
    let [tool] = &note["tools"].as_array().expect("tools")[..] else { panic!("{note}") };
    assert_eq!(
        (&tool["round"], &tool["tool"], &tool["exit_code"]),
        (&json!(1), &json!("bash"), &json!(4))
    );
    assert_eq!(tool["output"], "[failed: exit code 4]\nseen\n");
    let arguments = tool["arguments"].as_str().expect("text");
    assert!(arguments.contains("--password=[redacted]"), "{arguments}");
    assert!(!body.contains("hunter2"), "{body}");
    let text = note["told"].as_str().expect("text");
    assert!(text.contains("more characters]") && text.chars().count() < 4_100, "{text}");
}

/// However much they have written, and whatever they were for, all fit into one event.
#[tokio::test]
async fn many_that_say_much_are_one_prompt() {
    let endpoint = Endpoint::new(vec![]).await;
    let server = serve(&endpoint).await;
    let session = agent_session(&server, &endpoint).await;
    let hold = std::sync::Arc::new(tokio::sync::Notify::new());
    endpoint.then(crate::turns::Script::Stream(vec![
        crate::turns::Piece::Text("bye".into()),
        crate::turns::Piece::Wait(hold.clone()),
        crate::turns::Piece::Finish("stop"),
    ]));
    const TASKS: usize = 32;
    let running = turn(&server, prompt(&session, "hold"));
    let meanwhile = async {
        endpoint.asked(2).await;
        for _ in 0..TASKS {
            let mut request = follow(&session, "seq 100000");
            if let Some(v1::start_request::Work::ToolCall(call)) = &mut request.work {
                call.description = "x".repeat(4_000);
            }
            ended(&server, &started(&server, request).await.background_id).await;
        }
        endpoint.then(says("much"));
        hold.notify_one();
    };
    tokio::join!(running, meanwhile);
    let events = until(&server, &session, TASKS, State::Delivered).await;
    let start = events.iter().rev().find_map(|event| match &event.payload {
        Some(Payload::TurnStarted(started)) => Some((event.encoded_len(), started)),
        _ => None,
    });
    let (bytes, started) = start.expect("a turn");
    assert_eq!(started.follow_up_ids.len(), TASKS);
    assert!(bytes < 256 * 1024, "{bytes}");
}
