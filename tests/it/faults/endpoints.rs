//! A client with several addresses: calls and streams go on while addresses go and come back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use callpark_client::{
    Client, ClientOptions, Origin, RunTool, SessionItem, TokenSource, WaitLimit, WatchItem,
};
use callpark_proto::v1::session_event::Payload;
use futures::StreamExt as _;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::support::link::Link;
use crate::support::streams::{close, log_of, new_session, sequences, task};
use crate::support::{TestServer, soon, v1};

fn options(token: &str, endpoints: &[&str]) -> ClientOptions {
    ClientOptions::default()
        .with_endpoints(endpoints.iter().copied())
        .with_token(TokenSource::Value(token.to_owned().into()))
}

fn client(token: &str, endpoints: &[&str]) -> Client {
    Client::new(options(token, endpoints)).expect("a client")
}

/// One server at two addresses.
async fn two_links(server: &TestServer) -> ([Link; 2], Client) {
    let links = [Link::start(&server.endpoint).await, Link::start(&server.endpoint).await];
    let client = client(server.token(), &[&links[0].endpoint, &links[1].endpoint]);
    (links, client)
}

/// Returns the number of sessions of a server.
async fn sessions(server: &TestServer) -> usize {
    let client = client(server.token(), &[&server.endpoint]);
    let (mut count, mut page_token) = (0, String::new());
    loop {
        let request = v1::ListSessionsRequest { page_token, ..Default::default() };
        let page = soon("a page", client.sessions().list(request)).await.expect("a page");
        count += page.sessions.len();
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return count;
        }
    }
}

