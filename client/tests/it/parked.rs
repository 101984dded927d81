//! Handles to background tasks.

use std::time::Duration;

use callpark_client::{Code, OutputOptions, Reason, WaitLimit, v1};
use callpark_proto::v1::read_output_request::Position;
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::time::Instant;

use crate::{
    fake::{Fake, Play},
    story::{refusal, seconds, unavailable},
};

fn running() -> v1::WaitResponse {
    v1::WaitResponse { still_running: true, ..Default::default() }
}

fn ended() -> v1::WaitResponse {
    v1::WaitResponse::default()
}

fn waits(fake: &Fake) -> Vec<i64> {
    fake.wait.requests().iter().map(|asked| asked.wait.as_ref().unwrap().seconds).collect()
}

#[tokio::test(start_paused = true)]
async fn an_unbounded_wait_is_a_chain_of_waits_that_proxies_let_pass() {
    let fake = Fake::start();
    fake.wait.plays([
        Play::After(seconds(45), running()),
        Play::After(seconds(45), running()),
        Play::After(seconds(32), ended()),
    ]);
    let answer = fake.client().tasks().handle("bg-1").wait(WaitLimit::Unbounded).await.unwrap();
    assert!(!answer.still_running);
    assert_eq!(answer.waited.unwrap().seconds, 122);
    assert_eq!(waits(&fake), [45, 45, 45]);
    assert!(fake.wait.requests().iter().all(|asked| !asked.acknowledge));
}

#[tokio::test(start_paused = true)]
async fn a_limited_wait_ends_at_its_limit() {
    let fake = Fake::start();
    fake.wait.plays([
        Play::After(seconds(45), running()),
        Play::After(Duration::from_secs_f64(35.01), running()),
    ]);
    let began = Instant::now();
    let call = fake.client().tasks().handle("bg-1");
    let answer = call.wait_and_acknowledge(seconds(80)).await.unwrap();
    assert!(answer.still_running);
    assert_eq!(began.elapsed().as_secs(), 80);
    assert_eq!(waits(&fake)[0], 45);
    assert!((34..=35).contains(&waits(&fake)[1]));
    assert!(fake.wait.requests().iter().all(|asked| asked.acknowledge));
}

#[tokio::test(start_paused = true)]
async fn a_wait_of_zero_sends_one_request() {
    let fake = Fake::start();
    fake.wait.plays([Play::Answer(running())]);
    let call = fake.client().tasks().handle("bg-1");
    assert!(call.wait(Duration::ZERO).await.unwrap().still_running);
    assert_eq!(waits(&fake), [0]);
}

#[tokio::test(start_paused = true)]
async fn a_wait_survives_ten_failures_in_a_row_and_any_number_between_answers() {
    let fake = Fake::start();
    for _ in 0..3 {
        fake.wait.plays((0..10).map(|_| Play::Fail(unavailable())));
        fake.wait.plays([Play::After(seconds(45), running())]);
    }
    fake.wait.plays([Play::Cut, Play::After(seconds(1), ended())]);
    assert!(
        !fake
            .client()
            .tasks()
            .handle("bg-1")
            .wait(WaitLimit::Unbounded)
            .await
            .unwrap()
            .still_running
    );

    fake.wait.plays((0..11).map(|_| Play::Fail(unavailable())));
    let error = fake.client().tasks().handle("bg-1").wait(WaitLimit::Unbounded).await.unwrap_err();
    assert_eq!(error.attempts(), 11);
}

