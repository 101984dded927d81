//! Connections that are cut after any number of bytes: the client's log is whole all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use callpark::model::{Progress, Tool, ToolKind, ToolResult, ToolSource};
use callpark::tool::{
    ArgumentError, Arguments, CallContext, CallableTool, InProcess, ToolContext, Work,
};
use callpark_client::{Client, ClientOptions, SessionItem, TokenSource};
use futures::StreamExt as _;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;

use crate::support::proofs::proof;
use crate::support::proxy::{Fate, Proxy};
use crate::support::streams::{close, log_of, sequences};
use crate::support::waiting::{call, ended, session, start, start_of};
use crate::support::{TestServer, bash, seed, soon, v1};

const EVENTS: i64 = 10_000;
/// A log of so many events has about 180 bytes an event, so that even 200 of the longest
/// connections carry less than all of it.
const LENGTH_MAX: usize = 8_000;

/// Reports progress as often as its number says.
struct Talk {
    tool: Tool,
}

struct Talking(u32);

impl CallableTool for Talk {
    fn describe(&self) -> &Tool {
        &self.tool
    }

    fn prepare(
        &self,
        arguments: &Arguments,
        _context: &CallContext,
    ) -> Result<Work, Vec<ArgumentError>> {
        let reports = arguments.get("reports").and_then(serde_json::Value::as_f64);
        Ok(Work::InProcess(Box::new(Talking(reports.map_or(0, |reports| reports as u32)))))
    }
}

#[async_trait]
impl InProcess for Talking {
    async fn run(self: Box<Self>, context: ToolContext) -> ToolResult {
        for done in 1..=self.0 {
            let report = Progress { done: f64::from(done), total: None, message: String::new() };
            context.progress(report).await;
        }
        ToolResult::default()
    }
}

async fn server() -> TestServer {
    let schema = json!({ "type": "object" });
    let tool = Tool {
        read_only: true,
        idempotent: true,
        ..Tool::new("talk", "Reports progress.", schema, ToolKind::BuiltIn, ToolSource::BuiltIn)
    };
    TestServer::with_tools(vec![Arc::new(Talk { tool })]).await
}

/// A proxy that cuts after a random number of bytes, from none to more than a few messages, and
/// now and then within the first ones. Some connections it stalls, throttles or closes by half.
async fn proxy(server: &TestServer, damaged_max: usize, length_max: usize) -> Proxy {
    let mut random = StdRng::seed_from_u64(seed());
    let fate = move || {
        let length = match random.random_range(0..8) {
            0 => random.random_range(0..200),
            _ => random.random_range(0..length_max),
        };
        match random.random_range(0..40) {
            0 => Fate::Stall(length),
            1..4 => Fate::HalfClose(length),
            _ => Fate::CutDown(length),
        }
    };
    Proxy::start(&server.endpoint, damaged_max, Box::new(fate)).await
}

fn client(server: &TestServer, proxy: &Proxy) -> Client {
    let options = ClientOptions::new(proxy.endpoint.clone())
        .with_token(TokenSource::Value(server.token().to_owned().into()))
        .with_start_attempts(1_000)
        .with_resume_attempts(1_000)
        .with_backoff(Duration::from_millis(1))
        .with_backoff_max(Duration::from_millis(2))
        // What is stalled is found by this.
        .with_keepalive_interval(Duration::from_millis(200))
        .with_keepalive_timeout(Duration::from_millis(200));
    Client::new(options).expect("a client")
}

/// Follows a session to its end: its events.
async fn follow(client: &Client, session_id: &str) -> Vec<v1::SessionEvent> {
    let request = v1::StreamSessionRequest { session_id: session_id.into(), ..Default::default() };
    let mut stream = client.sessions().events(request);
    let mut events = Vec::new();
    while let Some(item) = soon("an item", stream.next()).await {
        match item.expect("no error") {
            SessionItem::Event(event) => events.push(*event),
            item @ (SessionItem::Gap { .. } | SessionItem::EpochChanged { .. }) => {
                panic!("{item:?}")
            }
            _ => {}
        }
    }
    println!("{} tries, {} events came twice", stream.attempts(), stream.duplicates());
    events
}

/// Makes a log of so many events, the shutdown included.
async fn talk(server: &TestServer, session_id: &str) {
    let reports = EVENTS - 5;
    let request = v1::RunToolRequest {
        session_id: session_id.into(),
        ..call("talk", json!({ "reports": reports }))
    };
    let task = start(server, start_of(request)).await;
    assert_eq!(ended(server, &task.background_id).await.state(), v1::State::Succeeded);
    close(server, session_id).await;
}