async fn create(client: &Client) {
    let request = v1::CreateSessionRequest::default();
    soon("a session", client.sessions().create(request)).await.expect("created");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_get_the_same_share_of_the_calls() {
    let first = TestServer::start().await;
    let token_file = first.folder().join("token").display().to_string();
    let second = TestServer::with(&[("token-file", &token_file)]).await;
    let client = client(first.token(), &[&first.endpoint, &second.endpoint]);
    // The connection that is not the first one comes soon, but later.
    let mut before = [0, 0];
    while before.contains(&0) {
        create(&client).await;
        before = [sessions(&first).await, sessions(&second).await];
    }
    for _ in 0..100 {
        create(&client).await;
    }
    let after = [sessions(&first).await, sessions(&second).await];
    assert_eq!([after[0] - before[0], after[1] - before[1]], [50, 50]);
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_no_call_fails_or_waits_when_an_address_goes_away() {
    const WORKERS: usize = 8;
    const CALLS: usize = 100;
    let server = TestServer::start().await;
    let (links, client) = two_links(&server).await;
    let (done, mut dones) = mpsc::channel(WORKERS);
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS {
        let (client, done) = (client.clone(), done.clone());
        workers.spawn(async move {
            for _ in 0..CALLS {
                let began = Instant::now();
                create(&client).await;
                done.send(began.elapsed()).await.expect("somebody counts");
            }
        });
    }
    drop(done);
    let (mut count, mut longest) = (0, Duration::ZERO);
    while let Some(time) = soon("a call", dones.recv()).await {
        (count, longest) = (count + 1, longest.max(time));
        let link = &links[count / 200 % 2];
        match count % 200 {
            50 => link.cut().await,
            150 => link.mend().await,
            _ => {}
        }
    }
    while let Some(worker) = workers.join_next().await {
        worker.expect("no call failed");
    }
    println!("the longest of {count} calls took {longest:?}");
    // The time that a connection may take is 5 s, and a silent one is given up after 30 s.
    assert!(longest < Duration::from_secs(3), "{longest:?}");
    assert_eq!((count, sessions(&server).await), (WORKERS * CALLS, WORKERS * CALLS));
    // Each address was cut twice, and was used again after each time.
    assert!(links.iter().all(|link| link.accepted() >= 2));
}

/// Cuts each link in turn after so many events, and mends the one before. Returns the events that are
/// left when the stream has ended.
async fn followed_over_cuts(
    mut stream: impl futures::Stream<Item = Result<SessionItem, callpark_client::Error>> + Unpin,
    links: &[Link; 2],
    every: usize,
) -> (Vec<v1::SessionEvent>, usize) {
    let (mut events, mut resumed, mut cut) = (Vec::new(), 0, None::<usize>);
    while let Some(item) = soon("an item", stream.next()).await {
        match item.expect("no error") {
            SessionItem::Event(event) => events.push(*event),
            SessionItem::Resumed { .. } => resumed += 1,
            item @ (SessionItem::Gap { .. } | SessionItem::EpochChanged { .. }) => {
                panic!("{item:?}")
            }
            _ => continue,
        }
        if events.len() / every > cut.map_or(0, |cut| cut + 1) {
            let number = cut.map_or(0, |cut| cut + 1);
            if cut.is_some() {
                links[(number + 1) % 2].mend().await;
            }
            links[number % 2].cut().await;
            cut = Some(number);
        }
    }
    (events, resumed)
}

const TALK: &str = "for i in $(seq 150); do echo line $i; sleep 0.01; done";

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_a_session_is_whole_while_its_addresses_go_and_come() {
    let server = TestServer::start().await;
    let (links, client) = two_links(&server).await;
    let session_id = new_session(&server).await;
    let request = v1::StreamSessionRequest { session_id: session_id.clone(), ..Default::default() };
    let stream = client.sessions().events(request);
    let talk = async {
        let task = task(&server, &session_id, TALK).await;
        crate::support::streams::ended(&server, &task.background_id).await;
        close(&server, &session_id).await;
    };
    let (((events, resumed), ()), log) = {
        let both = tokio::join!(followed_over_cuts(stream, &links, 4), talk);
        (both, log_of(&server, &session_id).await)
    };
    assert_eq!(sequences(&events), (1..=log.len() as i64).collect::<Vec<_>>());
    assert!(events == log, "not the log");
    assert!(resumed >= 3, "resumed {resumed} times");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_a_call_attaches_to_the_same_call_at_another_address() {
    let server = TestServer::start().await;
    let (links, client) = two_links(&server).await;
    let session_id = new_session(&server).await;
    let file = server.folder().join("runs");
    let command = format!("echo run >> {}; {TALK}", file.display());
    let call = RunTool::new("bash")
        .arguments(json!({ "command": command }))
        .expect("arguments")
        .session_id(&session_id);
    // A call is parked when its connection is lost: its stream ends with that.
    let stream = client.tools().stream(call);
    let (events, resumed) = followed_over_cuts(stream, &links, 6).await;
    assert_eq!((sequences(&events), resumed), ((1..=events.len() as i64).collect(), 1));
    let Some(Payload::ToolCallParked(parked)) = events.last().and_then(|last| last.payload.clone())
    else {
        panic!("{events:?}")
    };
    let log = log_of(&server, &session_id).await;
    assert!(log.starts_with(&events), "not the log");
    let task = client.tasks().handle(parked.background_id);
    let answer = soon("the end", task.wait(WaitLimit::Unbounded)).await.expect("an answer");
    assert_eq!(answer.task.unwrap_or_default().state(), v1::State::Succeeded);
    assert_eq!(std::fs::read_to_string(file).expect("written"), "run\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_resumes_at_another_address() {
    let server = TestServer::start().await;
    let (links, client) = two_links(&server).await;
    let session_id = new_session(&server).await;
    let request = v1::WatchRequest { session_id: session_id.clone(), watch_sequence: Some(0) };
    let mut watch = client.tasks().watch(request);
    let (mut ended, mut newest) = (0, 0);
    for number in 0..6 {
        let id = task(&server, &session_id, "true").await.background_id;
        while ended == number {
            let item = soon("a change", watch.next()).await.expect("no end").expect("no error");
            let WatchItem::Changed { tasks, watch_sequence } = item else { continue };
            assert!(watch_sequence > newest, "{watch_sequence} after {newest}");
            newest = watch_sequence;
            let has_ended = |task: &v1::Task| task.state() == v1::State::Succeeded;
            ended +=
                tasks.iter().filter(|task| task.background_id == id && has_ended(task)).count();
        }
        links[(number + 1) % 2].mend().await;
        links[number % 2].cut().await;
    }
    assert_eq!(ended, 6);
    // The first cut may be that of the other address, and nothing is read after the last one.
    assert!(watch.attempts() >= 5, "{} attempts", watch.attempts());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_takes_connections_and_ends_them_is_passed_over() {
    let server = TestServer::start().await;
    let mut behind = TestServer::start().await;
    let dead = Arc::new(Link::start(&behind.endpoint).await);
    behind.stop().await;
    let options = options(server.token(), &[&dead.endpoint, &server.endpoint]);
    let client = Client::new(options.with_start_attempts(3)).expect("a client");
    let began = Instant::now();
    for _ in 0..300 {
        create(&client).await;
    }
    let taken = (dead.accepted(), began.elapsed());
    // The delay between two connections grows from 0.1 s to 10 s.
    assert!(taken.0 <= 12 + taken.1.as_secs() as usize / 5, "{taken:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_all_addresses_are_dead_one_error_names_each() {
    let server = TestServer::start().await;
    let (links, _) = two_links(&server).await;
    let socket = server.folder().join("no.sock").display().to_string();
    for link in &links {
        link.cut().await;
    }
    let endpoints = [&links[0].endpoint, &links[1].endpoint, &format!("unix:{socket}")];
    let client = client(server.token(), &endpoints.map(|endpoint| endpoint.as_str()));
    let error = soon("an error", client.tools().list()).await.expect_err("nobody is there");
    assert_eq!((error.origin(), error.attempts()), (Origin::Transport, 5));
    let text = error.to_string();
    assert!(
        text.contains("none of 3 endpoints can be reached (UNAVAILABLE, 5 attempts)"),
        "{text}"
    );
    for link in &links {
        let part = format!("; {}: tcp connect error: Connection refused", link.endpoint);
        assert!(text.contains(&part), "{text}");
    }
    let part = format!("; unix:{socket}: {socket}: No such file or directory");
    assert!(text.contains(&part) && !text.contains('\n'), "{text}");

    links[1].mend().await;
    soon("an answer", client.tools().list()).await.expect("answered");
}
