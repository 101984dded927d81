//! Agents that work for agents, over an end of their server.

use super::*;

fn agent(id: &'static str) -> (&'static str, &'static str, Value) {
    (id, "agent", json!({ "prompt": "count them" }))
}

#[tokio::test]
async fn an_agent_and_the_turn_that_waits_for_it_both_go_on() {
    let world = World::new(Vec::new()).await;
    let (mut gate, command) = world.gate();
    world.endpoint.then(calls(&[agent("a")]));
    world.endpoint.then(calls(&[("c", "bash", command)]));
    world.endpoint.then(says("seven"));
    world.endpoint.then(says("they say seven"));
    let server = world.serve().await;
    let task = started(&server, v1::CreateSessionRequest::default()).await;
    lines_of(&world.ran(), 1).await;
    server.kill().await;
    let server = world.serve().await;
    gate.open();
    let task = ended(&server, &task.background_id).await;
    let events = log(&server, &task.session_id).await;
    assert_eq!(task.state(), v1::State::Succeeded, "{:?}", short(&events));
    assert_eq!(idle(&events).final_text, "they say seven");
    assert_eq!(idle(&events).usage.expect("usage").requests, 4, "the agent's are counted once");
    assert_eq!(world.endpoint.messages(2)[3]["content"], "out\n");
    assert_eq!(world.endpoint.messages(3)[3]["content"], "seven");
    assert_eq!(lines_of(&world.ran(), 1).await, ["ran"], "it ran once");
    let answer = server.connect().tools.list_sessions(v1::ListSessionsRequest::default()).await;
    let states: Vec<_> =
        answer.expect("a list").into_inner().sessions.iter().map(|s| s.state()).collect();
    assert_eq!(states, [v1::SessionState::Closed, v1::SessionState::Open]);
    crate::history::check_everything(&server.connect(), 1).await;
}

#[tokio::test]
async fn an_agent_whose_caller_is_cancelled_after_a_restart_ends_with_it() {
    let mut world = World::new(vec![calls(&[agent("a")]), begins(), begins(), begins()]).await;
    // The call of the agent is parked, so the turn goes on without it.
    world.flags.extend(["--call-budget".into(), "50ms".into()]);
    let server = world.serve().await;
    let task = started(&server, v1::CreateSessionRequest::default()).await;
    world.endpoint.asked(3).await;
    server.kill().await;
    let server = world.serve().await;
    world.endpoint.asked(4).await;
    let events = log(&server, &task.session_id).await;
    let parked = events.iter().find_map(|event| match &event.payload {
        Some(Payload::ToolCallParked(parked)) if parked.background_id != task.background_id => {
            Some(parked.background_id.clone())
        }
        _ => None,
    });
    let background_id = parked.expect("a parked agent");
    let cancel = v1::CancelRequest { background_id: background_id.clone(), ..Default::default() };
    soon("a cancel", server.connect().tasks.cancel(cancel)).await.expect("an answer");
    assert_eq!(ended(&server, &background_id).await.state(), v1::State::Cancelled);
    let answer = server.connect().tools.list_sessions(v1::ListSessionsRequest::default()).await;
    let sessions = answer.expect("a list").into_inner().sessions;
    let inner: Vec<_> =
        sessions.iter().filter(|session| session.session_id != task.session_id).collect();
    assert_eq!(inner.len(), 1);
    assert_eq!((inner[0].state(), inner[0].live_tasks), (v1::SessionState::Closed, 0));
}
