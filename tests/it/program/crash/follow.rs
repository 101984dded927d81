//! `kill -9` of the server, again and again, under clients that go on as if nothing had happened.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use callpark_client::{Client, ClientOptions, SessionItem, TokenSource, WaitLimit};
use futures::StreamExt as _;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use v1::session_event::Payload;

use crate::support::program::{Program, Site};
use crate::support::proofs::proof;
use crate::support::waiting::{call, start_of};
use crate::support::{seed, soon, v1};

/// Calls that are under way at the same time.
const STARTERS: usize = 3;
/// Events that a life of the server gives at least: those of the task that each kill waits for.
const EVENTS_OF_A_LIFE: usize = 5;

/// Returns the number of kills.
fn kills() -> u32 {
    proof(20, 6)
}

/// A client that retries often enough for all starts of a server on a busy machine.
fn client(site: &Site, server: &Program) -> Client {
    let options = ClientOptions::new(server.endpoint.clone())
        .with_token(TokenSource::File(site.data().join("token")))
        .with_start_attempts(1_000)
        .with_resume_attempts(1_000)
        .with_backoff(Duration::from_millis(5))
        .with_backoff_max(Duration::from_millis(50));
    Client::new(options).expect("a client")
}

/// Follows the session to its end: its events.
async fn follow(client: Client, session_id: String) -> Vec<v1::SessionEvent> {
    let request = v1::StreamSessionRequest { session_id, ..Default::default() };
    let mut stream = client.sessions().events(request);
    let (mut events, mut resumed) = (Vec::new(), 0);
    while let Some(item) = soon("an item", stream.next()).await {
        match item.expect("no error") {
            SessionItem::Event(event) => events.push(*event),
            SessionItem::Resumed { .. } => resumed += 1,
            item @ (SessionItem::Gap { .. } | SessionItem::EpochChanged { .. }) => {
                panic!("{item:?}")
            }
            _ => {}
        }
    }
    println!("resumed {resumed} times, {} events came twice", stream.duplicates());
    assert!(resumed >= kills() / 2, "too few cuts");
    events
}

/// Starts one task after the other and waits for each: what their ids are, by their marks.
async fn start(
    client: Client,
    session_id: String,
    starter: usize,
    enough: CancellationToken,
    ends: watch::Sender<usize>,
) -> BTreeMap<String, String> {
    let mut started = BTreeMap::new();
    while !enough.is_cancelled() {
        let mark = format!("mark-{starter}-{}", started.len());
        let command = json!({ "command": "for i in 1 2 3 4; do echo $i; sleep 0.02; done" });
        let request = v1::RunToolRequest {
            session_id: session_id.clone(),
            description: mark.clone(),
            ..call("bash", command)
        };
        let answer =
            soon("a start", client.tasks().start(start_of(request))).await.expect("a task");
        let task = answer.task.expect("a task");
        let end =
            soon("an end", client.tasks().handle(&task.background_id).wait(WaitLimit::Unbounded))
                .await;
        let state = end.expect("an end").task.expect("a task").state();
        assert!(matches!(state, v1::State::Succeeded | v1::State::Lost), "{state:?}");
        started.insert(mark, task.call_id);
        ends.send_modify(|count| *count += 1);
    }
    started
}

#[tokio::test]
async fn a_follower_has_the_whole_log_and_each_start_one_call_over_many_kills() {
    let mut random = StdRng::seed_from_u64(seed());
    let site = Site::new();
    let mut server = site.serve(&[]).await;
    let address = server.endpoint.trim_start_matches("http://").to_owned();
    let client = client(&site, &server);
    let session = client.sessions().create(v1::CreateSessionRequest::default()).await;
    let session_id = session.expect("a session").session.expect("a session").session_id;
    let tasks = TaskTracker::new();
    let follower = tasks.spawn(follow(client.clone(), session_id.clone()));
    let (enough, ends) = (CancellationToken::new(), watch::Sender::new(0));
    let starters: Vec<JoinHandle<_>> = (0..STARTERS)
        .map(|number| {
            let (client, session_id) = (client.clone(), session_id.clone());
            tasks.spawn(start(client, session_id, number, enough.clone(), ends.clone()))
        })
        .collect();
    for _ in 0..kills() {
        // However busy the machine is, each kill meets work.
        let seen = *ends.borrow();
        let mut ended = ends.subscribe();
        soon("the end of a task", ended.wait_for(|count| *count > seen)).await.expect("starters");
        // The moment is the subject of the test.
        tokio::time::sleep(Duration::from_millis(random.random_range(50..400))).await;
        server.kill().await;
        server = site.serve(&["--listen", &address]).await;
    }
    enough.cancel();
    let mut started = BTreeMap::new();
    for starter in starters {
        started.extend(soon("a starter", starter).await.expect("no panic"));
    }
    let request = v1::CloseSessionRequest { session_id: session_id.clone(), ..Default::default() };
    soon("a close", client.sessions().close(request)).await.expect("closed");
    let events = soon("the follower", follower).await.expect("no panic");

    let request =
        v1::StreamSessionRequest { session_id, follow: Some(false), ..Default::default() };
    let log = client.sessions().events(request).filter_map(|item| async {
        match item.expect("no error") {
            SessionItem::Event(event) => Some(*event),
            _ => None,
        }
    });
    let log: Vec<_> = soon("the log", log.collect()).await;
    assert!(events == log, "the follower has {} of {} events", events.len(), log.len());
    let enough_events = kills() as usize * EVENTS_OF_A_LIFE;
    assert!(log.len() > enough_events, "{} events are too few", log.len());
    let mut calls = BTreeMap::<String, BTreeSet<String>>::new();
    for event in log {
        if let Some(Payload::ToolCallAccepted(accepted)) = event.payload {
            calls.entry(accepted.description).or_default().insert(event.call_id);
        }
    }
    let started: BTreeMap<_, _> =
        started.into_iter().map(|(mark, call)| (mark, BTreeSet::from([call]))).collect();
    assert_eq!(calls, started, "a call for each start, and the one that its caller got");
}
