//! Streams of one call.

use callpark_client::{Code, Reason, RunTool, v1};
use callpark_proto::v1::session_event::Payload;

use crate::{
    fake::{Fake, Step},
    story::{
        Notes, Steps, delivered, draining, event, event_with, in_epoch, refusal, seconds, send,
        unavailable,
    },
};

fn request() -> RunTool {
    RunTool::new("build")
}

fn finished(sequence: i64) -> v1::SessionEvent {
    event_with(sequence, Payload::ToolCallFinished(Box::default()))
}

fn parked(sequence: i64) -> v1::SessionEvent {
    event_with(sequence, Payload::ToolCallParked(v1::ToolCallParked::default()))
}

async fn play(script: impl IntoIterator<Item = Steps>) -> (Vec<String>, Fake) {
    let fake = Fake::start();
    fake.stream_tool.plays(script);
    let items = delivered(&mut fake.client().tools().stream(request())).await;
    (items, fake)
}

#[tokio::test(start_paused = true)]
async fn ends_after_the_result() {
    let (items, fake) = play([vec![send([event(4), event(7)]), send([finished(9)])]]).await;
    assert_eq!(items, ["event 4", "event 7", "finished 9"]);
    assert_eq!(fake.stream_tool.requests().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn after_an_interruption_the_same_request_attaches_to_the_same_call() {
    let fake = Fake::start();
    fake.stream_tool.plays([
        vec![send([event(4), event(7)]), Step::Cut],
        vec![send([event(4), event(7), event(8)]), Step::Fail(unavailable())],
        vec![send([event(4), event(7), event(8), parked(11)])],
    ]);
    let mut stream = fake.client().tools().stream(request());
    assert_eq!(
        delivered(&mut stream).await,
        ["event 4", "event 7", "resumed after 7", "event 8", "resumed after 8", "parked 11"]
    );
    assert_eq!(stream.duplicates(), 5);
    let id = stream.request_id();
    assert_eq!(uuid::Uuid::parse_str(id).unwrap().get_version_num(), 4);
    let sent = v1::RunToolRequest::from(request().request_id(id));
    assert_eq!(fake.stream_tool.requests(), vec![sent; 3]);
}

#[tokio::test(start_paused = true)]
async fn an_ok_before_the_result_is_an_interruption() {
    let (items, fake) =
        play([vec![], vec![send([event(1)])], vec![send([event(1), finished(2)])]]).await;
    assert_eq!(items, ["event 1", "resumed after 1", "finished 2"]);
    assert_eq!(fake.stream_tool.requests().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_drain_resumes_after_the_requested_delay() {
    let fake = Fake::start();
    fake.stream_tool.plays([
        vec![send([event(1)]), draining(1, 3)],
        vec![send([event(1), finished(2)]), draining(2, 3)],
    ]);
    let notes = Notes::default();
    let client = fake.client().with_on_retry(notes.taker());
    let items = delivered(&mut client.tools().stream(request())).await;
    assert_eq!(items, ["event 1", "resumed after 1", "finished 2"]);
    assert_eq!(notes.delays(), [seconds(3)]);
}

#[tokio::test(start_paused = true)]
async fn a_new_epoch_restarts_the_events_of_the_call() {
    let (items, _) = play([
        vec![send([event(5), event(6)]), Step::Cut],
        vec![send([in_epoch("epoch-2", event(3)), in_epoch("epoch-2", finished(4))])],
    ])
    .await;
    assert_eq!(
        items,
        [
            "event 5",
            "event 6",
            "resumed after 6",
            "epoch-1 became epoch-2",
            "event 3",
            "finished 4"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_refused_start_is_reported_once() {
    let (items, fake) = play([vec![Step::Fail(refusal(
        Code::ResourceExhausted,
        Reason::TaskLimit,
        Some(seconds(1)),
    ))]])
    .await;
    assert_eq!(items, ["Server ResourceExhausted TASK_LIMIT"]);
    assert_eq!(fake.stream_tool.requests().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_dry_run_is_retried() {
    let fake = Fake::start();
    fake.stream_tool.plays([vec![Step::Cut], vec![Step::Hang], vec![]]);
    let request = request().dry_run();
    assert!(delivered(&mut fake.client().tools().stream(request)).await.is_empty());
    assert_eq!(fake.stream_tool.requests().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_ends_without_an_item_or_with_its_error() {
    for (step, expected) in [
        (vec![], vec![]),
        (
            vec![Step::Fail(refusal(Code::InvalidArgument, Reason::InvalidField, None))],
            vec!["Server InvalidArgument INVALID_FIELD"],
        ),
    ] {
        let fake = Fake::start();
        fake.stream_tool.plays([step]);
        let request = request().dry_run();
        assert_eq!(delivered(&mut fake.client().tools().stream(request)).await, expected);
    }
}
