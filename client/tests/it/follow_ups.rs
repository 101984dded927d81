//! The consumer of follow-ups: handling, acknowledgements, the report, and releases at the stop.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    time::Duration,
};

use callpark_client::{Code, ConsumerReport, Error, FollowUpConsumer, Reason, google::rpc, v1};
use tokio::time::{Instant, sleep};

use crate::{
    fake::{Fake, Play},
    story::{other, refusal, seconds, unavailable},
};

type Leased = Play<v1::LeaseFollowUpsResponse>;

const HOUR: Duration = Duration::from_secs(3_600);

pub(crate) fn lease(number: u32, token: &str) -> v1::LeaseFollowUpsResponse {
    let follow_up = v1::FollowUp {
        follow_up_id: format!("fu-{number}"),
        message: number.to_string(),
        ..Default::default()
    };
    let leased = v1::LeasedFollowUp { follow_up: Some(follow_up), lease_token: token.to_owned() };
    v1::LeaseFollowUpsResponse { follow_ups: vec![leased], replayed: false }
}

pub(crate) fn leased(number: u32) -> Leased {
    Play::Answer(lease(number, &format!("token-{number}")))
}

pub(crate) fn nothing() -> v1::LeaseFollowUpsResponse {
    v1::LeaseFollowUpsResponse::default()
}

/// The poll that is open at the stop, and the follow-ups that it had leased: none.
pub(crate) fn idle() -> [Leased; 2] {
    [Play::Never, Play::Answer(nothing())]
}

pub(crate) fn accepted() -> Play<v1::AcknowledgeFollowUpResponse> {
    Play::Answer(v1::AcknowledgeFollowUpResponse::default())
}

/// Descriptions of the acknowledgements, such as `fu-1 by token-1: released`.
pub(crate) fn acknowledgements(fake: &Fake) -> Vec<String> {
    let requests = fake.acknowledge_follow_up.requests().into_iter();
    let describe = |asked: v1::AcknowledgeFollowUpRequest| {
        let result = match asked.error {
            None => "delivered".to_owned(),
            Some(rpc::Status { code, .. }) if code == i32::from(Code::Cancelled) => {
                "released".to_owned()
            }
            Some(rpc::Status { code, message, .. }) => format!("{:?}, {message}", Code::from(code)),
        };
        format!("{} by {}: {result}", asked.follow_up_id, asked.lease_token)
    };
    requests.map(describe).collect()
}

/// The counts of delivered, failed, released and expired follow-ups.
pub(crate) fn counts(report: ConsumerReport) -> [u64; 4] {
    [report.delivered, report.failed, report.released, report.expired]
}

/// A consumer whose leases are not renewed during a test.
fn long(fake: &Fake) -> FollowUpConsumer {
    fake.client().follow_ups().consumer().lease_duration(HOUR)
}

async fn succeed(_: v1::FollowUp) -> Result<(), Infallible> {
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_handled_follow_up_is_acknowledged_once_with_its_lease() {
    let fake = Fake::start();
    fake.lease_follow_ups.plays([leased(1), leased(2)]);
    fake.lease_follow_ups.plays(idle());
    fake.acknowledge_follow_up.plays([accepted(), accepted()]);
    let handled = RefCell::new(Vec::new());
    let handle = async |follow_up: v1::FollowUp| {
        handled.borrow_mut().push(follow_up.message);
        Ok::<_, Infallible>(())
    };
    let consumer = fake.client().follow_ups().consumer().session_id("ses-1").name("tests");
    let report = consumer.for_each_concurrent(1, sleep(seconds(30)), handle).await.unwrap();
    assert_eq!(counts(report), [2, 0, 0, 0]);
    assert_eq!(*handled.borrow(), ["1", "2"]);
    assert_eq!(
        acknowledgements(&fake),
        ["fu-1 by token-1: delivered", "fu-2 by token-2: delivered"]
    );

    let asked = fake.lease_follow_ups.requests();
    let span = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    for request in &asked {
        assert!(uuid::Uuid::parse_str(&request.request_id).is_ok());
        let expected = v1::LeaseFollowUpsRequest {
            session_id: "ses-1".to_owned(),
            consumer: "tests".to_owned(),
            request_id: request.request_id.clone(),
            max_follow_ups: 1,
            lease_duration: span(60),
            wait: span(45),
        };
        assert_eq!(*request, expected);
    }
    let ids: Vec<_> = asked.into_iter().map(|request| request.request_id).collect();
    assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2]);
    assert_eq!(ids[2..], vec![ids[2].clone(); 2], "the leases of the last request are recovered");
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_fails_or_panics_says_why_and_the_next_one_is_handled() {
    let fake = Fake::start();
    fake.lease_follow_ups.plays([leased(1), leased(2), leased(3)]);
    fake.lease_follow_ups.plays(idle());
    fake.acknowledge_follow_up.plays([accepted(), accepted(), accepted()]);
    let handle = async |follow_up: v1::FollowUp| match follow_up.message.as_str() {
        "1" => Err("the disk is full"),
        "2" => panic!("no {}", "luck"),
        _ => Ok(()),
    };
    let report = long(&fake).for_each_concurrent(1, sleep(seconds(30)), handle).await.unwrap();
    assert_eq!(counts(report), [1, 2, 0, 0]);
    let expected = [
        "fu-1 by token-1: Unknown, the disk is full",
        "fu-2 by token-2: Unknown, the handler panicked: no luck",
        "fu-3 by token-3: delivered",
    ];
    assert_eq!(acknowledgements(&fake), expected);
}

