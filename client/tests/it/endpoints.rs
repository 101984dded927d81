//! Several endpoints: requests take them in turn, and none waits for one that is down.

use std::time::Duration;

use callpark_client::{Client, ClientOptions, Code, Origin, Reason, RetryBudget, RunTool, v1};
use futures::{StreamExt as _, future::join_all};
use tokio::time::{Instant, sleep};

use crate::{
    fake::{Fake, HANG, Play, SETTLE, Step, connector},
    session::request,
    story::{
        Notes, delivered, draining, event, refusal, seconds, send, shutdown, snapshot, unavailable,
    },
};

/// More than any test uses up.
const MANY: u32 = 1_000_000;

fn fakes<const N: usize>() -> [Fake; N] {
    [(); N].map(|()| Fake::start())
}

fn options(fakes: &[Fake]) -> ClientOptions {
    let names = (0..fakes.len()).map(|number| format!("http://fake:{number}"));
    ClientOptions::default().with_endpoints(names)
}

fn client(fakes: &[Fake]) -> Client {
    Client::with_connector(options(fakes), connector(fakes)).unwrap()
}

fn answers(fake: &Fake, count: usize) {
    fake.list_tools.plays((0..count).map(|_| Play::Answer(v1::ListToolsResponse::default())));
}

fn fails(fake: &Fake, count: usize) {
    fake.list_tools.plays((0..count).map(|_| Play::Fail(unavailable())));
}

fn asked(fakes: &[Fake]) -> Vec<usize> {
    fakes.iter().map(|fake| fake.list_tools.requests().len()).collect()
}

/// A client whose connections are open, without a request that counts.
async fn connected(fakes: &[Fake]) -> Client {
    let client = client(fakes);
    fakes.iter().for_each(|fake| fake.get.plays([Play::Answer(v1::GetResponse::default())]));
    let _ = client.tasks().get("bg-1").await;
    sleep(SETTLE).await;
    client
}

#[tokio::test(start_paused = true)]
async fn calls_take_the_endpoints_in_turn() {
    let fakes = fakes::<3>();
    fakes.iter().for_each(|fake| answers(fake, 200));
    let client = connected(&fakes).await;
    for _ in 0..90 {
        client.tools().list().await.unwrap();
    }
    assert_eq!(asked(&fakes), [30, 30, 30]);
    for answer in join_all((0..90).map(|_| client.tools().list())).await {
        answer.unwrap();
    }
    assert_eq!(asked(&fakes), [60, 60, 60]);
    assert!(fakes.iter().all(|fake| fake.dials() == 1));
}