#[tokio::test(start_paused = true)]
async fn an_early_answer_is_not_followed_by_a_request_at_once() {
    let fake = Fake::start();
    fake.wait.plays((0..50).map(|_| Play::Answer(running())));
    fake.wait.plays([Play::Answer(ended())]);
    let began = Instant::now();
    fake.client().tasks().handle("bg-1").wait(WaitLimit::Unbounded).await.unwrap();
    assert!(began.elapsed() >= seconds(5), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_answer_arrives_before_the_deadline() {
    let fake = Fake::start();
    fake.wait.plays([Play::After(Duration::from_millis(9_800), running())]);
    let client = fake.client().with_deadline(seconds(10));
    assert!(client.tasks().handle("bg-1").wait(WaitLimit::Unbounded).await.unwrap().still_running);
    assert_eq!(waits(&fake).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_limited_wait_ends_in_time_if_the_server_is_unreachable() {
    let fake = Fake::start();
    let away = || refusal(Code::Unavailable, Reason::StoreUnavailable, Some(seconds(3)));
    fake.wait.plays((0..10).map(|_| Play::Fail(away())));
    let began = Instant::now();
    let call = fake.client().tasks().handle("bg-1");
    let error = call.wait(seconds(2)).await.unwrap_err();
    assert_eq!(error.reason(), Some(&Reason::StoreUnavailable));
    assert!(began.elapsed() <= seconds(7), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_cancel_has_a_reason_and_is_safe_to_repeat() {
    let fake = Fake::start();
    fake.cancel.plays([Play::Cut, Play::Answer(v1::CancelResponse::default())]);
    fake.client().tasks().handle("bg-1").kill("enough").await.unwrap();
    let asked = fake.cancel.requests();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0], asked[1]);
    assert!(asked[0].force && !asked[0].request_id.is_empty());
    assert_eq!((asked[0].background_id.as_str(), asked[0].reason.as_str()), ("bg-1", "enough"));
}

fn output(offset: i64, data: &'static str, eof: bool) -> Play<v1::ReadOutputResponse> {
    let next_offset = offset + i64::try_from(data.len()).unwrap();
    let answer = v1::ReadOutputResponse {
        data: data.into(),
        offset,
        next_offset,
        total_bytes: next_offset,
        dropped_bytes: 0,
        eof,
    };
    Play::Answer(answer)
}

fn positions(fake: &Fake) -> Vec<Position> {
    fake.read_output.requests().iter().map(|asked| asked.position.unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn output_is_followed_by_offset_until_the_task_has_ended() {
    let fake = Fake::start();
    fake.read_output.plays([
        output(0, "one ", false),
        Play::Cut,
        Play::Fail(unavailable()),
        output(4, "two ", false),
        output(8, "", false),
        output(100, "three", false),
        output(105, "", true),
    ]);
    let reader = fake.client().tasks().handle("bg-1").output(OutputOptions::default());
    let chunks: Vec<_> = reader.try_collect().await.unwrap();
    let read: Vec<_> = chunks
        .iter()
        .map(|chunk| {
            let data = std::str::from_utf8(&chunk.data).unwrap();
            (chunk.offset, chunk.skipped_bytes, data, chunk.eof)
        })
        .collect();
    assert_eq!(
        read,
        [
            (0, 0, "one ", false),
            (4, 0, "two ", false),
            (100, 92, "three", false),
            (105, 0, "", true)
        ]
    );
    assert_eq!(positions(&fake), [0, 4, 4, 4, 8, 8, 105].map(Position::Offset));
    assert!(fake.read_output.requests().iter().all(|asked| asked.wait.unwrap().seconds > 0));
}

#[tokio::test(start_paused = true)]
async fn after_the_last_lines_the_following_output_is_read() {
    let fake = Fake::start();
    fake.read_output.plays([output(50, "tail\n", false), output(55, "more\n", true)]);
    let options = OutputOptions::new().with_tail_lines(3);
    let reader = fake.client().tasks().handle("bg-1").output(options);
    let chunks: Vec<_> = reader.try_collect().await.unwrap();
    assert_eq!(chunks.iter().map(|chunk| chunk.skipped_bytes).collect::<Vec<_>>(), [0, 0]);
    assert_eq!(positions(&fake), [Position::TailLines(3), Position::Offset(55)]);
}

#[tokio::test(start_paused = true)]
async fn without_follow_the_output_so_far_is_read() {
    let fake = Fake::start();
    fake.read_output.plays([output(0, "so far", false), output(6, "", false)]);
    let options = OutputOptions::new().with_follow(false);
    let reader = fake.client().tasks().handle("bg-1").output(options);
    assert_eq!(reader.count().await, 1);
    assert!(fake.read_output.requests().iter().all(|asked| asked.wait.unwrap().seconds == 0));
}

#[tokio::test(start_paused = true)]
async fn an_error_ends_the_output() {
    let fake = Fake::start();
    fake.read_output.plays([
        output(0, "one", false),
        Play::Fail(refusal(Code::NotFound, Reason::TaskNotFound, None)),
    ]);
    let mut reader = fake.client().tasks().handle("bg-1").output(OutputOptions::default());
    assert!(reader.next().await.unwrap().is_ok());
    assert_eq!(reader.next().await.unwrap().unwrap_err().reason(), Some(&Reason::TaskNotFound));
    assert!(reader.next().await.is_none());
}

fn ids(ids: std::ops::Range<u32>) -> Vec<String> {
    ids.map(|id| format!("bg-{id}")).collect()
}

fn tasks(ids: &[String]) -> Vec<v1::Task> {
    ids.iter().map(|id| v1::Task { background_id: id.clone(), ..Default::default() }).collect()
}

fn many(settled: &[String], pending: &[String]) -> v1::WaitManyResponse {
    v1::WaitManyResponse { settled: tasks(settled), pending: tasks(pending), waited: None }
}

#[tokio::test(start_paused = true)]
async fn all_of_many_are_waited_for_in_chunks_and_chains() {
    let fake = Fake::start();
    let all = ids(0..250);
    fake.wait_many.plays([
        Play::After(seconds(45), many(&all[..99], &all[99..100])),
        Play::After(seconds(1), many(&all[..100], &[])),
        Play::Cut,
        Play::Answer(many(&all[100..200], &[])),
        Play::Answer(many(&all[200..], &[])),
    ]);
    let answer = fake.client().tasks().wait_all(&all, WaitLimit::Unbounded).await.unwrap();
    assert_eq!(answer.settled, tasks(&all));
    assert!(answer.pending.is_empty());
    let asked = fake.wait_many.requests();
    assert_eq!(asked[0].background_ids, all[..100]);
    assert_eq!(asked[1].background_ids, all[..100]);
    assert_eq!(asked[4].background_ids, all[200..]);
    assert!(asked.iter().all(|asked| asked.mode() == v1::WaitMode::All));
}

#[tokio::test(start_paused = true)]
async fn all_of_many_have_one_common_limit() {
    let fake = Fake::start();
    let all = ids(0..150);
    fake.wait_many.plays([
        Play::After(Duration::from_secs_f64(20.01), many(&all[..50], &all[50..100])),
        Play::Answer(many(&all[100..120], &all[120..])),
    ]);
    let began = Instant::now();
    let answer = fake.client().tasks().wait_all(&all, seconds(20)).await.unwrap();
    assert_eq!((answer.settled.len(), answer.pending.len()), (70, 80));
    assert_eq!(began.elapsed().as_secs(), 20);
    assert_eq!(fake.wait_many.requests()[1].wait.unwrap().seconds, 0);
}

#[tokio::test(start_paused = true)]
async fn one_of_many_ends_the_wait_for_all_of_them() {
    let fake = Fake::start();
    let all = ids(0..150);
    fake.wait_many.plays([
        Play::After(seconds(45), many(&[], &all[..100])),
        Play::After(seconds(30), many(&all[100..101], &all[101..])),
        Play::Answer(many(&[], &all[..100])),
    ]);
    let began = Instant::now();
    let answer = fake.client().tasks().wait_any(&all, WaitLimit::Unbounded).await.unwrap();
    assert_eq!(answer.settled, tasks(&all[100..101]));
    assert_eq!(answer.pending.len(), 149);
    assert_eq!(began.elapsed().as_secs(), 30);
    let asked = fake.wait_many.requests();
    assert_eq!(asked.len(), 3);
    assert_eq!(
        asked[2].background_ids,
        all[..100],
        "the chunks without an answer are asked for their state"
    );
    assert_eq!(asked[2].wait.unwrap().seconds, 0);
}

#[tokio::test(start_paused = true)]
async fn too_many_to_wait_for_one_of_are_refused() {
    let error = Fake::start()
        .client()
        .tasks()
        .wait_any(&ids(0..6_401), WaitLimit::Unbounded)
        .await
        .unwrap_err();
    assert_eq!((error.code(), error.attempts()), (Code::InvalidArgument, 0));
}