#[tokio::test(start_paused = true)]
async fn a_failed_follow_up_is_handled_again_when_it_is_leased_again() {
    let fake = Fake::start();
    fake.lease_follow_ups.plays([leased(1), Play::After(seconds(5), lease(1, "token-1b"))]);
    fake.lease_follow_ups.plays(idle());
    fake.acknowledge_follow_up.plays([accepted(), accepted()]);
    let handled = Cell::new(0);
    let handle = async |_: v1::FollowUp| {
        handled.set(handled.get() + 1);
        if handled.get() == 1 { Err("not this time") } else { Ok(()) }
    };
    let report = long(&fake).for_each_concurrent(2, sleep(seconds(30)), handle).await.unwrap();
    assert_eq!(counts(report), [1, 1, 0, 0]);
    let expected = ["fu-1 by token-1: Unknown, not this time", "fu-1 by token-1b: delivered"];
    assert_eq!(acknowledgements(&fake), expected);
}

#[tokio::test(start_paused = true)]
async fn no_more_are_leased_than_can_be_handled_and_one_poll_waits() {
    let fake = Fake::start();
    let began = Instant::now();
    fake.lease_follow_ups.plays([leased(1), leased(2), leased(3)]);
    // From 20 s on two more could be handled, and there is still one poll.
    fake.lease_follow_ups.plays([Play::After(seconds(45), nothing())]);
    fake.lease_follow_ups.plays(idle());
    fake.acknowledge_follow_up.plays((0..3).map(|_| accepted()));
    let (running, most) = (Cell::new(0), Cell::new(0));
    let handle = async |follow_up: v1::FollowUp| {
        running.set(running.get() + 1);
        most.set(most.get().max(running.get()));
        let long = if follow_up.message == "1" { 20 } else { 10 };
        sleep(seconds(long)).await;
        running.set(running.get() - 1);
        Ok::<_, Infallible>(())
    };
    let report = long(&fake).for_each_concurrent(2, sleep(seconds(100)), handle).await.unwrap();
    assert_eq!((counts(report), most.get()), ([3, 0, 0, 0], 2));
    let asked = fake.lease_follow_ups.asked();
    let times: Vec<_> = asked.iter().map(|asked| (asked.at - began).as_secs()).collect();
    assert_eq!(times, [0, 0, 10, 20, 65, 100]);
}

#[tokio::test(start_paused = true)]
async fn an_early_empty_answer_is_not_followed_by_a_request_at_once() {
    let fake = Fake::start();
    let began = Instant::now();
    fake.lease_follow_ups.plays((0..50).map(|_| Play::Answer(nothing())));
    fake.lease_follow_ups.plays(idle());
    let report = long(&fake).for_each_concurrent(1, sleep(seconds(30)), succeed).await.unwrap();
    assert_eq!(counts(report), [0; 4]);
    let times: Vec<_> = fake.lease_follow_ups.asked().iter().map(|a| a.at - began).collect();
    assert!(times[50] >= seconds(5), "{:?}", times[50]);
}

