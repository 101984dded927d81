//! StreamTool: a call's events while its caller listens.

use std::path::Path;
use std::time::Duration;

use tonic::Request;

use super::{leaves_a_parked_call, takes_its_call_along};
use crate::support::waiting::{
    Gate, ended, events_of, first_end, lines_of, outcome_of, pids, session,
};
use crate::support::{TestServer, bash, check_reason, millis, soon, stdout_of, v1};

use v1::session_event::Payload;

type Updates = tonic::Streaming<v1::SessionUpdate>;

async fn open(server: &TestServer, request: v1::RunToolRequest) -> Updates {
    let stream = soon("a stream", server.tools.clone().stream_tool(request)).await;
    stream.expect("a stream").into_inner()
}

/// The payloads, of one call, in the order of the log.
#[track_caller]
fn payloads_of(events: &[v1::SessionEvent]) -> Vec<&Payload> {
    let first = &events[0];
    assert!(first.call_id.starts_with("call-"));
    assert!(events.iter().all(|event| event.call_id == first.call_id));
    assert!(events.iter().all(|event| event.session_id == first.session_id));
    assert!(events.is_sorted_by(|a, b| a.sequence < b.sequence));
    events.iter().map(|event| event.payload.as_ref().expect("a payload")).collect()
}

#[track_caller]
fn output_of(payloads: &[&Payload], stream: v1::OutputStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    for payload in payloads {
        if let Payload::ToolOutput(output) = payload
            && output.stream() == stream
        {
            assert_eq!(output.offset, bytes.len() as i64);
            bytes.extend_from_slice(&output.data);
        }
    }
    bytes
}

#[tokio::test]
async fn a_stream_gives_a_calls_events_up_to_its_end() {
    let server = TestServer::start().await;
    let command = "echo out; echo err >&2; sleep 0.2; echo more; exit 2";
    let events = events_of(open(&server, bash(command)).await).await;
    let payloads = payloads_of(&events);
    let Payload::ToolCallAccepted(accepted) = payloads[0] else { panic!("{payloads:?}") };
    assert_eq!(accepted.tool, "bash");
    assert!(matches!(payloads[1], Payload::ToolCallStarted(_)), "{payloads:?}");
    assert_eq!(output_of(&payloads, v1::OutputStream::Stdout), b"out\nmore\n");
    assert_eq!(output_of(&payloads, v1::OutputStream::Stderr), b"err\n");
    let ends = payloads.iter().filter(|p| matches!(p, Payload::ToolCallFinished(_))).count();
    let Some(Payload::ToolCallFinished(finished)) = payloads.last() else {
        panic!("{payloads:?}");
    };
    assert_eq!((ends, finished.state()), (1, v1::State::Failed));
    let Some(v1::tool_call_finished::Outcome::Result(result)) = &finished.outcome else {
        panic!("{finished:?}");
    };
    assert_eq!(stdout_of(result), b"out\nmore\n");
    assert_eq!(result.exit, Some(v1::tool_result::Exit::ExitCode(2)));
}

#[tokio::test]
async fn a_stream_ends_well_when_its_call_is_parked() {
    let server = TestServer::start().await;
    let mut gate = Gate::new(server.folder(), "gate");
    let request = v1::RunToolRequest {
        call_budget: millis(500),
        ..bash(&format!("echo early; {}; echo late", gate.wait()))
    };
    let events = events_of(open(&server, request).await).await;
    let payloads = payloads_of(&events);
    let Some(Payload::ToolCallParked(parked)) = payloads.last() else { panic!("{payloads:?}") };
    assert_eq!((parked.reason(), parked.call_budget), (v1::ParkReason::Budget, millis(500)));
    assert!(parked.message.contains(&parked.background_id));
    assert_eq!(output_of(&payloads, v1::OutputStream::Stdout), b"early\n");
    gate.open();
    let task = ended(&server, &parked.background_id).await;
    assert_eq!(stdout_of(outcome_of(&task)), b"early\nlate\n");
}

#[tokio::test]
async fn a_streams_deadline_parks_its_call() {
    let server = TestServer::start().await;
    let mut gate = Gate::new(server.folder(), "gate");
    let mut request = Request::new(bash(&gate.wait()));
    request.set_timeout(Duration::from_secs(2));
    let stream = server.tools.clone().stream_tool(request).await.expect("a stream");
    let events = events_of(stream.into_inner()).await;
    let payloads = payloads_of(&events);
    let Some(Payload::ToolCallParked(parked)) = payloads.last() else { panic!("{payloads:?}") };
    assert_eq!(parked.reason(), v1::ParkReason::Deadline);
    gate.open();
    assert_eq!(ended(&server, &parked.background_id).await.state(), v1::State::Succeeded);
}

/// Streams a call and leaves once its process runs; the process's id.
async fn abandon(server: &TestServer, request: v1::RunToolRequest, mark: &Path) -> u32 {
    let mut stream = open(server, request).await;
    let first = soon("an update", stream.message()).await.expect("no cut").expect("an update");
    assert!(matches!(first.events[0].payload, Some(Payload::ToolCallAccepted(_))));
    pids(&lines_of(mark, 1).await)[0]
}

#[tokio::test]
async fn dropping_a_stream_parks_its_call() {
    leaves_a_parked_call(abandon).await;
}

#[tokio::test]
async fn dropping_a_stream_cancels_its_call_where_that_is_wanted() {
    takes_its_call_along(abandon).await;
}

#[tokio::test]
async fn a_stream_that_the_server_cuts_does_not_cancel_its_call() {
    let server = TestServer::with(&[("drain", "200ms")]).await;
    let mark = server.folder().join("mark");
    let session_id = session(&server, Default::default()).await;
    let request = v1::RunToolRequest {
        session_id: session_id.clone(),
        on_disconnect: v1::OnDisconnect::Cancel.into(),
        ..bash(&format!("echo $$ > {}; sleep 300", mark.display()))
    };
    let mut stream = open(&server, request).await;
    lines_of(&mark, 1).await;
    server.begin_stop();
    let cut = soon("the cut", async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("ended as if the call had"),
                Err(status) => return status,
            }
        }
    })
    .await;
    check_reason(&cut, tonic::Code::Unavailable, "DRAINING");
    // The caller had not gone away: what became of the call is that its server stopped.
    let server = server.restart().await;
    assert_eq!(first_end(&server, &session_id).await.state(), v1::State::Lost);
}

#[tokio::test]
async fn the_stream_of_a_call_has_no_age() {
    let server = TestServer::with(&[("stream-age", "1s"), ("heartbeat", "200ms")]).await;
    let request = v1::RunToolRequest {
        on_disconnect: v1::OnDisconnect::Cancel.into(),
        ..bash("sleep 2; echo done")
    };
    let events = events_of(open(&server, request).await).await;
    let payloads = payloads_of(&events);
    assert_eq!(output_of(&payloads, v1::OutputStream::Stdout), b"done\n");
    assert!(matches!(payloads.last(), Some(Payload::ToolCallFinished(_))));
}
