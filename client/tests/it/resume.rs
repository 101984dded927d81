//! Session streams: the kinds of interruptions, and the number and times of resumptions.

use callpark_client::{Code, Reason, RetryBudget, v1};
use callpark_proto::v1::session_event::Payload;
use futures::StreamExt as _;
use tokio::time::{Instant, sleep};

use crate::{
    fake::{Fake, Play, Step},
    session::{play, request, starts},
    story::{
        Notes, caught_up, delivered, delivered_next, draining, event, event_with, heartbeat, other,
        refusal, seconds, send, shutdown, snapshot, unavailable,
    },
};

#[tokio::test(start_paused = true)]
async fn a_drain_resumes_after_the_requested_delay() {
    let fake = Fake::start();
    fake.stream_session.plays([
        vec![snapshot(1), send([event(1)]), draining(1, 7), Step::Hang],
        vec![snapshot(1), send([shutdown(2)])],
    ]);
    let notes = Notes::default();
    let client = fake.client().with_on_retry(notes.taker());
    let items = delivered(&mut client.sessions().events(request())).await;
    assert_eq!(items, ["snapshot 1", "event 1", "resumed after 1", "snapshot 1", "shutdown 2"]);

    let noted = &notes.taken()[0];
    assert_eq!((noted.attempts, noted.budget), (1, Some(RetryBudget::Resume)));
    assert_eq!((noted.delay, noted.after_sequence), (seconds(7), Some(1)));
    let asked = fake.stream_session.asked();
    assert!(asked[1].at - asked[0].at >= seconds(7));
}

#[tokio::test(start_paused = true)]
async fn drains_of_a_healthy_stream_draw_on_no_budget() {
    let fake = Fake::start();
    let idle =
        || vec![snapshot(0), caught_up(0), Step::Wait(seconds(15)), heartbeat(), draining(0, 1)];
    fake.stream_session.plays((0..25).map(|_| idle()));
    fake.stream_session.plays([vec![snapshot(0), send([shutdown(1)])]]);
    let notes = Notes::default();
    let client = fake.client().with_on_retry(notes.taker());
    let items = delivered(&mut client.sessions().events(request())).await;
    assert_eq!(items.last().unwrap(), "shutdown 1");
    assert_eq!(notes.taken().len(), 25);
    assert!(notes.taken().iter().all(|noted| noted.budget.is_none()));
}