#[tokio::test(start_paused = true)]
async fn interruptions_unavailable_and_rate_limits_are_waited_out() {
    let fake = Fake::start();
    let limited = || refusal(Code::ResourceExhausted, other("RATE_LIMITED"), Some(seconds(3)));
    fake.lease_follow_ups.plays([
        Play::Fail(unavailable()),
        Play::Cut,
        Play::Fail(limited()),
        leased(1),
    ]);
    fake.lease_follow_ups.plays(idle());
    fake.acknowledge_follow_up.plays([
        Play::FailAfter(seconds(1), unavailable()),
        Play::Fail(limited()),
        accepted(),
    ]);
    let handled = Cell::new(0);
    let handle = async |_: v1::FollowUp| {
        handled.set(handled.get() + 1);
        Ok::<_, Infallible>(())
    };
    let report = long(&fake).for_each_concurrent(1, sleep(seconds(30)), handle).await.unwrap();
    assert_eq!((counts(report), handled.get()), ([1, 0, 0, 0], 1));
    let asked = fake.lease_follow_ups.requests();
    assert_eq!(asked[1..4], vec![asked[0].clone(); 3], "the request is safe to repeat");
    assert_eq!(acknowledgements(&fake), vec!["fu-1 by token-1: delivered"; 3]);
}

/// Records that a handler was dropped before it finished.
struct Unfinished<'a>(&'a RefCell<Vec<String>>, String);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.0.borrow_mut().push(self.1.clone());
    }
}

#[tokio::test(start_paused = true)]
async fn at_the_stop_handlers_have_some_time_and_then_everything_is_released() {
    let fake = Fake::start();
    // At 5 s the fourth has just been leased, and the answer is under way.
    fake.lease_follow_ups.plays([leased(1), leased(2), leased(3), Play::Never, leased(4)]);
    fake.acknowledge_follow_up.plays((0..4).map(|_| accepted()));
    let dropped = RefCell::new(Vec::new());
    let handle = async |follow_up: v1::FollowUp| {
        let unfinished = Unfinished(&dropped, follow_up.message.clone());
        match follow_up.message.as_str() {
            "1" => std::future::pending().await,
            "2" => sleep(seconds(14)).await,
            _ => sleep(seconds(16)).await,
        }
        std::mem::forget(unfinished);
        Ok::<_, Infallible>(())
    };
    let began = Instant::now();
    let report = long(&fake).for_each_concurrent(5, sleep(seconds(5)), handle).await.unwrap();
    assert_eq!(counts(report), [1, 0, 3, 0]);
    let mut acknowledged = acknowledgements(&fake);
    acknowledged[2..].sort();
    let expected = [
        "fu-4 by token-4: released",
        "fu-2 by token-2: delivered",
        "fu-1 by token-1: released",
        "fu-3 by token-3: released",
    ];
    assert_eq!(acknowledged, expected);
    let times: Vec<_> = fake.acknowledge_follow_up.asked().iter().map(|a| a.at - began).collect();
    let times: Vec<_> = times.iter().map(Duration::as_secs).collect();
    assert_eq!(times, [5, 14, 15, 15]);
    dropped.borrow_mut().sort();
    assert_eq!(*dropped.borrow(), ["1", "3"]);
    let asked = fake.lease_follow_ups.asked();
    assert_eq!(asked[3].request, asked[4].request);
    assert!(
        asked[4].metadata.contains_key("grpc-timeout"),
        "for the leases of that request, and no new ones"
    );
}

