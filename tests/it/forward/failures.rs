//! Owners that cannot be reached, have lost the session, or go away.

use std::time::Duration;

use callpark::internals::engine::Peers as _;
use tokio::net::TcpListener;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;

use super::front::{Front, Local, OWNER, OwnerOfAll, owner};
use crate::support::proxy::{Fate, Proxy};
use crate::support::waiting::{Gate, lines_of};
use crate::support::{bash, check_reason, result_of, soon, stdout_of, v1};

/// An address at which nobody listens.
async fn nowhere() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    format!("http://{}", listener.local_addr().expect("an address"))
}

/// Checks that the error asks for a retry and tells nothing about other servers.
#[track_caller]
fn check_not_owner(status: &Status) {
    check_reason(status, Code::Unavailable, "NOT_OWNER");
    assert!(status.get_details_retry_info().is_some(), "{status:?}");
    assert!(!status.message().contains("127.0.0.1"), "{status:?}");
    assert!(!status.metadata().contains_key(OWNER), "{status:?}");
}

/// The error that a stream ends with.
async fn end_of(mut stream: Streaming<v1::SessionUpdate>) -> Status {
    loop {
        match stream.message().await {
            Ok(update) => assert!(update.is_some(), "an end without a status"),
            Err(status) => return status,
        }
    }
}

async fn refusal(front: &Front, call: v1::RunToolRequest) -> Status {
    soon("an answer", front.tools.clone().run_tool(call)).await.expect_err("an error")
}

#[tokio::test]
async fn an_owner_that_cannot_be_reached_is_asked_for_again() {
    let (owner, nowhere) = (owner().await, nowhere().await);
    let front = Front::of(&nowhere).await;
    check_not_owner(&refusal(&front, bash("true")).await);
    assert_eq!((front.requests(), front.forwarded("unreachable")), (2, 2));
    // The session has another owner by then, or belongs to nobody and is served here.
    let lines = [Local::Owner(nowhere.clone()), Local::Owner(owner.endpoint.clone())];
    let front = Front::start(&lines).await;
    let answer = front.tools.clone().run_tool(bash("echo hello")).await.expect("an answer");
    assert_eq!(stdout_of(result_of(answer.get_ref())), b"hello\n");
    assert_eq!(front.requests(), 2);
    let front = Front::start(&[Local::Owner(nowhere), Local::Answer]).await;
    front.tools.clone().run_tool(bash("true")).await.expect("an answer");
    assert_eq!(front.requests(), 2);
}

#[tokio::test]
async fn a_request_is_forwarded_once_and_by_its_first_server_only() {
    let owner = owner().await;
    let moved = Front::of(&owner.endpoint).await;
    let front = Front::of(&moved.endpoint).await;
    check_not_owner(&refusal(&front, bash("true")).await);
    assert_eq!((front.requests(), front.forwarded("not_owner")), (2, 2));
    assert_eq!((moved.requests(), moved.forwarded("answered")), (2, 0), "it goes no further");
    // Nor does a stream that has begun, and its end names nobody.
    let moved = Front::start(&[Local::LateOwner(owner.endpoint.clone())]).await;
    let front = Front::of(&moved.endpoint).await;
    let stream = soon("a stream", front.tools.clone().stream_tool(bash("true"))).await;
    let mut stream = stream.expect("a stream").into_inner();
    check_not_owner(&soon("an end", stream.message()).await.expect_err("an error"));
    assert_eq!((moved.requests(), moved.forwarded("answered")), (1, 0));
    let moved = Front::of(&owner.endpoint).await;
    let lines = [moved.endpoint.clone(), owner.endpoint.clone()].map(Local::Owner);
    let front = Front::start(&lines).await;
    let answer = front.tools.clone().run_tool(bash("echo hello")).await.expect("an answer");
    assert_eq!(stdout_of(result_of(answer.get_ref())), b"hello\n");
    assert_eq!(front.requests(), 2);
}