#[tokio::test(start_paused = true)]
async fn the_first_call_waits_for_the_first_connection_only() {
    let fakes = fakes::<3>();
    fakes[0].refuse(HANG);
    fakes[1].refuse(MANY);
    answers(&fakes[2], 100);
    let began = Instant::now();
    let client = client(&fakes);
    for answer in join_all((0..100).map(|_| client.tools().list())).await {
        answer.unwrap();
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(fakes.each_ref().map(Fake::dials), [1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn calls_neither_fail_nor_wait_when_an_endpoint_is_down_and_use_it_when_it_is_back() {
    for hangs in [false, true] {
        let fakes = fakes::<2>();
        fakes.iter().for_each(|fake| answers(fake, 1_000));
        let client = connected(&fakes).await;
        let notes = Notes::default();
        let client = client.with_on_retry(notes.taker());
        fakes[0].refuse(if hangs { HANG } else { MANY });
        fakes[0].cut();
        sleep(SETTLE).await;
        let (dials, began) = (fakes[0].dials(), Instant::now());
        for _ in 0..600 {
            let sent = Instant::now();
            client.tools().list().await.unwrap();
            assert_eq!(sent.elapsed(), Duration::ZERO);
            sleep(Duration::from_millis(100)).await;
        }
        assert!(notes.taken().is_empty());
        // In a minute: seven dials until the delay is at its maximum, then one in 5 to 10 s.
        let dials = fakes[0].dials() - dials;
        assert!((3..20).contains(&dials), "{dials} dials in {:?}", began.elapsed());

        fakes[0].refuse(0);
        sleep(seconds(10)).await;
        client.tools().list().await.unwrap();
        sleep(seconds(6)).await;
        client.tools().list().await.unwrap();
        sleep(SETTLE).await;
        let before = asked(&fakes);
        for _ in 0..10 {
            client.tools().list().await.unwrap();
        }
        let after = asked(&fakes);
        assert_eq!((after[0] - before[0], after[1] - before[1]), (5, 5));
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_endpoint_goes_away_is_answered_by_another_one() {
    let fakes = fakes::<2>();
    let started = || Play::Answer(v1::StartResponse::default());
    fakes[0].start.plays([Play::Cut, started()]);
    fakes[1].start.plays([Play::Cut, started()]);
    let client = connected(&fakes).await;
    fakes[0].refuse(MANY);
    client.tasks().start(v1::StartRequest::from(RunTool::new("build"))).await.unwrap();
    let requests: Vec<_> = fakes.iter().flat_map(|fake| fake.start.requests()).collect();
    assert!(requests.len() >= 2);
    assert!(requests.iter().all(|request| *request == requests[0]), "with the same id");
}

#[tokio::test(start_paused = true)]
async fn the_retry_budget_is_that_of_one_endpoint() {
    let mut elapsed = Vec::new();
    for count in [1, 3] {
        let fakes: Vec<_> = (0..count).map(|_| Fake::start()).collect();
        fakes.iter().for_each(|fake| fails(fake, 20));
        let client = connected(&fakes).await;
        let notes = Notes::default();
        let began = Instant::now();
        let error = client.with_on_retry(notes.taker()).tools().list().await.unwrap_err();
        elapsed.push(began.elapsed());
        assert_eq!((error.attempts(), asked(&fakes).iter().sum::<usize>()), (5, 5));
        assert_eq!(notes.taken().len(), 4);
        for (delay, most) in notes.delays().into_iter().zip([100, 200, 400, 800]) {
            assert!(delay <= Duration::from_millis(most), "{delay:?}");
        }
        if count == 3 {
            // Each endpoint is asked before one is asked again.
            let mut asked = asked(&fakes);
            asked.sort_unstable();
            assert_eq!(asked, [1, 2, 2]);
            let failures = error.endpoint_failures();
            assert_eq!(failures.len(), 3);
            assert!(failures.iter().all(|one| one.failure == "as scripted (STORE_UNAVAILABLE)"));
        }
    }
    assert!(elapsed.iter().all(|time| *time <= Duration::from_millis(1_500)), "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn the_delay_of_a_server_that_is_not_the_owner_is_kept_and_another_one_is_asked() {
    let fakes = fakes::<2>();
    let client = connected(&fakes).await;
    let away = || Play::Fail(refusal(Code::Unavailable, Reason::NotOwner, Some(seconds(2))));
    let started = || Play::Answer(v1::StartResponse::default());
    // The order of the turns is not known here.
    fakes[0].start.plays([away(), started()]);
    fakes[1].start.plays([away(), started()]);
    let began = Instant::now();
    client.tasks().start(v1::StartRequest::from(RunTool::new("build"))).await.unwrap();
    let requests = fakes.each_ref().map(|fake| fake.start.requests().len());
    assert_eq!((requests.iter().sum::<usize>(), began.elapsed()), (3, seconds(4)));
    assert!(requests.iter().all(|count| *count > 0), "{requests:?}");
}

#[tokio::test(start_paused = true)]
async fn an_error_names_each_endpoint_when_all_are_down() {
    let fakes = fakes::<3>();
    fakes.iter().for_each(|fake| fake.refuse(MANY));
    fakes[1].refuse(HANG);
    let client = client(&fakes);
    let began = Instant::now();
    let error = client.tools().list().await.unwrap_err();
    assert_eq!((error.origin(), error.code()), (Origin::Transport, Code::Unavailable));
    assert_eq!(error.attempts(), 5);
    assert_eq!(fakes.each_ref().map(Fake::dials), [5, 5, 5]);
    // Each attempt takes the 5 s of one endpoint, not of three.
    assert!((25..27).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    assert_eq!(
        error.to_string(),
        "ToolRunner.ListTools: none of 3 endpoints can be reached (UNAVAILABLE, 5 attempts); \
         http://fake:0: connection refused; http://fake:1: no connection within 5s; \
         http://fake:2: connection refused. Check the endpoint and whether the server is running, \
         then try again."
    );

    fakes.iter().for_each(|fake| fake.refuse(0));
    answers(&fakes[0], 1);
    answers(&fakes[1], 1);
    answers(&fakes[2], 1);
    client.tools().list().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_error_is_bounded_however_many_endpoints_fail() {
    let fakes: Vec<_> = (0..64).map(|_| Fake::start()).collect();
    fakes.iter().for_each(|fake| fake.refuse(MANY));
    let error = client(&fakes).tools().list().await.unwrap_err();
    assert_eq!(error.endpoint_failures().len(), 8);
    assert!(error.to_string().starts_with("ToolRunner.ListTools: none of 64 endpoints can be"));
}

#[tokio::test(start_paused = true)]
async fn calls_at_the_same_time_share_the_dials() {
    for count in [1, 2] {
        let fakes: Vec<_> = (0..count).map(|_| Fake::start()).collect();
        fakes.iter().for_each(|fake| fake.refuse(MANY));
        let options = options(&fakes).with_start_attempts(1);
        let client = Client::with_connector(options, connector(&fakes)).unwrap();
        for answer in join_all((0..100).map(|_| client.tools().list())).await {
            assert_eq!(answer.unwrap_err().attempts(), 1);
        }
        assert!(fakes.iter().all(|fake| fake.dials() == 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_ended_while_idle_costs_no_attempt() {
    let fakes = fakes::<2>();
    fakes.iter().for_each(|fake| answers(fake, 20));
    let options = options(&fakes).with_start_attempts(1);
    let client = Client::with_connector(options, connector(&fakes)).unwrap();
    for round in 0..10 {
        client.tools().list().await.unwrap();
        fakes[round % 2].cut();
        if round % 3 == 0 {
            fakes[1 - round % 2].cut();
        }
        sleep(SETTLE).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_takes_no_further_requests_is_left_at_once() {
    for others in [vec![], vec![Fake::start()]] {
        let is_alone = others.is_empty();
        let fakes = [vec![Fake::aging(seconds(10))], others].concat();
        let notes = Notes::default();
        let client = client(&fakes).with_on_retry(notes.taker());
        // These calls keep their connections open.
        let slow = || Play::After(seconds(30), v1::GetResponse { task: Some(v1::Task::default()) });
        fakes.iter().for_each(|fake| fake.get.plays([slow(), slow()]));
        let early = async {
            sleep(seconds(1)).await;
            client.tasks().get("bg-1").await
        };
        let later = async {
            sleep(seconds(20)).await;
            let began = Instant::now();
            for _ in 0..8 {
                fakes.iter().for_each(|fake| answers(fake, 8));
                client.tools().list().await.unwrap();
            }
            began.elapsed()
        };
        let (first, second, time) = tokio::join!(client.tasks().get("bg-1"), early, later);
        assert!(first.is_ok() && second.is_ok(), "{first:?} {second:?}");
        // One request finds out. It was not sent, and another endpoint is asked without a delay.
        assert_eq!(notes.taken().len(), 1);
        assert!(is_alone || time == Duration::ZERO, "{time:?}");
        assert!(!is_alone || fakes[0].dials() == 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_resumes_at_another_endpoint_after_its_last_event() {
    for drains in [false, true] {
        let fakes = fakes::<2>();
        let client = client(&fakes);
        // A first stream opens the connections. The turn after it is the other one's.
        fakes.iter().for_each(|fake| fake.stream_tool.plays([vec![]]));
        assert!(client.tools().stream(RunTool::new("build").dry_run()).next().await.is_none());
        sleep(SETTLE).await;
        let other = fakes.iter().position(|fake| fake.stream_tool.requests().is_empty()).unwrap();
        let (from, to) = (&fakes[other], &fakes[1 - other]);
        let end = if drains { draining(3, 1) } else { Step::Cut };
        let events = send([event(1), event(2), event(3)]);
        from.stream_session.plays([vec![snapshot(3), events, end, Step::Hang]]);
        to.stream_session.plays([vec![snapshot(3), send([event(3), shutdown(4)])]]);

        let mut items = delivered(&mut client.sessions().events(request())).await;
        items.retain(|item| !item.starts_with("snapshot"));
        let expected = ["event 1", "event 2", "event 3", "resumed after 3", "shutdown 4"];
        assert_eq!(items, expected);
        assert_eq!(to.stream_session.requests()[0].start_after_sequence, Some(3));
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_wait_goes_on_at_another_endpoint() {
    let fakes = fakes::<2>();
    let client = connected(&fakes).await;
    let notes = Notes::default();
    let client = client.with_on_retry(notes.taker());
    fakes[0].wait.plays([Play::Cut, Play::Answer(v1::WaitResponse::default())]);
    fakes[1].wait.plays([Play::Cut, Play::Answer(v1::WaitResponse::default())]);
    assert!(!client.tasks().handle("bg-1").wait(None).await.unwrap().still_running);
    assert!(notes.taken().iter().all(|noted| noted.budget == Some(RetryBudget::Resume)));
    assert!(fakes.iter().all(|fake| !fake.wait.requests().is_empty()));
}
