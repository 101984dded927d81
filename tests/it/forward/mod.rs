//! Requests for sessions of another server of the store: the owner answers them, and nobody sees it.

mod failures;
pub mod front;
mod trust;

use std::time::Duration;

use futures::future::join_all;
use tonic::Request;
use tonic::codec::CompressionEncoding;

use crate::support::streams::{new_session, replay_of, stream_of};
use crate::support::waiting::{Gate, events_of, first_end, lines_of, log_of, parked_of, session};
use crate::support::{bash, result_of, soon, stdout_of, v1};
use front::{Front, Local, OWNER, owner};

use v1::session_event::Payload;

#[tokio::test]
async fn a_call_is_answered_by_the_owner() {
    let owner = owner().await;
    let front = Front::of(&owner.endpoint).await;
    let session_id = new_session(&owner).await;
    let call = v1::RunToolRequest { session_id: session_id.clone(), ..bash("echo hello") };
    let mut request = Request::new(call);
    request.metadata_mut().insert("x-request-id", "mine".parse().expect("a header"));
    let answer = soon("an answer", front.tools.clone().run_tool(request)).await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.metadata().get("x-request-id").expect("an id"), "mine");
    assert!(!answer.metadata().contains_key(OWNER));
    assert_eq!(stdout_of(result_of(answer.get_ref())), b"hello\n");
    assert_eq!(answer.get_ref().session_id, session_id);
    assert_eq!((front.requests(), front.forwarded("answered")), (1, 1));
    // The same answer has the error of a request that is wrong.
    let wrong = v1::RunToolRequest { session_id: "none".into(), ..bash("true") };
    let direct = owner.tools.clone().run_tool(wrong.clone()).await.expect_err("an error");
    let status = front.tools.clone().run_tool(wrong).await.expect_err("an error");
    assert_eq!(
        (status.code(), status.message(), status.details()),
        (direct.code(), direct.message(), direct.details())
    );
}

#[tokio::test]
async fn a_large_call_is_forwarded_whole() {
    let owner = owner().await;
    let front = Front::of(&owner.endpoint).await;
    let stdin: Vec<u8> = (0..2_000_000_u32).map(|number| (number % 251) as u8).collect();
    let expected = stdin.iter().map(|byte| u64::from(*byte)).sum::<u64>();
    let command = "python3 -c 'import sys; print(sum(sys.stdin.buffer.read()))'";
    let call = v1::RunToolRequest { stdin: stdin.into(), ..bash(command) };
    let answer = soon("an answer", front.tools.clone().run_tool(call)).await.expect("an answer");
    let output = stdout_of(result_of(answer.get_ref()));
    assert_eq!(String::from_utf8_lossy(&output).trim(), expected.to_string());
}

#[tokio::test]
async fn compression_is_left_as_it_is() {
    let owner = owner().await;
    let front = Front::of(&owner.endpoint).await;
    let gzip = CompressionEncoding::Gzip;
    let mut tools = front.tools.clone().send_compressed(gzip).accept_compressed(gzip);
    let answer = soon("an answer", tools.run_tool(bash("seq 100000"))).await.expect("an answer");
    assert_eq!(answer.metadata().get("grpc-encoding").expect("an encoding"), "gzip");
    let output = stdout_of(result_of(answer.get_ref()));
    assert!(output.ends_with(b"\n99999\n100000\n"), "{} bytes", output.len());
}

#[tokio::test]
async fn a_stream_passes_as_it_is_made() {
    let owner = owner().await;
    let front = Front::of(&owner.endpoint).await;
    let session_id = new_session(&owner).await;
    let mut gate = Gate::new(owner.folder(), "gate");
    let command = format!("echo up; {}; seq 10000", gate.wait());
    let call = v1::RunToolRequest { session_id: session_id.clone(), ..bash(&command) };
    let stream = soon("a stream", front.tools.clone().stream_tool(call)).await.expect("a stream");
    let mut stream = stream.into_inner();
    let first = soon("an update", stream.message()).await.expect("no error").expect("an update");
    gate.open();
    let mut events = first.events;
    events.extend(events_of(stream).await);
    assert_eq!(events, log_of(&owner, &session_id).await);
    assert!(matches!(
        events.last().and_then(|event| event.payload.as_ref()),
        Some(Payload::ToolCallFinished(_))
    ));
}