#[tokio::test]
async fn a_request_without_an_answer_is_not_repeated() {
    let owner = owner().await;
    let proxy = Proxy::start(&owner.endpoint, 0, Box::new(|| Fate::Whole)).await;
    let front = Front::of(&proxy.endpoint).await;
    let (mark, gate) = (owner.folder().join("mark"), Gate::new(owner.folder(), "gate"));
    let call = bash(&format!("echo up >> {}; {}", mark.display(), gate.wait()));
    let call = async {
        let answer = front.tools.clone().run_tool(call).await;
        answer.expect_err("an error")
    };
    let cut = async {
        lines_of(&mark, 1).await;
        drop(proxy);
    };
    let (status, ()) = soon("an answer", async { tokio::join!(call, cut) }).await;
    check_not_owner(&status);
    assert_eq!((front.requests(), front.forwarded("lost")), (1, 1));
    assert_eq!(lines_of(&mark, 1).await.len(), 1);
}

#[tokio::test]
async fn a_stream_whose_owner_goes_away_asks_for_a_retry() {
    let owner = owner().await;
    let proxy = Proxy::start(&owner.endpoint, 0, Box::new(|| Fate::Whole)).await;
    let front = Front::of(&proxy.endpoint).await;
    let gate = Gate::new(owner.folder(), "gate");
    let call = bash(&format!("echo up; {}", gate.wait()));
    let stream = soon("a stream", front.tools.clone().stream_tool(call)).await.expect("a stream");
    let mut stream = stream.into_inner();
    soon("an update", stream.message()).await.expect("no error").expect("an update");
    drop(proxy);
    let status = soon("an end", end_of(stream)).await;
    check_not_owner(&status);
    assert_eq!(front.forwarded("lost"), 1);
}

#[tokio::test]
async fn an_owner_that_says_nothing_is_noticed_in_a_few_seconds() {
    let owner = owner().await;
    let proxy = Proxy::start(&owner.endpoint, 1, Box::new(|| Fate::Stall(1))).await;
    let front = Front::of(&proxy.endpoint).await;
    let refused = tokio::time::timeout(Duration::from_secs(8), refusal(&front, bash("true")));
    check_not_owner(&refused.await.expect("in time"));
    assert_eq!(front.requests(), 1);
}

#[tokio::test]
async fn a_request_that_is_too_large_is_not_forwarded() {
    let owner = owner().await;
    let lines = [Local::Owner(owner.endpoint.clone())];
    let front = Front::with(&lines, OwnerOfAll::default(), 1 << 20).await;
    let call = |bytes| v1::RunToolRequest { stdin: vec![0; bytes].into(), ..bash("wc -c") };
    check_not_owner(&refusal(&front, call(1 << 20)).await);
    front.tools.clone().run_tool(call(1 << 19)).await.expect("an answer");
}

#[tokio::test]
async fn streams_end_when_their_first_server_stops() {
    let owner = owner().await;
    let front = Front::of(&owner.endpoint).await;
    let gate = Gate::new(owner.folder(), "gate");
    let call = bash(&format!("echo up; {}", gate.wait()));
    let stream = soon("a stream", front.tools.clone().stream_tool(call)).await.expect("a stream");
    let mut stream = stream.into_inner();
    soon("an update", stream.message()).await.expect("no error").expect("an update");
    front.forwarder.drain();
    let status = soon("an end", end_of(stream)).await;
    check_reason(&status, Code::Unavailable, "DRAINING");
    soon("the end of its connections", front.forwarder.close()).await;
}

#[tokio::test]
async fn the_health_of_others_is_asked_for() {
    let owner = owner().await;
    let front = Front::of(&owner.endpoint).await;
    assert_eq!(front.forwarder.can_write(&owner.endpoint).await, Some(true));
    assert_eq!(front.forwarder.can_write(&nowhere().await).await, None);
    assert_eq!(front.forwarder.can_write(&front.endpoint).await, None, "it has no health");
    let (reporter, service) = tonic_health::server::health_reporter();
    reporter.set_service_status("", tonic_health::ServingStatus::NotServing).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let serving =
        tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming);
    tokio::select! {
        _ = serving => panic!("it serves"),
        answer = front.forwarder.can_write(&endpoint) => assert_eq!(answer, Some(false)),
    }
    // A connection that is accepted, and then nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", silent.local_addr().expect("an address"));
    let answer = tokio::time::timeout(Duration::from_secs(3), front.forwarder.can_write(&endpoint));
    assert_eq!(answer.await.expect("in time"), None);
}
