//! Attaching to a session: what is there, then what comes, and where to begin.

mod live;

use std::time::Duration;

use callpark_proto::v1::session_event::Payload;
use callpark_proto::v1::session_update::Control;
use tonic::Code;
use v1::PayloadKind;

use crate::support::streams::{
    Gate, MISSING_TOOL, Reader, close, failing_calls, is_end, log_of, new_session, replay_of, run,
    sequences, session_now, stream_error, stream_of, task,
};
use crate::support::wire::bad_fields;
use crate::support::{TestServer, check_reason, soon, v1};

fn kind_of(event: &v1::SessionEvent) -> &'static str {
    match event.payload {
        Some(Payload::ToolCallAccepted(_)) => "accepted",
        Some(Payload::ToolCallStarted(_)) => "started",
        Some(Payload::ToolOutput(_)) => "output",
        Some(Payload::ToolCallParked(_)) => "parked",
        Some(Payload::ToolCallFinished(_)) => "finished",
        Some(Payload::SessionShutdown(_)) => "shutdown",
        _ => "other",
    }
}

#[tokio::test]
async fn a_stream_gives_a_snapshot_the_log_caught_up_and_then_new_events() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    run(&server, &session_id, "echo before").await;
    let mut reader = Reader::open(&server, stream_of(&session_id)).await;
    let snapshot = reader.snapshot().await;
    assert_eq!((snapshot.head_sequence, snapshot.first_sequence), (4, 1));
    assert_eq!(snapshot.session.expect("a session"), session_now(&server, &session_id).await);
    let (replayed, head) = reader.until_caught_up().await;
    assert_eq!(head, 4);
    run(&server, &session_id, "echo live").await;
    let live = reader.until_event(is_end).await;
    close(&server, &session_id).await;
    let (last, end) = reader.rest().await;
    assert!(end.is_none(), "{end:?}");
    let all = [replayed, live, last].concat();
    let kinds: Vec<_> = all.iter().map(kind_of).collect();
    let call = ["accepted", "started", "output", "finished"];
    assert_eq!(kinds, [&call[..], &call[..], &["shutdown"]].concat());
    assert_eq!(sequences(&all), (1..=9).collect::<Vec<_>>());
    for event in &all {
        assert_eq!((&event.session_id, &event.stream_epoch), (&session_id, &snapshot.stream_epoch));
        assert!(event.create_time.is_some());
        assert_eq!(event.call_id.is_empty(), kind_of(event) == "shutdown", "{event:?}");
    }
    assert_eq!(all[0].call_id, all[3].call_id);
    assert_ne!(all[0].call_id, all[4].call_id);
}

#[tokio::test]
async fn a_filter_of_payloads_gives_those_and_no_others() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    run(&server, &session_id, "echo one").await;
    let kinds = [PayloadKind::ToolCallStarted, PayloadKind::ToolCallFinished];
    let request = v1::StreamSessionRequest {
        payloads: kinds.iter().map(|kind| *kind as i32).collect(),
        ..stream_of(&session_id)
    };
    let mut reader = Reader::open(&server, request).await;
    let (replayed, head) = reader.until_caught_up().await;
    assert_eq!((sequences(&replayed), head), (vec![2, 4], 4));
    run(&server, &session_id, "echo two").await;
    let live = reader.until_event(is_end).await;
    assert_eq!(sequences(&live), [6, 8]);
    close(&server, &session_id).await;
    let (rest, end) = reader.rest().await;
    assert_eq!((rest.len(), end.is_none()), (0, true), "it ends without a reason");
}

#[tokio::test]
async fn a_filter_that_matches_nothing_gives_nothing_and_still_ends() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    run(&server, &session_id, "echo one").await;
    let payloads = vec![PayloadKind::TurnStarted as i32];
    let request = v1::StreamSessionRequest { payloads, ..stream_of(&session_id) };
    let mut reader = Reader::open(&server, request.clone()).await;
    let (events, head) = reader.until_caught_up().await;
    assert_eq!((events.len(), head), (0, 4));
    close(&server, &session_id).await;
    let (events, end) = reader.rest().await;
    assert_eq!((events.len(), end.is_none()), (0, true));
    let unknown = v1::StreamSessionRequest { payloads: vec![0, 22, 4711], ..request };
    let status = stream_error(&server, unknown).await;
    check_reason(&status, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(bad_fields(&status), ["payloads[0]", "payloads[2]"]);
}

