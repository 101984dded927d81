//! Turns that deliver follow-ups, over an end of their server.

use super::*;
use crate::support::streams;

/// Starts a task with a follow-up.
async fn task(server: &Program, session_id: &str, command: &str) -> String {
    let mut request = streams::start_of(session_id, command);
    if let Some(v1::start_request::Work::ToolCall(call)) = &mut request.work {
        call.follow_up = v1::FollowUpPolicy::OnFinish.into();
    }
    let answer = soon("a start", server.connect().tasks.start(request)).await;
    answer.expect("an answer").into_inner().task.expect("a task").background_id
}

/// A session whose agent has said something.
async fn with_agent(server: &Program) -> String {
    let clients = server.connect();
    let session_id = session(&clients, v1::CreateSessionRequest::default()).await;
    let turn = soon("a turn", clients.tools.clone().run_turn(prompt(&session_id, "hi"))).await;
    FinishedTurn::of(turn.expect("an answer").into_inner());
    session_id
}

/// The number of attempts to deliver follow-ups, and the number of those that were delivered.
fn deliveries(events: &[v1::SessionEvent]) -> (usize, usize) {
    let count = |is_it: fn(&Payload) -> bool| {
        events.iter().filter_map(|event| event.payload.as_ref()).filter(|p| is_it(p)).count()
    };
    let started = count(|payload| matches!(payload, Payload::FollowUpStarted(_)));
    let delivered = count(|payload| match payload {
        Payload::FollowUpFinished(end) => end.state() == v1::FollowUpState::Delivered,
        _ => false,
    });
    (started, delivered)
}

fn is_delivered(payload: &Payload) -> bool {
    matches!(payload, Payload::FollowUpFinished(_))
}

#[tokio::test]
async fn a_turn_that_delivers_goes_on_with_what_it_has_done() {
    let world = World::new(vec![says("hello")]).await;
    let (mut gate, command) = world.gate();
    world.endpoint.then(calls(&[("c", "bash", command)]));
    world.endpoint.then(begins());
    world.endpoint.then(says("noted"));
    let server = world.serve().await;
    let session_id = with_agent(&server).await;
    task(&server, &session_id, "echo job").await;
    lines_of(&world.ran(), 1).await;
    server.kill().await;
    let server = world.serve().await;
    gate.open();
    world.endpoint.asked(3).await;
    server.kill().await;
    let server = world.serve().await;
    until(&server, &session_id, is_delivered).await;
    let events = log(&server, &session_id).await;
    assert_eq!(deliveries(&events), (1, 1), "{:?}", short(&events));
    assert_eq!(lines_of(&world.ran(), 1).await, ["ran"], "it ran once");
    // The request is the same as before the end, with the prompt and the result.
    assert_eq!(world.endpoint.messages(3), world.endpoint.messages(2));
    let shown = world.endpoint.messages(3);
    assert_eq!(shown[..4], world.endpoint.messages(1)[..]);
    assert_eq!(shown[5]["content"], "out\n", "{shown:?}");
    // The history has the last message only.
    let request = v1::ListMessagesRequest { session_id, ..Default::default() };
    let messages = soon("messages", server.connect().tools.list_messages(request)).await;
    assert_eq!(messages.expect("an answer").into_inner().messages.len(), 3);
    crate::history::check_everything(&server.connect(), 2).await;
}

#[tokio::test]
async fn a_follow_up_between_two_rounds_stays_where_the_model_was_told_of_it() {
    let world = World::new(vec![says("hello")]).await;
    let (mut gate, command) = world.gate();
    world.endpoint.then(calls(&[("c", "bash", command)]));
    world.endpoint.then(calls(&[("d", "bash", json!({ "command": "echo more" }))]));
    world.endpoint.then(begins());
    world.endpoint.then(says("noted"));
    let server = world.serve().await;
    let session_id = with_agent(&server).await;
    let request = start_of_turn(prompt(&session_id, "go"));
    soon("a start", server.connect().tasks.start(request)).await.expect("an answer");
    lines_of(&world.ran(), 1).await;
    task(&server, &session_id, "echo job").await;
    until(&server, &session_id, |payload| matches!(payload, Payload::FollowUpScheduled(_))).await;
    gate.open();
    world.endpoint.asked(4).await;
    let before = world.endpoint.messages(3);
    server.kill().await;
    let server = world.serve().await;
    until(&server, &session_id, is_delivered).await;
    let shown = world.endpoint.messages(4);
    let roles: Vec<&str> = shown.iter().filter_map(|message| message["role"].as_str()).collect();
    // Between results and a message of the user stands one that endpoints demand.
    let told = ["user", "assistant", "tool", "assistant", "user", "assistant", "tool"];
    assert_eq!(roles[3..], told, "{shown:?}");
    assert_eq!(shown, before);
    let events = log(&server, &session_id).await;
    assert_eq!(deliveries(&events), (1, 1), "{:?}", short(&events));
    crate::history::check_everything(&server.connect(), 1).await;
}
