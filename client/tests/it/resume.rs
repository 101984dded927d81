//! Session streams: what counts as a cut, and how often and when they are resumed.

use callpark_client::{Budget, Code, v1};
use callpark_proto::v1::session_event::Payload;
use futures::StreamExt as _;
use tokio::time::{Instant, sleep};

use crate::{
    fake::{Fake, Play, Step},
    session::{play, request, starts},
    story::{
        Notes, caught_up, draining, event, event_with, heartbeat, refusal, seconds, send, shutdown,
        snapshot, told, told_next, unavailable,
    },
};

#[tokio::test(start_paused = true)]
async fn a_drain_resumes_after_the_time_that_it_names() {
    let fake = Fake::start();
    fake.stream_session.plays([
        vec![snapshot(1), send([event(1)]), draining(1, 7), Step::Hang],
        vec![snapshot(1), send([shutdown(2)])],
    ]);
    let notes = Notes::default();
    let client = fake.client().with_on_retry(notes.taker());
    let told = told(&mut client.sessions().events(request())).await;
    assert_eq!(told, ["snapshot 1", "event 1", "resumed after 1", "snapshot 1", "shutdown 2"]);

    let noted = &notes.taken()[0];
    assert_eq!((noted.tries, noted.budget), (1, Some(Budget::Resume)));
    assert_eq!((noted.delay, noted.after_sequence), (seconds(7), Some(1)));
    let asked = fake.stream_session.asked();
    assert!(asked[1].at - asked[0].at >= seconds(7));
}

#[tokio::test(start_paused = true)]
async fn drains_of_a_stream_that_was_alive_cost_nothing() {
    let fake = Fake::start();
    let idle =
        || vec![snapshot(0), caught_up(0), Step::Wait(seconds(15)), heartbeat(), draining(0, 1)];
    fake.stream_session.plays((0..25).map(|_| idle()));
    fake.stream_session.plays([vec![snapshot(0), send([shutdown(1)])]]);
    let notes = Notes::default();
    let client = fake.client().with_on_retry(notes.taker());
    let told = told(&mut client.sessions().events(request())).await;
    assert_eq!(told.last().unwrap(), "shutdown 1");
    assert_eq!(notes.taken().len(), 25);
    assert!(notes.taken().iter().all(|noted| noted.budget.is_none()));
}