#[tokio::test(start_paused = true)]
async fn three_missed_heartbeats_are_an_interruption() {
    let fake = Fake::start();
    fake.stream_session.plays([
        vec![snapshot(1), send([event(1)]), Step::Hang],
        vec![snapshot(1), send([shutdown(2)])],
    ]);
    let mut stream = fake.client().sessions().events(request());
    assert_eq!(delivered_next(&mut stream, 2).await, ["snapshot 1", "event 1"]);
    let silent = Instant::now();
    assert_eq!(delivered(&mut stream).await, ["resumed after 1", "snapshot 1", "shutdown 2"]);
    let interrupted_after = fake.stream_session.asked()[1].at - silent;
    assert!((seconds(45)..seconds(46)).contains(&interrupted_after), "{interrupted_after:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_is_asked_five_times() {
    for silence in [|| vec![Step::Never], || vec![Step::Hang]] {
        let (items, fake) = play((0..5).map(|_| silence())).await;
        assert_eq!(items, ["Silence Unavailable "]);
        assert_eq!(starts(&fake).len(), 5);
    }
}

#[tokio::test(start_paused = true)]
async fn heartbeats_keep_a_silent_stream_alive_and_are_not_delivered() {
    let beats = (0..200).flat_map(|_| [Step::Wait(seconds(15)), heartbeat()]);
    let steps = [snapshot(0)].into_iter().chain(beats).chain([send([shutdown(1)])]).collect();
    let (items, fake) = play([steps]).await;
    assert_eq!(items, ["snapshot 0", "shutdown 1"]);
    assert_eq!(starts(&fake).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_always_ends_early_is_an_error_of_its_own() {
    let (items, fake) = play((0..5).map(|_| vec![])).await;
    assert_eq!(items, ["EndedEarly Unavailable "]);
    assert_eq!(starts(&fake).len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_start_has_five_attempts_whatever_the_resume_budget() {
    let fake = Fake::start();
    fake.stream_session.plays((0..5).map(|_| vec![Step::Fail(unavailable())]));
    let mut stream = fake.client().sessions().events(request());
    let error = stream.next().await.unwrap().unwrap_err();
    assert_eq!(
        (error.code(), error.reason()),
        (Code::Unavailable, Some(&Reason::StoreUnavailable))
    );
    assert_eq!((error.attempts(), stream.attempts()), (5, 5));
    assert!(stream.next().await.is_none(), "nothing follows an error");
    assert!(stream.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn after_ten_resumptions_without_progress_the_stream_fails() {
    let fake = Fake::start();
    fake.stream_session.plays([vec![snapshot(1), send([event(1)]), Step::Cut]]);
    fake.stream_session.plays((0..10).map(|_| vec![snapshot(1), send([event(1)]), Step::Cut]));
    let notes = Notes::default();
    let client = fake.client().with_on_retry(notes.taker());
    let items = delivered(&mut client.sessions().events(request())).await;
    assert_eq!(items.last().unwrap(), "Transport Unavailable ");
    assert_eq!(starts(&fake).len(), 11);
    assert_eq!(notes.taken().len(), 10);
    assert!(notes.taken().iter().all(|noted| noted.budget == Some(RetryBudget::Resume)));
}

#[tokio::test(start_paused = true)]
async fn a_new_sequence_resets_the_resume_budget() {
    let script = (1..=40).map(|sequence| vec![snapshot(0), send([event(sequence)]), Step::Cut]);
    let (items, fake) = play(script.chain([vec![snapshot(0), send([shutdown(41)])]])).await;
    let events = items.iter().filter(|item| item.starts_with("event")).count();
    assert_eq!((events, items.last().unwrap().as_str()), (40, "shutdown 41"));
    assert_eq!(starts(&fake).len(), 41);
}

#[tokio::test(start_paused = true)]
async fn the_delay_of_the_server_is_observed() {
    let fake = Fake::start();
    let away = || Step::Fail(refusal(Code::Unavailable, Reason::NotOwner, Some(seconds(90))));
    fake.stream_session.plays([
        vec![away()],
        vec![snapshot(0), send([event(1)]), away()],
        vec![snapshot(0), send([shutdown(2)])],
    ]);
    let notes = Notes::default();
    let client = fake.client().with_on_retry(notes.taker());
    let items = delivered(&mut client.sessions().events(request())).await;
    assert_eq!(items, ["snapshot 0", "event 1", "resumed after 1", "snapshot 0", "shutdown 2"]);
    assert_eq!(notes.delays(), [seconds(90), seconds(90)]);
    let asked = fake.stream_session.asked();
    assert!(asked[1].at - asked[0].at >= seconds(90));
    assert!(asked[2].at - asked[1].at >= seconds(90));
}

#[tokio::test(start_paused = true)]
async fn no_other_code_is_ever_retried() {
    for code in (1..=16).map(Code::from_i32).filter(|code| *code != Code::Unavailable) {
        let delay = Some(seconds(1));
        for script in [
            vec![Step::Fail(refusal(code, other("SOME_REASON"), delay))],
            vec![snapshot(0), Step::Fail(refusal(code, other("SOME_REASON"), delay))],
        ] {
            let (items, fake) = play([script]).await;
            assert_eq!(items.last().unwrap(), &format!("Server {code:?} SOME_REASON"));
            assert_eq!(starts(&fake).len(), 1, "{code:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_pauses_misses_nothing() {
    let steps = |from: i64| {
        let events = (from..from + 500).map(|sequence| send([event(sequence)]));
        [snapshot(0)].into_iter().chain(events).collect::<Vec<_>>()
    };
    let mut first = steps(1);
    first.push(Step::Cut);
    let mut second = steps(501);
    second.push(send([shutdown(1_001)]));
    let fake = Fake::start();
    fake.stream_session.plays([first, second]);
    let mut stream = fake.client().sessions().events(request());
    let mut items = delivered_next(&mut stream, 3).await;
    sleep(seconds(3_600)).await;
    items.extend(delivered(&mut stream).await);
    let expected: Vec<_> = (1..=1_000).map(|sequence| format!("event {sequence}")).collect();
    items.retain(|item| item.starts_with("event"));
    assert_eq!(items, expected);
}

#[tokio::test(start_paused = true)]
async fn an_unread_stream_delays_neither_other_streams_nor_calls() {
    let fake = Fake::start();
    let large = |sequence| {
        let text = "x".repeat(200 * 1024);
        let delta = v1::AssistantDelta { text };
        let payload = Payload::AssistantDelta(delta);
        send([event_with(sequence, payload)])
    };
    let flood = || [snapshot(0)].into_iter().chain((1..=50).map(large)).collect::<Vec<_>>();
    fake.stream_session.plays([flood(), flood(), vec![snapshot(0), send([shutdown(1)])]]);
    fake.list_tools.plays([Play::Answer(v1::ListToolsResponse::default())]);
    let client = fake.client();
    let mut unread = [client.sessions().events(request()), client.sessions().events(request())];
    for stream in &mut unread {
        delivered_next(stream, 1).await;
    }
    sleep(seconds(1)).await;
    assert_eq!(
        delivered(&mut client.sessions().events(request())).await,
        ["snapshot 0", "shutdown 1"]
    );
    client.tools().list_with(v1::ListToolsRequest::default()).await.unwrap();
    assert_eq!(starts(&fake).len(), 3, "nothing was interrupted");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_a_stream_despite_interruptions() {
    let fake = Fake::start();
    fake.stream_session.plays([
        vec![snapshot(0), Step::Wait(seconds(20)), Step::Cut],
        vec![snapshot(0), Step::Wait(seconds(20)), heartbeat(), Step::Hang],
    ]);
    let began = Instant::now();
    let mut stream = fake.client().with_deadline(seconds(30)).sessions().events(request());
    assert_eq!(
        delivered(&mut stream).await,
        ["snapshot 0", "resumed", "snapshot 0", "Deadline DeadlineExceeded "]
    );
    assert_eq!(began.elapsed().as_secs(), 30);
}
