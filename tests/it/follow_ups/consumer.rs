//! The client's consumer of follow-ups, with a real server.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use callpark_client::{Client, ClientOptions, TokenSource};
use tokio::sync::Notify;

use super::*;
use crate::support::streams::new_session;

/// Shorter than the slow handler takes: it is renewed, or handed out again.
const LEASE: Duration = Duration::from_millis(600);
const SLOW: Duration = Duration::from_millis(1_500);

fn client(server: &TestServer) -> Client {
    let options = ClientOptions::new(server.endpoint.clone())
        .with_token(TokenSource::File(server.folder().join("token")));
    Client::new(options).expect("a client")
}

#[tokio::test]
async fn a_handler_is_given_each_until_it_has_succeeded_once() {
    let server = TestServer::with(&QUICK).await;
    let session = new_session(&server).await;
    let mut ids = HashMap::new();
    for what in ["plain", "fails once", "slow", "also plain"] {
        let id = followed(&server, &session, &format!("echo {what}")).await;
        ids.insert(follow_up_of(&id), what);
    }
    let (tries, succeeded, all) = (Mutex::new(HashMap::new()), Mutex::new(0), Notify::new());
    let handle = async |follow_up: v1::FollowUp| {
        let what = ids[&follow_up.dedupe_key];
        assert!(follow_up.message.contains(&format!("\n{what}\n")), "{}", follow_up.message);
        let tried = {
            let mut tries = tries.lock().expect("a lock");
            *tries.entry(what).and_modify(|count| *count += 1).or_insert(1)
        };
        match what {
            "fails once" if tried == 1 => return Err("not yet"),
            // As long as the work takes.
            "slow" => tokio::time::sleep(SLOW).await,
            _ => {}
        }
        let mut succeeded = succeeded.lock().expect("a lock");
        *succeeded += 1;
        if *succeeded == ids.len() {
            all.notify_one();
        }
        Ok(())
    };
    let consumer =
        client(&server).follow_ups().consumer().session_id(&session).lease_duration(LEASE);
    let done = soon("the consumer", consumer.for_each_concurrent(2, all.notified(), handle)).await;
    let done = done.expect("no error");
    assert_eq!((done.delivered, done.failed, done.expired), (4, 1, 0), "{done:?}");
    for follow_up in list(&server, &session).await {
        assert_eq!(follow_up.state(), State::Delivered, "{follow_up:?}");
        let attempts = if ids[&follow_up.follow_up_id] == "fails once" { 2 } else { 1 };
        assert_eq!(follow_up.attempt, attempts, "{follow_up:?}");
    }
}

#[tokio::test]
async fn the_leases_of_a_stopped_consumer_are_available_at_once() {
    let server = TestServer::with(&QUICK).await;
    let session = new_session(&server).await;
    let id = followed(&server, &session, "true").await;
    let begun = Notify::new();
    let handle = async |_| {
        begun.notify_one();
        std::future::pending::<Result<(), &str>>().await
    };
    let consumer = client(&server).follow_ups().consumer().finish_within(Duration::ZERO);
    let done =
        soon("the consumer", consumer.for_each_concurrent(1, begun.notified(), handle)).await;
    assert_eq!(done.expect("no error").released, 1);
    let lease = leased(&server, &session).await;
    assert_eq!(
        (record(&lease).follow_up_id.as_str(), record(&lease).attempt),
        (&*follow_up_of(&id), 1)
    );
}