#[tokio::test(start_paused = true)]
async fn three_missed_heartbeats_are_a_cut() {
    let fake = Fake::start();
    fake.stream_session.plays([
        vec![snapshot(1), send([event(1)]), Step::Hang],
        vec![snapshot(1), send([shutdown(2)])],
    ]);
    let mut stream = fake.client().sessions().events(request());
    assert_eq!(told_next(&mut stream, 2).await, ["snapshot 1", "event 1"]);
    let silent = Instant::now();
    assert_eq!(told(&mut stream).await, ["resumed after 1", "snapshot 1", "shutdown 2"]);
    let cut_after = fake.stream_session.asked()[1].at - silent;
    assert!((seconds(45)..seconds(46)).contains(&cut_after), "{cut_after:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_at_all_is_tried_five_times() {
    for silence in [|| vec![Step::Never], || vec![Step::Hang]] {
        let (told, fake) = play((0..5).map(|_| silence())).await;
        assert_eq!(told, ["Silence Unavailable "]);
        assert_eq!(starts(&fake).len(), 5);
    }
}

#[tokio::test(start_paused = true)]
async fn heartbeats_keep_a_silent_stream_alive_and_are_not_handed_out() {
    let beats = (0..200).flat_map(|_| [Step::Wait(seconds(15)), heartbeat()]);
    let steps = [snapshot(0)].into_iter().chain(beats).chain([send([shutdown(1)])]).collect();
    let (told, fake) = play([steps]).await;
    assert_eq!(told, ["snapshot 0", "shutdown 1"]);
    assert_eq!(starts(&fake).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_only_ever_ends_early_is_an_error_that_says_so() {
    let (told, fake) = play((0..5).map(|_| vec![])).await;
    assert_eq!(told, ["EndedEarly Unavailable "]);
    assert_eq!(starts(&fake).len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_start_is_tried_five_times_whatever_the_resume_budget() {
    let fake = Fake::start();
    fake.stream_session.plays((0..5).map(|_| vec![Step::Fail(unavailable())]));
    let mut stream = fake.client().sessions().events(request());
    let error = stream.next().await.unwrap().unwrap_err();
    assert_eq!((error.code(), error.reason()), (Code::Unavailable, "STORE_UNAVAILABLE"));
    assert_eq!((error.tries(), stream.tries()), (5, 5));
    assert!(stream.next().await.is_none(), "nothing follows an error");
    assert!(stream.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn ten_resumes_without_anything_new_are_the_end() {
    let fake = Fake::start();
    fake.stream_session.plays([vec![snapshot(1), send([event(1)]), Step::Cut]]);
    fake.stream_session.plays((0..10).map(|_| vec![snapshot(1), send([event(1)]), Step::Cut]));
    let notes = Notes::default();
    let client = fake.client().with_on_retry(notes.taker());
    let told = told(&mut client.sessions().events(request())).await;
    assert_eq!(told.last().unwrap(), "Transport Unavailable ");
    assert_eq!(starts(&fake).len(), 11);
    assert_eq!(notes.taken().len(), 10);
    assert!(notes.taken().iter().all(|noted| noted.budget == Some(Budget::Resume)));
}

#[tokio::test(start_paused = true)]
async fn a_new_sequence_resets_the_resume_budget() {
    let script = (1..=40).map(|sequence| vec![snapshot(0), send([event(sequence)]), Step::Cut]);
    let (told, fake) = play(script.chain([vec![snapshot(0), send([shutdown(41)])]])).await;
    let events = told.iter().filter(|told| told.starts_with("event")).count();
    assert_eq!((events, told.last().unwrap().as_str()), (40, "shutdown 41"));
    assert_eq!(starts(&fake).len(), 41);
}

#[tokio::test(start_paused = true)]
async fn the_servers_delay_is_kept() {
    let fake = Fake::start();
    let away = || Step::Fail(refusal(Code::Unavailable, "NOT_OWNER", Some(seconds(90))));
    fake.stream_session.plays([
        vec![away()],
        vec![snapshot(0), send([event(1)]), away()],
        vec![snapshot(0), send([shutdown(2)])],
    ]);
    let notes = Notes::default();
    let client = fake.client().with_on_retry(notes.taker());
    let told = told(&mut client.sessions().events(request())).await;
    assert_eq!(told, ["snapshot 0", "event 1", "resumed after 1", "snapshot 0", "shutdown 2"]);
    assert_eq!(notes.delays(), [seconds(90), seconds(90)]);
    let asked = fake.stream_session.asked();
    assert!(asked[1].at - asked[0].at >= seconds(90));
    assert!(asked[2].at - asked[1].at >= seconds(90));
}

#[tokio::test(start_paused = true)]
async fn no_other_code_is_ever_tried_again() {
    for code in (1..=16).map(Code::from_i32).filter(|code| *code != Code::Unavailable) {
        let delay = Some(seconds(1));
        for script in [
            vec![Step::Fail(refusal(code, "SOME_REASON", delay))],
            vec![snapshot(0), Step::Fail(refusal(code, "SOME_REASON", delay))],
        ] {
            let (told, fake) = play([script]).await;
            assert_eq!(told.last().unwrap(), &format!("Server {code:?} SOME_REASON"));
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
    let mut told = told_next(&mut stream, 3).await;
    sleep(seconds(3_600)).await;
    told.extend(crate::story::told(&mut stream).await);
    let expected: Vec<_> = (1..=1_000).map(|sequence| format!("event {sequence}")).collect();
    told.retain(|told| told.starts_with("event"));
    assert_eq!(told, expected);
}

#[tokio::test(start_paused = true)]
async fn an_unread_stream_holds_up_neither_its_neighbours_nor_calls() {
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
        told_next(stream, 1).await;
    }
    sleep(seconds(1)).await;
    assert_eq!(told(&mut client.sessions().events(request())).await, ["snapshot 0", "shutdown 1"]);
    client.tools().list_with(v1::ListToolsRequest::default()).await.unwrap();
    assert_eq!(starts(&fake).len(), 3, "nothing was cut");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_a_stream_over_all_its_cuts() {
    let fake = Fake::start();
    fake.stream_session.plays([
        vec![snapshot(0), Step::Wait(seconds(20)), Step::Cut],
        vec![snapshot(0), Step::Wait(seconds(20)), heartbeat(), Step::Hang],
    ]);
    let began = Instant::now();
    let mut stream = fake.client().with_deadline(seconds(30)).stream_session(request());
    assert_eq!(
        told(&mut stream).await,
        ["snapshot 0", "resumed", "snapshot 0", "Deadline DeadlineExceeded "]
    );
    assert_eq!(began.elapsed().as_secs(), 30);
}
