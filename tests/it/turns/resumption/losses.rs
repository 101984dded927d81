//! Turns with which no server can go on.

use super::*;

/// The state and the reason of a turn, and its message.
#[track_caller]
fn loss(task: &v1::Task) -> (v1::State, String) {
    let message = match &task.outcome {
        Some(v1::task::Outcome::Error(error)) => error.message.clone(),
        other => panic!("no error but {other:?}"),
    };
    (task.state(), format!("{}: {message}", task.reason))
}

#[tokio::test]
async fn three_resumptions_without_a_new_message_are_enough() {
    let world = World::new(vec![begins(), begins(), begins(), begins()]).await;
    let mut server = world.serve().await;
    let task = started(&server, v1::CreateSessionRequest::default()).await;
    for number in 1..=4 {
        world.endpoint.asked(number).await;
        server.kill().await;
        server = world.serve().await;
    }
    let task = ended(&server, &task.background_id).await;
    let (state, words) = loss(&task);
    assert_eq!(state, v1::State::Lost);
    assert!(words.contains("resumed several times without a new message"), "{words}");
    let events = log(&server, &task.session_id).await;
    let resumed = events.iter().filter_map(|event| match &event.payload {
        Some(Payload::TurnResumed(resumed)) => Some(resumed.resumption),
        _ => None,
    });
    assert_eq!(resumed.collect::<Vec<_>>(), [1, 2, 3]);
    crate::history::check_everything(&server.connect(), 4).await;
}

#[tokio::test]
async fn a_message_and_a_stop_in_good_order_are_progress() {
    let say = |id: &'static str| calls(&[(id, "bash", json!({ "command": "true" }))]);
    let mut scripts = vec![say("a"), begins(), begins(), say("b"), begins(), begins()];
    scripts.extend([begins(), begins(), says("done")]);
    let world = World::new(scripts).await;
    let mut server = world.serve().await;
    let task = started(&server, v1::CreateSessionRequest::default()).await;
    // Each time while the model answers: twice without progress, and then behind a message.
    for number in [2, 3, 5, 6] {
        world.endpoint.asked(number).await;
        server.kill().await;
        server = world.serve().await;
    }
    for number in [7, 8] {
        world.endpoint.asked(number).await;
        server.terminate().await;
        server = world.serve().await;
    }
    let task = ended(&server, &task.background_id).await;
    assert_eq!(task.state(), v1::State::Succeeded, "{task:?}");
    let shown = world.endpoint.messages(8);
    let roles: Vec<&str> = shown.iter().filter_map(|m| m["role"].as_str()).collect();
    assert_eq!(roles, ["system", "user", "assistant", "tool", "assistant", "tool"]);
    let events = log(&server, &task.session_id).await;
    assert_eq!(idle(&events).usage.expect("usage").requests, 3);
    crate::history::check_everything(&server.connect(), 6).await;
}

#[tokio::test]
async fn a_session_may_rather_lose_its_turns() {
    let world = World::new(vec![begins()]).await;
    let server = world.serve().await;
    let request =
        v1::CreateSessionRequest { on_restart: v1::OnRestart::Lose.into(), ..Default::default() };
    let task = started(&server, request).await;
    until(&server, &task.session_id, is_delta).await;
    server.kill().await;
    let server = world.serve().await;
    let (state, words) = loss(&ended(&server, &task.background_id).await);
    assert_eq!(state, v1::State::Lost);
    assert!(words.contains("on_restart"), "{words}");

    // The setting is shown, and can be changed.
    let request = v1::GetSessionRequest { session_id: task.session_id.clone() };
    let shown = soon("a session", server.connect().tools.get_session(request)).await;
    let shown = shown.expect("an answer").into_inner().session.expect("a session");
    assert_eq!(shown.on_restart(), v1::OnRestart::Lose);
    let request = v1::UpdateSessionRequest {
        session: Some(v1::Session { on_restart: v1::OnRestart::Resume.into(), ..shown }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["on_restart".into()] }),
        ..Default::default()
    };
    let updated = soon("an update", server.connect().tools.update_session(request)).await;
    let updated = updated.expect("an answer").into_inner().session.expect("a session");
    assert_eq!(updated.on_restart(), v1::OnRestart::Resume);
    assert_eq!(world.endpoint.requests().len(), 1);
}

#[tokio::test]
async fn a_turn_whose_model_is_gone_is_lost() {
    let mut world = World::new(vec![begins()]).await;
    let server = world.serve().await;
    let task = started(&server, v1::CreateSessionRequest::default()).await;
    until(&server, &task.session_id, is_delta).await;
    server.kill().await;
    let other = config(&world.endpoint, "").replace("'main'", "'other'");
    world.config = world.site.write("other.toml", &other).display().to_string();
    let server = world.serve().await;
    let (state, words) = loss(&ended(&server, &task.background_id).await);
    assert_eq!(state, v1::State::Lost);
    assert!(words.contains("no longer configured"), "{words}");
}

#[tokio::test]
async fn a_server_that_stops_its_runs_ends_its_turns() {
    let mut world = World::new(vec![begins()]).await;
    world.flags.push("--stop-runs".into());
    let server = world.serve().await;
    let task = started(&server, v1::CreateSessionRequest::default()).await;
    until(&server, &task.session_id, is_delta).await;
    server.terminate().await;
    let server = world.serve().await;
    let (state, words) = loss(&ended(&server, &task.background_id).await);
    assert_eq!(state, v1::State::Lost);
    assert!(words.contains("stopped with its runs"), "{words}");
}