#[tokio::test]
async fn a_stream_that_does_not_follow_ends_once_it_has_caught_up() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    let gate = Gate::new(&server, "live");
    task(&server, &session_id, &gate.command()).await;
    let mut reader = Reader::open(&server, replay_of(&session_id)).await;
    let (events, head) = reader.until_caught_up().await;
    assert_eq!((sequences(&events), head), (vec![1, 2, 3], 3));
    let (rest, end) = reader.rest().await;
    assert_eq!((rest.len(), end.is_none()), (0, true));
    gate.open();
}

#[tokio::test]
async fn from_now_gives_new_events_only() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    run(&server, &session_id, "echo one").await;
    let request = v1::StreamSessionRequest { from_now: true, ..stream_of(&session_id) };
    let mut reader = Reader::open(&server, request).await;
    let (events, head) = reader.until_caught_up().await;
    assert_eq!((events.len(), head), (0, 4));
    run(&server, &session_id, "echo two").await;
    assert_eq!(sequences(&reader.until_event(is_end).await), [5, 6, 7, 8]);
}

#[tokio::test]
async fn a_stream_begins_after_the_requested_sequence() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    run(&server, &session_id, "echo one").await;
    for after in 0..=4 {
        let start_after_sequence = Some(after);
        let request = v1::StreamSessionRequest { start_after_sequence, ..stream_of(&session_id) };
        let mut reader = Reader::open(&server, request).await;
        reader.snapshot().await;
        let (events, head) = reader.until_caught_up().await;
        assert_eq!((sequences(&events), head), ((after + 1..=4).collect(), 4));
    }
}

#[tokio::test]
async fn impossible_cursors_are_distinguished() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    run(&server, &session_id, "echo one").await;
    let after = |sequence| v1::StreamSessionRequest {
        start_after_sequence: Some(sequence),
        ..stream_of(&session_id)
    };
    for ahead in [5, i64::MAX] {
        let status = stream_error(&server, after(ahead)).await;
        check_reason(&status, Code::OutOfRange, "SEQUENCE_AHEAD");
    }
    let status = stream_error(&server, after(-1)).await;
    check_reason(&status, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(bad_fields(&status), ["start_after_sequence"]);
    let both = v1::StreamSessionRequest { from_now: true, ..after(1) };
    let status = stream_error(&server, both).await;
    assert_eq!((status.code(), bad_fields(&status).len()), (Code::InvalidArgument, 1));
    let stream_epoch = "another".to_owned();
    let status = stream_error(&server, v1::StreamSessionRequest { stream_epoch, ..after(1) }).await;
    check_reason(&status, Code::OutOfRange, "STREAM_EPOCH_MISMATCH");
    let stream_epoch = session_now(&server, &session_id).await.stream_epoch;
    let right = v1::StreamSessionRequest { stream_epoch, ..after(1) };
    let (events, _) = Reader::open(&server, right).await.until_caught_up().await;
    assert_eq!(sequences(&events), [2, 3, 4]);
}

#[tokio::test]
async fn a_replay_has_many_events_in_a_message_and_a_quiet_stream_one() {
    let server = TestServer::with_config(MISSING_TOOL, &[]).await;
    let session_id = new_session(&server).await;
    failing_calls(&server, &session_id, 100).await;
    let mut reader = Reader::open(&server, stream_of(&session_id)).await;
    reader.snapshot().await;
    let (mut sizes, mut events) = (Vec::new(), Vec::new());
    while events.len() < 300 {
        let update = reader.update().await;
        sizes.push(update.events.len());
        events.extend(update.events);
    }
    assert_eq!(sequences(&events), (1..=300).collect::<Vec<_>>());
    assert!(sizes.iter().all(|size| *size <= 64), "{sizes:?}");
    assert!(sizes.len() <= 8, "few messages for 300 events: {sizes:?}");
    let gate = Gate::new(&server, "quiet");
    let command = gate.command();
    let call = run(&server, &session_id, &command);
    let watch = async {
        assert_eq!(reader.until_event(|event| kind_of(event) == "started").await.len(), 2);
        gate.open();
        assert_eq!(reader.until_event(is_end).await.len(), 1);
    };
    tokio::join!(call, watch);
}

