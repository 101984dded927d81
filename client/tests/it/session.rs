//! Session streams: their items, where they resume and where they end.

use callpark_client::{Code, Reason, v1};

use crate::{
    fake::{Fake, Step},
    story::{
        EPOCH, Steps, caught_up, delivered, draining, event, gap, in_epoch, other, refusal, send,
        shutdown, snapshot, snapshot_of, unavailable,
    },
};

pub(crate) fn request() -> v1::StreamSessionRequest {
    v1::StreamSessionRequest { session_id: "ses-1".to_owned(), ..Default::default() }
}

/// Plays the script to a client that streams a whole session. Returns descriptions of its items.
pub(crate) async fn play(script: impl IntoIterator<Item = Steps>) -> (Vec<String>, Fake) {
    play_for(request(), script).await
}

async fn play_for(
    request: v1::StreamSessionRequest,
    script: impl IntoIterator<Item = Steps>,
) -> (Vec<String>, Fake) {
    let fake = Fake::start();
    fake.stream_session.plays(script);
    let items = delivered(&mut fake.client().sessions().events(request)).await;
    (items, fake)
}

pub(crate) fn starts(fake: &Fake) -> Vec<Option<i64>> {
    fake.stream_session.requests().iter().map(|request| request.start_after_sequence).collect()
}

#[tokio::test(start_paused = true)]
async fn an_uninterrupted_stream_is_delivered_unchanged() {
    let steps = vec![snapshot(2), send([event(1), event(2)]), caught_up(2), send([shutdown(3)])];
    let (items, fake) = play([steps]).await;
    assert_eq!(items, ["snapshot 2", "event 1", "event 2", "caught up 2", "shutdown 3"]);
    assert_eq!(fake.stream_session.requests(), [request()]);
}

#[tokio::test(start_paused = true)]
async fn an_interruption_after_some_events_resumes_after_the_last() {
    let asked = v1::StreamSessionRequest { on_gap: v1::OnGap::Signal.into(), ..request() };
    let (items, fake) = play_for(
        asked.clone(),
        [
            vec![snapshot(2), send([event(1)]), send([event(2)]), Step::Cut],
            vec![snapshot(4), send([event(3), shutdown(4)])],
        ],
    )
    .await;
    assert_eq!(
        items,
        [
            "snapshot 2",
            "event 1",
            "event 2",
            "resumed after 2",
            "snapshot 4",
            "event 3",
            "shutdown 4"
        ]
    );
    let resumed = v1::StreamSessionRequest {
        start_after_sequence: Some(2),
        stream_epoch: EPOCH.to_owned(),
        ..asked.clone()
    };
    assert_eq!(fake.stream_session.requests(), [asked, resumed]);
}

