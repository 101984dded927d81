//! Calls whose processes were not started before their server was killed.

use std::sync::mpsc;
use std::time::Duration;

use prost::Message;

use super::FakeShim;
use super::faults::{Hello, read_frame, send_hello};
use crate::support::program::Site;
use crate::support::{bash, millis, remote, request_id, soon, v1};
use v1::session_event::Payload;

/// More starts than a test has.
const STARTS_MAX: usize = 100;

/// An order of a server, as far as it starts a run.
#[derive(Clone, PartialEq, Message)]
struct Order {
    #[prost(message, tag = "2")]
    start: Option<Start>,
}

#[derive(Clone, PartialEq, Message)]
struct Start {
    #[prost(bytes = "vec", tag = "1")]
    call_id: Vec<u8>,
}

/// A shim that serves so many servers one after the other and never starts a run. Returns the calls whose
/// runs it is to start.
fn idle_shim(site: &Site, hello: Hello, servers: usize) -> mpsc::Receiver<String> {
    let listener = FakeShim::listen(site);
    let (sender, starts) = mpsc::sync_channel(STARTS_MAX);
    std::thread::spawn(move || {
        for _ in 0..servers {
            let mut socket = listener.accept();
            read_frame(&mut socket).expect("a server that introduces itself");
            send_hello(&mut socket, hello.clone());
            while let Some(frame) = read_frame(&mut socket) {
                let order = Order::decode(&*frame).expect("an order");
                let Some(start) = order.start else { continue };
                let id = uuid::Uuid::from_slice(&start.call_id).expect("an id");
                // The test may have ended.
                let _result = sender.try_send(format!("bg-{}", id.simple()));
            }
        }
    });
    starts
}

/// The first message of a shim of this home's servers.
async fn hello(site: &Site) -> Hello {
    let server = site.serve(&[]).await;
    let shim = site.shims()[0];
    let arguments = std::fs::read_to_string(format!("/proc/{shim}/cmdline")).expect("arguments");
    let settings = arguments
        .split('\0')
        .filter(|word| word.starts_with("--output-drain") || word.starts_with("--tool-niceness"));
    let settings = settings.collect::<Vec<_>>().join(" ");
    server.terminate().await.0.exits(0);
    site.without_shims().await;
    let version = env!("CARGO_PKG_VERSION").to_owned();
    Hello { protocol: 1, version, settings, pid: std::process::id(), runs: Vec::new() }
}

async fn next(starts: &mpsc::Receiver<String>) -> String {
    let started = async {
        loop {
            match starts.try_recv() {
                Ok(id) => return id,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    soon("an order to start a run", started).await
}

fn is_cancel(event: &v1::SessionEvent, call_id: &str) -> bool {
    let Some(Payload::ToolCallFinished(finished)) = &event.payload else { return false };
    event.call_id == call_id && finished.state() == v1::State::Cancelled
}

#[tokio::test]
async fn they_are_begun_by_the_next_server_unless_they_are_to_be_stopped() {
    let site = Site::new();
    let starts = idle_shim(&site, hello(&site).await, 2);
    let server = site.serve(&[]).await;
    let clients = server.connect();
    let session_id = remote::session(&clients).await;
    let wanted = remote::start(&clients, bash("true")).await.background_id;
    assert_eq!(next(&starts).await, wanted);
    let unwanted = remote::start(&clients, bash("true")).await.background_id;
    assert_eq!(next(&starts).await, unwanted);
    let background_id = unwanted.clone();
    let cancel = v1::CancelRequest { background_id, wait: millis(0), ..Default::default() };
    clients.tasks.clone().cancel(cancel).await.expect("accepted");
    let foreground = v1::RunToolRequest {
        session_id: session_id.clone(),
        request_id: request_id(),
        on_disconnect: v1::OnDisconnect::Cancel.into(),
        ..bash("true")
    };
    let mut tools = clients.tools.clone();
    let (answer, abandoned) = tokio::join!(tools.run_tool(foreground), async {
        let id = next(&starts).await;
        server.kill().await;
        id
    });
    answer.expect_err("the server was killed");

    let server = site.serve(&[]).await;
    let clients = server.connect();
    assert_eq!(next(&starts).await, wanted, "begun by the next server");
    let task = remote::task(&clients, &wanted).await;
    assert_eq!((task.state(), task.attempt), (v1::State::Running, 1), "{task:?}");
    assert_eq!(remote::ended(&clients, &unwanted).await.state(), v1::State::Cancelled);
    // One that was never parked is no task: only the log has its end.
    let call_id = abandoned.replace("bg-", "call-");
    let cancelled = async {
        while !remote::log(&clients, &session_id)
            .await
            .iter()
            .any(|event| is_cancel(event, &call_id))
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon("the end of a call without its caller", cancelled).await;
    assert_eq!(starts.try_recv().ok(), None, "no other is begun");
}