/// A stream of a session learns only after the head of its answer that the session is elsewhere.
#[tokio::test]
async fn a_stream_that_has_begun_is_forwarded_too() {
    let owner = owner().await;
    let front = Front::start(&[Local::LateOwner(owner.endpoint.clone())]).await;
    let session_id = new_session(&owner).await;
    let call = v1::RunToolRequest { session_id: session_id.clone(), ..bash("echo hello") };
    owner.tools.clone().run_tool(call).await.expect("an answer");
    let request = replay_of(&session_id);
    let stream = soon("a stream", front.tools.clone().stream_session(request)).await;
    let events = events_of(stream.expect("a stream").into_inner()).await;
    assert_eq!(events, log_of(&owner, &session_id).await);
    // The error of a wrong request comes as the end of the stream.
    let wrong = v1::StreamSessionRequest { session_id: "none".into(), ..Default::default() };
    let stream = soon("a stream", front.tools.clone().stream_session(wrong)).await;
    let error = soon("an end", stream.expect("a stream").into_inner().message()).await;
    assert_eq!(error.expect_err("an error").code(), tonic::Code::InvalidArgument);
}

#[tokio::test]
async fn the_owner_keeps_to_the_callers_deadline() {
    let owner = owner().await;
    let front = Front::of(&owner.endpoint).await;
    let mut request = Request::new(bash("sleep 60"));
    request.set_timeout(Duration::from_secs(2));
    let answer = soon("an answer", front.tools.clone().run_tool(request)).await;
    let answer = answer.expect("an answer in time");
    let task = parked_of(answer.get_ref()).task.as_ref().expect("a task");
    assert_eq!(task.park_reason(), v1::ParkReason::Deadline);
}

#[tokio::test]
async fn a_caller_that_leaves_has_left_the_owner() {
    let owner = owner().await;
    let front = Front::of(&owner.endpoint).await;
    for is_stream in [false, true] {
        let session_id = session(&owner, Default::default()).await;
        let mark = owner.folder().join(format!("mark-{is_stream}"));
        let call = v1::RunToolRequest {
            session_id: session_id.clone(),
            on_disconnect: v1::OnDisconnect::Cancel.into(),
            ..bash(&format!("echo up > {}; sleep 60", mark.display()))
        };
        let mut tools = front.tools.clone();
        if is_stream {
            let stream = soon("a stream", tools.stream_tool(call)).await.expect("a stream");
            lines_of(&mark, 1).await;
            drop(stream);
        } else {
            tokio::select! {
                answer = tools.run_tool(call) => panic!("{answer:?}"),
                _ = lines_of(&mark, 1) => {}
            }
        }
        let finished = first_end(&owner, &session_id).await;
        assert_eq!(finished.end_reason(), v1::EndReason::CallerGone, "{is_stream}");
    }
}

/// More streams than one connection takes.
#[tokio::test]
async fn many_streams_are_open_at_the_same_time() {
    const STREAMS: usize = 300;
    let owner = owner().await;
    let front = Front::of(&owner.endpoint).await;
    let session_id = new_session(&owner).await;
    let call = v1::RunToolRequest { session_id: session_id.clone(), ..bash("echo hello") };
    owner.tools.clone().run_tool(call).await.expect("an answer");
    let streams = (0..STREAMS).map(|_| {
        let (mut tools, request) = (front.tools.clone(), stream_of(&session_id));
        async move {
            let mut stream = tools.stream_session(request).await.expect("a stream").into_inner();
            stream.message().await.expect("no error").expect("an update");
            stream
        }
    });
    let streams = soon("all streams", join_all(streams)).await;
    assert_eq!(streams.len(), STREAMS);
}
