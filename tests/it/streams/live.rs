//! Streams over time: signs of life, age, the server's stop, deadlines, several readers.

use std::time::Duration;

use bytes::Bytes;
use callpark_proto::stored;
use callpark_proto::v1::session_update::Control;
use prost::Message as _;
use tokio::time::Instant;
use tonic::{Code, Request, Status, Streaming};
use tonic_types::StatusExt as _;

use crate::support::streams::{
    Gate, Reader, close, is_end, new_session, run, sequences, session_now, stream_of, task,
};
use crate::support::wire::{only_reason, send, with_token};
use crate::support::{TestServer, check_reason, soon, v1};

fn heartbeat(control: &Control) -> Option<i64> {
    match control {
        Control::Heartbeat(heartbeat) => Some(heartbeat.head_sequence),
        _ => None,
    }
}

fn draining(control: &Control) -> Option<v1::Draining> {
    match control {
        Control::Draining(draining) => Some(*draining),
        _ => None,
    }
}

/// Checks the end of a stream that must be opened again.
#[track_caller]
fn check_cut(status: Status) {
    check_reason(&status, Code::Unavailable, "DRAINING");
    let retry = status.get_details_retry_info().and_then(|info| info.retry_delay);
    assert!(retry.is_some_and(|delay| delay > Duration::ZERO), "{status:?}");
}

#[tokio::test]
async fn a_silent_stream_says_that_it_is_alive() {
    let server = TestServer::with(&[("heartbeat", "200ms")]).await;
    let session_id = new_session(&server).await;
    run(&server, &session_id, "echo one").await;
    let mut reader = Reader::open(&server, stream_of(&session_id)).await;
    reader.until_caught_up().await;
    let began = Instant::now();
    for _ in 0..3 {
        assert_eq!(reader.until_control(heartbeat).await, (Vec::new(), 4));
    }
    assert!(began.elapsed() >= Duration::from_millis(450), "{:?}", began.elapsed());
    run(&server, &session_id, "echo two").await;
    let (events, head) = reader.until_control(heartbeat).await;
    let later = match events.last().map(|event| event.sequence) {
        Some(8) => (Vec::new(), head),
        _ => reader.until_control(heartbeat).await,
    };
    assert_eq!(later.1, 8);
}

#[tokio::test]
async fn an_old_stream_ends_with_a_request_to_reconnect() {
    let server = TestServer::with(&[("stream-age", "1s"), ("heartbeat", "500ms")]).await;
    let session_id = new_session(&server).await;
    run(&server, &session_id, "echo one").await;
    let mut reader = Reader::open(&server, stream_of(&session_id)).await;
    let began = Instant::now();
    let (events, draining) = reader.until_control(draining).await;
    assert!(began.elapsed() >= Duration::from_millis(800), "{:?}", began.elapsed());
    assert_eq!((events.len(), draining.last_sequence), (4, 4));
    assert!(draining.retry_after.is_some_and(|span| span.seconds > 0 || span.nanos > 0));
    check_cut(reader.next().await.expect_err("a cut"));
    let again = Some(draining.last_sequence);
    let request =
        v1::StreamSessionRequest { start_after_sequence: again, ..stream_of(&session_id) };
    let (events, head) = Reader::open(&server, request).await.until_caught_up().await;
    assert_eq!((events.len(), head), (0, 4));
}

#[tokio::test]
async fn an_old_watch_ends_with_a_request_to_reconnect() {
    let server = TestServer::with(&[("stream-age", "1s"), ("heartbeat", "500ms")]).await;
    let watch = server.tasks.clone().watch(v1::WatchRequest::default()).await.expect("a watch");
    let mut watch = watch.into_inner();
    let end = async {
        loop {
            if let Err(status) = watch.message().await.map(|message| message.expect("no end")) {
                return status;
            }
        }
    };
    check_cut(soon("the end of a watch", end).await);
}

#[tokio::test]
async fn streams_end_with_draining_when_the_server_stops() {
    let mut server = TestServer::start().await;
    let session_id = new_session(&server).await;
    run(&server, &session_id, "echo one").await;
    let payloads = vec![v1::PayloadKind::ToolCallStarted.into()];
    let filtered = v1::StreamSessionRequest { payloads, ..stream_of(&session_id) };
    let mut readers = [
        Reader::open(&server, stream_of(&session_id)).await,
        Reader::open(&server, filtered).await,
    ];
    for reader in &mut readers {
        reader.until_caught_up().await;
    }
    let watch = server.tasks.clone().watch(v1::WatchRequest::default()).await.expect("a watch");
    let mut watch = watch.into_inner();
    soon("a heartbeat", watch.message()).await.expect("a heartbeat");
    server.begin_stop();
    for reader in &mut readers {
        let (events, draining) = reader.until_control(draining).await;
        assert_eq!((events.len(), draining.last_sequence), (0, 4), "seen or passed over");
        check_cut(reader.next().await.expect_err("a cut"));
    }
    check_cut(soon("the end", watch.message()).await.expect_err("a cut"));
    let began = Instant::now();
    drop((readers, watch));
    server.stop().await;
    assert!(began.elapsed() < Duration::from_secs(20), "it waited for nothing");
}