#[tokio::test(start_paused = true)]
async fn after_a_stop_nothing_is_leased() {
    let fake = Fake::start();
    let report = long(&fake).for_each_concurrent(1, std::future::ready(()), succeed).await.unwrap();
    assert_eq!(counts(report), [0; 4]);
    assert!(fake.lease_follow_ups.requests().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_stop_without_time_drops_a_handler_before_its_follow_up_is_released() {
    let fake = Fake::start();
    fake.lease_follow_ups.plays([leased(1)]);
    fake.acknowledge_follow_up.plays([accepted()]);
    let dropped = RefCell::new(Vec::new());
    let acknowledged_before = Cell::new(usize::MAX);
    let handle = async |follow_up: v1::FollowUp| {
        let _unfinished = Unfinished(&dropped, follow_up.message);
        let _recorder = RecordAcknowledgements(&fake, &acknowledged_before);
        std::future::pending::<Result<(), Infallible>>().await
    };
    let consumer = long(&fake).finish_within(Duration::ZERO);
    let began = Instant::now();
    let report = consumer.for_each_concurrent(1, sleep(seconds(5)), handle).await.unwrap();
    assert_eq!((counts(report), began.elapsed().as_secs()), ([0, 0, 1, 0], 5));
    assert_eq!((dropped.borrow().len(), acknowledged_before.get()), (1, 0));
    assert_eq!(acknowledgements(&fake), ["fu-1 by token-1: released"]);
}

/// Records the number of acknowledgements when it is dropped.
struct RecordAcknowledgements<'a>(&'a Fake, &'a Cell<usize>);

impl Drop for RecordAcknowledgements<'_> {
    fn drop(&mut self) {
        self.1.set(self.0.acknowledge_follow_up.requests().len());
    }
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_server_does_not_delay_the_stop() {
    let fake = Fake::start();
    fake.lease_follow_ups.plays([leased(1), leased(2), Play::Never, Play::Never]);
    fake.acknowledge_follow_up.plays([Play::Never, Play::Never]);
    let handle = async |follow_up: v1::FollowUp| match follow_up.message.as_str() {
        "1" => Ok::<_, Infallible>(()),
        _ => std::future::pending().await,
    };
    let began = Instant::now();
    let report = long(&fake).for_each_concurrent(3, sleep(seconds(5)), handle).await.unwrap();
    assert_eq!((counts(report), began.elapsed().as_secs()), ([0, 0, 0, 2], 25));
}

#[tokio::test(start_paused = true)]
async fn a_permanent_error_is_returned_after_everything_is_released() {
    let errors = [
        (Code::Unauthenticated, Reason::CredentialsInvalid),
        (Code::NotFound, Reason::SessionNotFound),
        (Code::InvalidArgument, Reason::InvalidField),
    ];
    for (code, reason) in errors {
        let fake = Fake::start();
        fake.lease_follow_ups.plays([leased(1), Play::Fail(refusal(code, reason.clone(), None))]);
        fake.acknowledge_follow_up.plays([accepted()]);
        let handle = async |_| std::future::pending::<Result<(), Infallible>>().await;
        let began = Instant::now();
        let ended = long(&fake).for_each_concurrent(2, std::future::pending(), handle).await;
        let error = ended.unwrap_err();
        assert_eq!((error.code(), error.reason()), (code, Some(&reason)));
        assert_eq!(began.elapsed().as_secs(), 10, "handlers have time to finish");
        assert_eq!(acknowledgements(&fake), ["fu-1 by token-1: released"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_acknowledgement_stops_the_consumer() {
    let fake = Fake::start();
    fake.lease_follow_ups.plays([leased(1)]);
    fake.lease_follow_ups.plays(idle());
    let refused = refusal(Code::PermissionDenied, other("PERMISSION_DENIED"), None);
    fake.acknowledge_follow_up.plays([Play::FailAfter(seconds(1), refused)]);
    let ended = long(&fake).for_each_concurrent(2, std::future::pending(), succeed).await;
    assert_eq!(ended.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_violates_the_contract_is_an_error() {
    let two = v1::LeaseFollowUpsResponse {
        follow_ups: [1, 2].map(|number| lease(number, "token").follow_ups.remove(0)).to_vec(),
        replayed: false,
    };
    let without = v1::LeaseFollowUpsResponse {
        follow_ups: vec![v1::LeasedFollowUp::default()],
        replayed: false,
    };
    for answer in [two, without] {
        let fake = Fake::start();
        fake.lease_follow_ups.plays([Play::Answer(answer)]);
        let ended = long(&fake).for_each_concurrent(0, std::future::pending(), succeed).await;
        assert_eq!(ended.unwrap_err().origin(), callpark_client::Origin::Answer);
    }
}

#[tokio::test(start_paused = true)]
async fn the_consumer_can_run_in_a_task_of_its_own() {
    fn check_send<T: Send>(work: T) -> T {
        work
    }
    let fake = Fake::start();
    let consumer = fake.client().follow_ups().consumer().lease_duration(Duration::MAX);
    let handle = async |_: v1::FollowUp| Ok::<_, Error>(());
    let error = check_send(consumer.for_each_concurrent(1, std::future::pending(), handle));
    let error = error.await.unwrap_err();
    assert!(error.to_string().contains("use 1 h at most"), "{error}");
    assert!(fake.lease_follow_ups.requests().is_empty());
}
