//! Streams of one call.

use callpark_client::{Code, v1};
use callpark_proto::v1::session_event::Payload;

use crate::{
    fake::{Fake, Step},
    story::{
        Notes, Steps, draining, event, event_with, in_epoch, refusal, seconds, send, told,
        unavailable,
    },
};

fn request() -> v1::StreamToolRequest {
    v1::StreamToolRequest { tool: "build".to_owned(), ..Default::default() }
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
    let told = told(&mut fake.client().tools().stream(request())).await;
    (told, fake)
}

#[tokio::test(start_paused = true)]
async fn ends_after_the_result() {
    let (told, fake) = play([vec![send([event(4), event(7)]), send([finished(9)])]]).await;
    assert_eq!(told, ["event 4", "event 7", "finished 9"]);
    assert_eq!(fake.stream_tool.requests().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn after_a_cut_the_same_request_attaches_to_the_same_call() {
    let fake = Fake::start();
    fake.stream_tool.plays([
        vec![send([event(4), event(7)]), Step::Cut],
        vec![send([event(4), event(7), event(8)]), Step::Fail(unavailable())],
        vec![send([event(4), event(7), event(8), parked(11)])],
    ]);
    let mut stream = fake.client().tools().stream(request());
    assert_eq!(
        told(&mut stream).await,
        ["event 4", "event 7", "resumed after 7", "event 8", "resumed after 8", "parked 11"]
    );
    assert_eq!(stream.duplicates(), 5);
    let id = stream.request_id();
    assert_eq!(uuid::Uuid::parse_str(id).unwrap().get_version_num(), 4);
    let sent = v1::StreamToolRequest { request_id: id.to_owned(), ..request() };
    assert_eq!(fake.stream_tool.requests(), vec![sent; 3]);
}

#[tokio::test(start_paused = true)]
async fn an_ok_before_the_result_is_a_cut() {
    let (told, fake) =
        play([vec![], vec![send([event(1)])], vec![send([event(1), finished(2)])]]).await;
    assert_eq!(told, ["event 1", "resumed after 1", "finished 2"]);
    assert_eq!(fake.stream_tool.requests().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_drain_resumes_after_the_time_that_it_names() {
    let fake = Fake::start();
    fake.stream_tool.plays([
        vec![send([event(1)]), draining(1, 3)],
        vec![send([event(1), finished(2)]), draining(2, 3)],
    ]);
    let notes = Notes::default();
    let client = fake.client().with_on_retry(notes.taker());
    let told = told(&mut client.tools().stream(request())).await;
    assert_eq!(told, ["event 1", "resumed after 1", "finished 2"]);
    assert_eq!(notes.delays(), [seconds(3)]);
}

#[tokio::test(start_paused = true)]
async fn another_epoch_begins_the_call_anew() {
    let (told, _) = play([
        vec![send([event(5), event(6)]), Step::Cut],
        vec![send([in_epoch("epoch-2", event(3)), in_epoch("epoch-2", finished(4))])],
    ])
    .await;
    assert_eq!(
        told,
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
async fn a_refused_start_is_told_once() {
    let (told, fake) =
        play([vec![Step::Fail(refusal(Code::ResourceExhausted, "TASK_LIMIT", Some(seconds(1))))]])
            .await;
    assert_eq!(told, ["Server ResourceExhausted TASK_LIMIT"]);
    assert_eq!(fake.stream_tool.requests().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_that_is_cut_is_tried_again() {
    let fake = Fake::start();
    fake.stream_tool.plays([vec![Step::Cut], vec![Step::Hang], vec![]]);
    let request = v1::StreamToolRequest { dry_run: true, ..request() };
    assert!(told(&mut fake.client().tools().stream(request)).await.is_empty());
    assert_eq!(fake.stream_tool.requests().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_ends_without_an_item_or_with_its_error() {
    for (step, expected) in [
        (vec![], vec![]),
        (
            vec![Step::Fail(refusal(Code::InvalidArgument, "INVALID_FIELD", None))],
            vec!["Server InvalidArgument INVALID_FIELD"],
        ),
    ] {
        let fake = Fake::start();
        fake.stream_tool.plays([step]);
        let request = v1::StreamToolRequest { dry_run: true, ..request() };
        assert_eq!(told(&mut fake.client().tools().stream(request)).await, expected);
    }
}