#[tokio::test]
async fn a_deadline_ends_a_stream() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    let gate = Gate::new(&server, "deadline");
    let task = task(&server, &session_id, &gate.command()).await;
    let mut request = Request::new(stream_of(&session_id));
    request.set_timeout(Duration::from_millis(1500));
    let began = Instant::now();
    let (events, end) = Reader::send(&server, request).await.rest().await;
    let status = end.expect("an error");
    assert_eq!((events.len(), status.code()), (3, Code::DeadlineExceeded), "{status:?}");
    assert_eq!(only_reason(&status).as_deref(), Some("DEADLINE_EXCEEDED"));
    assert!(began.elapsed() >= Duration::from_millis(1000), "{:?}", began.elapsed());
    let session = session_now(&server, &session_id).await;
    assert_eq!((session.live_tasks, session.head_sequence), (1, 3), "{task:?} goes on");
    gate.open();
}

/// The events of a stream, as the bytes that came, up to the end.
async fn raw_events(stream: &mut Streaming<Bytes>) -> Vec<Bytes> {
    let mut events = Vec::new();
    while let Some(message) = soon("a message", stream.message()).await.expect("no error") {
        events.extend(stored::SessionUpdate::decode(message).expect("an update").events);
    }
    events
}

async fn raw_stream(server: &TestServer, session_id: &str) -> Streaming<Bytes> {
    let request = with_token(server, stream_of(session_id).encode_to_vec().into());
    let path = "callpark.v1.ToolRunner/StreamSession";
    send(&server.channel, path, request).await.expect("a stream").into_inner()
}

#[tokio::test]
async fn readers_see_the_same_bytes_live_and_in_a_replay() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    let mut first = raw_stream(&server, &session_id).await;
    let mut second = raw_stream(&server, &session_id).await;
    let work = async {
        run(&server, &session_id, "printf '\\377\\000'; echo bad >&2; exit 3").await;
        let slow = task(&server, &session_id, "echo one; sleep 0.2; echo two").await;
        assert!(!slow.background_id.is_empty());
        let mut reader = Reader::open(&server, stream_of(&session_id)).await;
        let ends = std::cell::Cell::new(0);
        let both = |event: &v1::SessionEvent| {
            ends.set(ends.get() + i32::from(is_end(event)));
            ends.get() == 2
        };
        reader.until_event(both).await;
        close(&server, &session_id).await;
    };
    let (first, second, ()) = tokio::join!(raw_events(&mut first), raw_events(&mut second), work);
    let replayed = raw_events(&mut raw_stream(&server, &session_id).await).await;
    assert!(first.len() >= 10, "{}", first.len());
    assert_eq!(first, second);
    assert_eq!(first, replayed);
    let server = server.restart().await;
    let later = raw_events(&mut raw_stream(&server, &session_id).await).await;
    assert_eq!(first, later);
}

#[tokio::test]
async fn a_reader_that_does_not_read_stops_no_other() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    let channel = tonic::transport::Endpoint::from_shared(server.endpoint.clone());
    let channel = channel.expect("an endpoint").connect_lazy();
    let request = with_token(&server, stream_of(&session_id).encode_to_vec().into());
    let path = "callpark.v1.ToolRunner/StreamSession";
    let mut slow = send(&channel, path, request).await.expect("a stream").into_inner();
    let mut quick = Reader::open(&server, stream_of(&session_id)).await;
    quick.snapshot().await;
    // Far more than the windows of a stream and its connection hold.
    let result = run(&server, &session_id, "head -c 4000000 /dev/zero").await;
    let total = result.output.and_then(|output| output.stdout).map(|stdout| stdout.total_bytes);
    assert_eq!(total, Some(4_000_000));
    let events = quick.until_event(is_end).await;
    close(&server, &session_id).await;
    let (rest, end) = quick.rest().await;
    assert!(end.is_none(), "{end:?}");
    let all = [events, rest].concat();
    assert_eq!(sequences(&all), (1..=all.len() as i64).collect::<Vec<_>>());
    let late = raw_events(&mut slow).await;
    assert_eq!(late.len(), all.len(), "the slow one gets all of it, too");
}