#[tokio::test]
async fn a_cut_stream_is_resumed_without_a_gap_and_without_a_repetition() {
    let server = TestServer::with_config(MISSING_TOOL, &[]).await;
    let session_id = new_session(&server).await;
    failing_calls(&server, &session_id, 50).await;
    let mut pieces = Vec::new();
    for _ in 0..4 {
        let start_after_sequence = Some(pieces.len() as i64);
        let request = v1::StreamSessionRequest { start_after_sequence, ..stream_of(&session_id) };
        let mut reader = Reader::open(&server, request).await;
        reader.snapshot().await;
        pieces.extend(reader.until_event(|_| true).await);
        failing_calls(&server, &session_id, 5).await;
        drop(reader);
    }
    close(&server, &session_id).await;
    let start_after_sequence = Some(pieces.len() as i64);
    let request = v1::StreamSessionRequest { start_after_sequence, ..stream_of(&session_id) };
    let (rest, end) = Reader::open(&server, request).await.rest().await;
    assert!(end.is_none(), "{end:?}");
    pieces.extend(rest);
    assert_eq!(pieces, log_of(&server, &session_id).await);
    assert_eq!(sequences(&pieces), (1..=211).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_trimmed_log_signals_its_gap_or_fails() {
    let settings = [("session-events-max", "1000"), ("sweep-interval", "100ms")];
    let server = TestServer::with_config(MISSING_TOOL, &settings).await;
    let session_id = new_session(&server).await;
    failing_calls(&server, &session_id, 340).await;
    let after = |sequence| v1::StreamSessionRequest {
        start_after_sequence: Some(sequence),
        ..replay_of(&session_id)
    };
    // The newest 1,000 of 1,020 are kept.
    trimmed_to(&server, &session_id, 21).await;
    let mut reader = Reader::open(&server, after(0)).await;
    assert_eq!(reader.snapshot().await.first_sequence, 21);
    let gap = |control: &Control| match control {
        Control::Gap(gap) => Some((gap.from_sequence, gap.to_sequence)),
        _ => None,
    };
    assert_eq!(reader.until_control(gap).await, (Vec::new(), (1, 20)));
    let (events, end) = reader.rest().await;
    assert!(end.is_none(), "{end:?}");
    assert_eq!(sequences(&events), (21..=1020).collect::<Vec<_>>());
    let fail = v1::StreamSessionRequest { on_gap: v1::OnGap::Fail.into(), ..after(19) };
    let status = stream_error(&server, fail).await;
    check_reason(&status, Code::OutOfRange, "SEQUENCE_TRIMMED");
    let fail = v1::StreamSessionRequest { on_gap: v1::OnGap::Fail.into(), ..after(20) };
    let (events, end) = Reader::open(&server, fail).await.rest().await;
    assert_eq!((events.len(), end.is_none()), (1000, true), "nothing is missing after 20");
    let unset =
        v1::StreamSessionRequest { on_gap: v1::OnGap::Fail.into(), ..replay_of(&session_id) };
    let (events, end) = Reader::open(&server, unset).await.rest().await;
    assert_eq!((events.len(), end.is_none()), (1000, true), "unset is from the oldest");
    failing_calls(&server, &session_id, 1).await;
    // Three more events. A sweep trims those that it finds, and what is trimmed doesn't come back.
    let first = session_now(&server, &session_id).await.first_sequence;
    assert!((21..=24).contains(&first), "{first}");
    trimmed_to(&server, &session_id, 24).await;
}

/// Waits until the oldest event of a log is this one. Sweeps on the way there only move it forward.
async fn trimmed_to(server: &TestServer, session_id: &str, first_sequence: i64) {
    let trimmed = async {
        let mut first = 0;
        while first < first_sequence {
            let now = session_now(server, session_id).await.first_sequence;
            assert!((first..=first_sequence).contains(&now), "{now} after {first}");
            first = now;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(&format!("a log that begins at {first_sequence}"), trimmed).await;
}