/// The events that a client has seen are those of the log, each once.
async fn check(server: &TestServer, session_id: &str, events: &[v1::SessionEvent]) {
    assert_eq!(sequences(events), (1..=EVENTS).collect::<Vec<_>>());
    assert!(events == log_of(server, session_id).await, "not the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_many_cuts_a_log_comes_whole_live_and_in_a_replay() {
    let server = server().await;
    let session_id = session(&server, Default::default()).await;
    let cuts = proof(200, 30);
    let live = proxy(&server, cuts, LENGTH_MAX).await;
    let client_of_live = client(&server, &live);
    let events = follow(&client_of_live, &session_id);
    let (events, ()) = tokio::join!(events, talk(&server, &session_id));
    check(&server, &session_id, &events).await;
    let replay = proxy(&server, cuts, LENGTH_MAX).await;
    let events = follow(&client(&server, &replay), &session_id).await;
    check(&server, &session_id, &events).await;
    let damaged = (live.damaged(), replay.damaged());
    assert_eq!(damaged, (cuts, cuts), "the log was longer than what was cut");
}

#[tokio::test(flavor = "multi_thread")]
async fn output_that_is_read_over_cuts_comes_whole() {
    const NUMBERS: usize = 60_000;
    let server = server().await;
    let request = bash(&format!("seq 1 {NUMBERS}"));
    let id = start(&server, start_of(request)).await.background_id;
    let proxy = proxy(&server, 50, 12_000).await;
    let parked = client(&server, &proxy).tasks().handle(&id);
    let options = callpark_client::OutputOptions::new().with_chunk_bytes_max(4_096);
    let mut output = parked.output(options);
    let mut all = Vec::new();
    while let Some(chunk) = soon("output", output.next()).await {
        all.extend_from_slice(&chunk.expect("no error").data);
    }
    let expected: String = (1..=NUMBERS).map(|number| format!("{number}\n")).collect();
    assert!(all == expected.as_bytes(), "{} of {} bytes", all.len(), expected.len());
    assert_eq!(proxy.damaged(), 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_stream_comes_whole() {
    let server = server().await;
    let session_id = session(&server, Default::default()).await;
    talk(&server, &session_id).await;
    let proxy = Proxy::start(&server.endpoint, 1, Box::new(|| Fate::Throttle(2_000))).await;
    let events = follow(&client(&server, &proxy), &session_id).await;
    check(&server, &session_id, &events).await;
    assert_eq!(proxy.damaged(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_starts_over_a_lossy_connection_each_is_one_call() {
    const AT_ONCE: usize = 8;
    let count = proof(1_000, 100);
    let server = server().await;
    let session_id = session(&server, Default::default()).await;
    let mut random = StdRng::seed_from_u64(seed());
    // From before the first answer to behind some of them; both ways, so that the request is lost
    // as often as its answer.
    let fate = move || match random.random_range(0..20) {
        0 => Fate::Stall(random.random_range(0..2_000)),
        1..8 => Fate::CutUp(random.random_range(0..4_000)),
        _ => Fate::CutDown(random.random_range(0..2_000)),
    };
    let proxy = Proxy::start(&server.endpoint, usize::MAX, Box::new(fate)).await;
    let client = client(&server, &proxy);
    let starts =
        (0..count).map(|number| {
            let request = v1::RunToolRequest {
                session_id: session_id.clone(),
                description: format!("mark-{number}"),
                ..call("talk", json!({ "reports": 0 }))
            };
            let (client, request) = (client.clone(), start_of(request));
            async move {
                client.tasks().start(request).await.expect("a task").task.expect("a task").call_id
            }
        });
    let starts = futures::stream::iter(starts).buffer_unordered(AT_ONCE);
    let returned: BTreeSet<String> = starts.collect().await;
    close(&server, &session_id).await;
    let mut marks = BTreeMap::<String, BTreeSet<String>>::new();
    for event in log_of(&server, &session_id).await {
        let Some(v1::session_event::Payload::ToolCallAccepted(accepted)) = event.payload else {
            continue;
        };
        marks.entry(accepted.description).or_default().insert(event.call_id);
    }
    let kept: BTreeSet<String> = marks.values().flatten().cloned().collect();
    assert_eq!((marks.len(), kept.len()), (count, count), "a call for each start");
    assert_eq!(returned, kept, "the ids that clients got");
    println!("{} connections were damaged", proxy.damaged());
    assert!(proxy.damaged() > count / 10, "too few cuts");
}
