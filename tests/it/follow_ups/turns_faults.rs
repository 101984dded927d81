//! Agents that fail during a delivery, and follow-ups that cannot be delivered.

use super::*;
use crate::support::streams::{ended, log_of, new_session};
use crate::turns::{Endpoint, Script, config, prompt, says, short, turn};

fn refuses() -> Script {
    Script::Status(400, Vec::new(), "{\"error\":{\"message\":\"no\"}}".into())
}

async fn serve(endpoint: &Endpoint) -> TestServer {
    TestServer::with_config(&config(endpoint, ""), &QUICK).await
}

async fn agent_session(server: &TestServer, endpoint: &Endpoint) -> String {
    let session = new_session(server).await;
    endpoint.then(says("hello"));
    assert_eq!(turn(server, prompt(&session, "hi")).await.final_text, "hello");
    session
}

#[tokio::test]
async fn a_turn_that_fails_is_tried_again_and_leaves_nothing_in_the_history() {
    let endpoint = Endpoint::new(vec![]).await;
    let server = serve(&endpoint).await;
    let session = agent_session(&server, &endpoint).await;
    for _ in 0..3 {
        endpoint.then(refuses());
    }
    endpoint.then(says("noted"));
    followed(&server, &session, "echo x").await;
    let events = until(&server, &session, 1, State::Delivered).await;
    let events = story(&events);
    assert_eq!(events[events.len() - 3..], ["PENDING 3", "started 4", "DELIVERED 4"]);
    let follow_up = list(&server, &session).await.remove(0);
    let error = follow_up.last_error.expect("an error");
    assert!(error.message.starts_with("model_request_refused: "), "{error:?}");
    endpoint.then(says("yes"));
    turn(&server, prompt(&session, "well?")).await;
    let requests = endpoint.requests().len();
    let said: Vec<String> = endpoint
        .messages(requests - 1)
        .iter()
        .filter(|message| message["role"] == "assistant")
        .map(|message| message["content"].as_str().unwrap_or_default().to_owned())
        .collect();
    // Two messages of the model in a row are sent as one.
    assert_eq!(said, ["hello\n\nnoted"]);
}

#[tokio::test]
async fn an_undeliverable_follow_up_is_given_up() {
    let endpoint = Endpoint::new(vec![]).await;
    let server = serve(&endpoint).await;
    let session = agent_session(&server, &endpoint).await;
    for _ in 0..10 {
        endpoint.then(refuses());
    }
    followed(&server, &session, "echo x").await;
    until(&server, &session, 1, State::DeadLettered).await;
    let dead = list(&server, &session).await.remove(0);
    assert_eq!((dead.state(), dead.attempt), (State::DeadLettered, 10));
    assert!(dead.reason.contains("after 10 attempts"), "{}", dead.reason);
    let request =
        v1::RetryFollowUpRequest { follow_up_id: dead.follow_up_id, ..Default::default() };
    endpoint.then(says("noted at last"));
    server.tasks.clone().retry_follow_up(request).await.expect("brought back");
    until(&server, &session, 1, State::Delivered).await;
}

/// A follow-up that fails in a batch is tried alone: a bad one costs the others one attempt, and no
/// more.
#[tokio::test]
async fn a_bad_one_does_not_hold_up_the_others() {
    let endpoint = Endpoint::new(vec![]).await;
    let server = serve(&endpoint).await;
    let session = agent_session(&server, &endpoint).await;
    // The session is busy while three end, so that they are delivered together.
    let busy = std::sync::Arc::new(tokio::sync::Notify::new());
    endpoint.then(Script::Stream(vec![
        crate::turns::Piece::Text("bye".into()),
        crate::turns::Piece::Wait(busy.clone()),
        crate::turns::Piece::Finish("stop"),
    ]));
    let running = turn(&server, prompt(&session, "wait"));
    let meanwhile = async {
        endpoint.asked(2).await;
        for number in 0..3 {
            let id = followed(&server, &session, &format!("echo result {number}")).await;
            ended(&server, &id).await;
        }
        // All together, and then one alone that stays bad.
        endpoint.then(refuses());
        endpoint.then(refuses());
        for _ in 0..3 {
            endpoint.then(says("noted"));
        }
        busy.notify_one();
    };
    tokio::join!(running, meanwhile);
    until(&server, &session, 3, State::Delivered).await;
    let sizes: Vec<usize> = (2..endpoint.requests().len())
        .map(|request| {
            let messages = endpoint.messages(request);
            let text = messages.last().expect("a message")["content"].to_string();
            text.matches("<callpark-data ").count()
        })
        .collect();
    assert_eq!(sizes, [3, 1, 1, 1, 1]);
}

#[tokio::test]
async fn an_unreadable_record_is_left_alone_and_the_others_are_delivered() {
    let endpoint = Endpoint::new(vec![]).await;
    let mut server = serve(&endpoint).await;
    let session = agent_session(&server, &endpoint).await;
    // The first is in delivery until the server stops, and the others wait.
    let mut ids = Vec::new();
    endpoint.then(Script::Stream(vec![crate::turns::Piece::Hang]));
    for number in 0..3 {
        let id = followed(&server, &session, &format!("echo result {number}")).await;
        ended(&server, &id).await;
        ids.push(id);
        endpoint.asked(2).await;
    }
    server.stop().await;
    let path = server.folder().join("callpark.db");
    let store = rusqlite::Connection::open(path).expect("the store");
    let digits = ids[1].trim_start_matches("bg-");
    let spoil = format!(
        "UPDATE follow_up_tasks SET body = '{{' WHERE key =
             (SELECT key FROM follow_ups WHERE call_id = x'{digits}')"
    );
    assert_eq!(store.execute(&spoil, []).expect("spoiled"), 1);
    drop(store);
    // The requests from before the stop are never answered.
    let endpoint_requests = endpoint.requests().len();
    let server = server.restart().await;
    for _ in 0..12 {
        endpoint.then(says("noted"));
    }
    until(&server, &session, 2, State::Delivered).await;
    assert!(endpoint.requests().len() > endpoint_requests);
    until(&server, &session, 1, State::DeadLettered).await;
    let log = log_of(&server, &session).await;
    assert!(short(&log).iter().any(|line| line.contains("noted")));
    let readable = list(&server, &session).await;
    assert_eq!(readable.len(), 2, "the third can't be shown");
}