#[tokio::test(start_paused = true)]
async fn duplicate_events_are_dropped_and_counted() {
    let fake = Fake::start();
    fake.stream_session.plays([
        vec![snapshot(0), send([event(1), event(2), event(2), event(1)]), Step::Cut],
        vec![snapshot(3), send([event(1), event(2), event(3)]), send([shutdown(4)])],
    ]);
    let mut stream = fake.client().sessions().events(request());
    assert_eq!(
        delivered(&mut stream).await,
        [
            "snapshot 0",
            "event 1",
            "event 2",
            "resumed after 2",
            "snapshot 3",
            "event 3",
            "shutdown 4"
        ]
    );
    assert_eq!(stream.duplicates(), 4);
    assert_eq!(stream.attempts(), 2);
    assert_eq!(stream.cursor(), Some(4));
    assert_eq!(stream.stream_epoch(), EPOCH);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_payload_is_skipped_and_is_not_a_gap() {
    let unknown = v1::SessionEvent { payload: None, ..event(2) };
    let (items, fake) = play([
        vec![snapshot(0), send([event(1), unknown]), Step::Cut],
        vec![snapshot(0), send([event(3), shutdown(4)])],
    ])
    .await;
    assert_eq!(
        items,
        ["snapshot 0", "event 1", "resumed after 2", "snapshot 0", "event 3", "shutdown 4"]
    );
    assert_eq!(starts(&fake), [None, Some(2)]);
}

#[tokio::test(start_paused = true)]
async fn the_last_of_all_sequences_is_followed_by_nothing() {
    let (last, first) = (i64::MAX, i64::MIN);
    let steps = vec![
        snapshot(last),
        send([event(1), event(last), event(last), event(first)]),
        gap(last, last),
        gap(first, last),
        gap(5, 3),
        caught_up(last),
        Step::Cut,
    ];
    let refused = Step::Fail(refusal(Code::PermissionDenied, other("PERMISSION_DENIED"), None));
    let (items, fake) = play([steps, vec![snapshot(last), gap(first, first), refused]]).await;
    let expected = [
        format!("snapshot {last}"),
        "event 1".to_owned(),
        format!("gap 2 to {}", last - 1),
        format!("event {last}"),
        format!("caught up {last}"),
        format!("resumed after {last}"),
        format!("snapshot {last}"),
    ];
    assert_eq!(items[..expected.len()], expected);
    assert_eq!(items.len(), expected.len() + 1, "the error ends it: {items:?}");
    assert_eq!(starts(&fake), [None, Some(last)]);
}

#[tokio::test(start_paused = true)]
async fn a_gap_is_delivered_and_resumed_after() {
    let asked = v1::StreamSessionRequest { start_after_sequence: Some(3), ..request() };
    let (items, fake) = play_for(
        asked,
        [vec![snapshot(9), gap(4, 7), Step::Cut], vec![snapshot(9), send([event(8), shutdown(9)])]],
    )
    .await;
    assert_eq!(
        items,
        ["snapshot 9", "gap 4 to 7", "resumed after 7", "snapshot 9", "event 8", "shutdown 9"]
    );
    assert_eq!(starts(&fake), [Some(3), Some(7)]);
}

#[tokio::test(start_paused = true)]
async fn an_unreported_gap_is_delivered_too() {
    let (items, _) =
        play([vec![snapshot(0), send([event(1), event(4)]), send([shutdown(5)])]]).await;
    assert_eq!(items, ["snapshot 0", "event 1", "gap 2 to 3", "event 4", "shutdown 5"]);
}

#[tokio::test(start_paused = true)]
async fn events_that_a_filter_excludes_are_not_gaps_and_the_filter_is_sent_again() {
    let delta = i32::from(v1::PayloadKind::AssistantDelta);
    let shut = i32::from(v1::PayloadKind::SessionShutdown);
    let asked = v1::StreamSessionRequest { payloads: vec![delta], ..request() };
    let (items, fake) = play_for(
        asked,
        [
            vec![snapshot(8), send([event(2), event(5)]), caught_up(8), Step::Cut],
            vec![snapshot(9), send([event(9)]), caught_up(9), send([shutdown(12)])],
        ],
    )
    .await;
    assert_eq!(
        items,
        [
            "snapshot 8",
            "event 2",
            "event 5",
            "caught up 8",
            "resumed after 8",
            "snapshot 9",
            "event 9",
            "caught up 9"
        ],
        "the event that marks the end was not requested, and is not delivered"
    );
    for asked in fake.stream_session.requests() {
        assert_eq!(asked.payloads, [delta, shut]);
    }
    assert_eq!(starts(&fake), [None, Some(8)]);
}

#[tokio::test(start_paused = true)]
async fn a_new_epoch_that_the_server_refuses_is_reported_and_read_from_its_start() {
    let mismatch = refusal(Code::OutOfRange, Reason::StreamEpochMismatch, None);
    let open = v1::SessionState::Open;
    let (items, fake) = play([
        vec![snapshot(2), send([event(1), event(2)]), Step::Cut],
        vec![Step::Fail(mismatch)],
        vec![
            snapshot_of("epoch-2", 1, open),
            send([in_epoch("epoch-2", event(1))]),
            send([in_epoch("epoch-2", shutdown(2))]),
        ],
    ])
    .await;
    assert_eq!(
        items,
        [
            "snapshot 2",
            "event 1",
            "event 2",
            "resumed",
            "epoch-1 became epoch-2",
            "snapshot 1",
            "event 1",
            "shutdown 2"
        ]
    );
    assert_eq!(starts(&fake), [None, Some(2), None]);
    let epochs: Vec<_> =
        fake.stream_session.requests().into_iter().map(|request| request.stream_epoch).collect();
    assert_eq!(epochs, ["", EPOCH, ""]);
}

#[tokio::test(start_paused = true)]
async fn a_new_epoch_that_the_server_only_reports_is_read_from_its_start() {
    let open = v1::SessionState::Open;
    let in_second = |sequence| in_epoch("epoch-2", event(sequence));
    let (items, fake) = play([
        vec![snapshot(2), send([event(1), event(2)]), Step::Cut],
        vec![snapshot_of("epoch-2", 4, open), send([in_second(3), in_second(4)]), Step::Hang],
        vec![
            snapshot_of("epoch-2", 4, open),
            send([in_second(1), in_second(2), in_second(3), in_second(4)]),
            send([in_epoch("epoch-2", shutdown(5))]),
        ],
    ])
    .await;
    assert_eq!(
        items,
        [
            "snapshot 2",
            "event 1",
            "event 2",
            "resumed after 2",
            "epoch-1 became epoch-2",
            "resumed",
            "snapshot 4",
            "event 1",
            "event 2",
            "event 3",
            "event 4",
            "shutdown 5"
        ]
    );
    assert_eq!(starts(&fake), [None, Some(2), None]);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_epoch_in_the_request_is_an_error_for_the_caller() {
    let asked = v1::StreamSessionRequest {
        start_after_sequence: Some(7),
        stream_epoch: "epoch-0".to_owned(),
        ..request()
    };
    let mismatch = refusal(Code::OutOfRange, Reason::StreamEpochMismatch, None);
    let (items, fake) = play_for(asked, [vec![Step::Fail(mismatch)]]).await;
    assert_eq!(items, ["Server OutOfRange STREAM_EPOCH_MISMATCH"]);
    assert_eq!(starts(&fake), [Some(7)]);
}

#[tokio::test(start_paused = true)]
async fn an_ok_before_the_end_is_an_interruption() {
    let (items, fake) = play([
        vec![snapshot(1), send([event(1)]), caught_up(1)],
        vec![snapshot(1), caught_up(1), send([shutdown(2)])],
    ])
    .await;
    assert_eq!(
        items,
        [
            "snapshot 1",
            "event 1",
            "caught up 1",
            "resumed after 1",
            "snapshot 1",
            "caught up 1",
            "shutdown 2"
        ]
    );
    assert_eq!(starts(&fake), [None, Some(1)]);
}

#[tokio::test(start_paused = true)]
async fn without_follow_the_stream_ends_when_it_has_caught_up() {
    let asked = v1::StreamSessionRequest { follow: Some(false), ..request() };
    let (items, fake) = play_for(
        asked,
        [vec![snapshot(2), send([event(1)])], vec![snapshot(2), send([event(2)]), caught_up(2)]],
    )
    .await;
    assert_eq!(
        items,
        ["snapshot 2", "event 1", "resumed after 1", "snapshot 2", "event 2", "caught up 2"]
    );
    assert_eq!(starts(&fake), [None, Some(1)]);
}

#[tokio::test(start_paused = true)]
async fn the_stream_of_a_closed_session_ends_when_it_has_caught_up() {
    let asked = v1::StreamSessionRequest { start_after_sequence: Some(9), ..request() };
    let closed = vec![snapshot_of(EPOCH, 9, v1::SessionState::Closed), caught_up(9)];
    let (items, fake) = play_for(asked, [closed]).await;
    assert_eq!(items, ["snapshot 9", "caught up 9"]);
    assert_eq!(starts(&fake).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn nothing_follows_the_last_event_whatever_happens_to_the_connection() {
    for ending in [Step::Cut, Step::Hang, Step::Fail(unavailable()), draining(1, 1)] {
        let (items, fake) = play([vec![snapshot(0), send([shutdown(1)]), ending]]).await;
        assert_eq!(items, ["snapshot 0", "shutdown 1"]);
        assert_eq!(starts(&fake).len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_fails_before_its_first_event_keeps_its_initial_cursor() {
    let asked = v1::StreamSessionRequest {
        start_after_sequence: Some(5),
        stream_epoch: EPOCH.to_owned(),
        ..request()
    };
    let (items, fake) = play_for(
        asked.clone(),
        [
            vec![Step::Cut],
            vec![snapshot(6), Step::Cut],
            vec![Step::Cut],
            vec![snapshot(6), send([event(6), shutdown(7)])],
        ],
    )
    .await;
    assert_eq!(items, ["snapshot 6", "resumed after 5", "snapshot 6", "event 6", "shutdown 7"]);
    assert_eq!(fake.stream_session.requests(), vec![asked; 4]);
}

#[tokio::test(start_paused = true)]
async fn from_now_is_the_time_of_the_first_snapshot() {
    let asked = v1::StreamSessionRequest { from_now: true, ..request() };
    let (items, fake) = play_for(
        asked,
        [
            vec![snapshot(40), Step::Cut],
            vec![snapshot(42), send([event(41), event(42)]), send([shutdown(43)])],
        ],
    )
    .await;
    assert_eq!(
        items,
        ["snapshot 40", "resumed after 40", "snapshot 42", "event 41", "event 42", "shutdown 43"]
    );
    let asked: Vec<_> = fake.stream_session.requests();
    assert!(asked[0].from_now && !asked[1].from_now);
    assert_eq!(starts(&fake), [None, Some(40)]);
}
