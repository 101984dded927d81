//! Leases of follow-ups: renewed while a handler runs, lost, and granted again.

use std::{cell::RefCell, convert::Infallible};

use callpark_client::{Code, Reason, v1};
use tokio::time::{Instant, sleep};

use crate::{
    fake::{Fake, Play},
    follow_ups::{accepted, acknowledgements, counts, idle, lease, leased, nothing},
    story::{other, refusal, seconds, unavailable},
};

fn expired() -> tonic::Status {
    refusal(Code::FailedPrecondition, Reason::LeaseExpired, None)
}

/// The times of the LeaseFollowUps requests, in seconds.
fn asked_at(fake: &Fake, began: Instant) -> Vec<u64> {
    fake.lease_follow_ups.asked().iter().map(|asked| (asked.at - began).as_secs()).collect()
}

/// The follow-ups that were handled, and a handler that takes a number of seconds.
#[derive(Default)]
struct Handled(RefCell<Vec<String>>);

impl Handled {
    async fn takes(&self, follow_up: v1::FollowUp, handling_s: u64) -> Result<(), Infallible> {
        self.0.borrow_mut().push(follow_up.message);
        sleep(seconds(handling_s)).await;
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_renewed_by_the_same_request_every_third_of_its_duration() {
    let fake = Fake::start();
    fake.lease_follow_ups.plays([leased(1), leased(1), leased(1)]);
    fake.lease_follow_ups.plays(idle());
    fake.acknowledge_follow_up.plays([accepted()]);
    let (handled, began) = (Handled::default(), Instant::now());
    let handle = async |follow_up| handled.takes(follow_up, 50).await;
    let consumer = fake.client().follow_ups().consumer();
    let report = consumer.for_each_concurrent(1, sleep(seconds(70)), handle).await.unwrap();
    assert_eq!(counts(report), [1, 0, 0, 0]);
    assert_eq!(asked_at(&fake, began), [0, 20, 40, 50, 70]);
    let asked = fake.lease_follow_ups.requests();
    assert_eq!(asked[1..3], vec![asked[0].clone(); 2]);
    assert_ne!(asked[3].request_id, asked[0].request_id);
    assert_eq!(acknowledgements(&fake), ["fu-1 by token-1: delivered"]);
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_renewed_after_the_stop_and_until_its_end_is_acknowledged() {
    let fake = Fake::start();
    fake.lease_follow_ups.plays([leased(1), leased(1), leased(1), leased(1), leased(1)]);
    let away = refusal(Code::Unavailable, Reason::Draining, Some(seconds(25)));
    fake.acknowledge_follow_up.plays([Play::Fail(away), accepted()]);
    let (handled, began) = (Handled::default(), Instant::now());
    let handle = async |follow_up| handled.takes(follow_up, 70).await;
    let consumer = fake.client().follow_ups().consumer().finish_within(seconds(100));
    let report = consumer.for_each_concurrent(1, sleep(seconds(30)), handle).await.unwrap();
    assert_eq!(counts(report), [1, 0, 0, 0]);
    assert_eq!(asked_at(&fake, began), [0, 20, 40, 60, 80]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_renewal_is_retried_and_stops_nothing() {
    let fake = Fake::start();
    let refused = refusal(Code::PermissionDenied, other("PERMISSION_DENIED"), None);
    fake.lease_follow_ups.plays([
        leased(1),
        Play::Fail(unavailable()),
        Play::Fail(refused),
        // It hangs until the time limit of a renewal.
        Play::Never,
        Play::Answer(lease(1, "token-1b")),
    ]);
    fake.lease_follow_ups.plays(idle());
    fake.acknowledge_follow_up.plays([accepted()]);
    let (handled, began) = (Handled::default(), Instant::now());
    let handle = async |follow_up| handled.takes(follow_up, 75).await;
    let consumer = fake.client().follow_ups().consumer();
    let report = consumer.for_each_concurrent(1, sleep(seconds(90)), handle).await.unwrap();
    assert_eq!(counts(report), [1, 0, 0, 0]);
    assert_eq!(asked_at(&fake, began), [0, 20, 20, 30, 60, 75, 90]);
    assert_eq!(
        acknowledgements(&fake),
        ["fu-1 by token-1b: delivered"],
        "the newest token is used"
    );
}

#[tokio::test(start_paused = true)]
async fn an_expired_lease_is_counted_and_the_next_follow_up_is_handled() {
    let fake = Fake::start();
    fake.lease_follow_ups.plays([leased(1), Play::Answer(nothing()), leased(2)]);
    fake.lease_follow_ups.plays(idle());
    fake.acknowledge_follow_up.plays([Play::Fail(expired()), accepted()]);
    let (handled, began) = (Handled::default(), Instant::now());
    let handle = async |follow_up: v1::FollowUp| {
        let handling_s = if follow_up.message == "1" { 50 } else { 1 };
        handled.takes(follow_up, handling_s).await
    };
    let consumer = fake.client().follow_ups().consumer();
    let report = consumer.for_each_concurrent(1, sleep(seconds(70)), handle).await.unwrap();
    assert_eq!(counts(report), [1, 0, 0, 1]);
    assert_eq!(asked_at(&fake, began), [0, 20, 50, 51, 70], "a lost lease is not renewed");
    assert_eq!(
        acknowledgements(&fake),
        ["fu-1 by token-1: delivered", "fu-2 by token-2: delivered"]
    );
}

#[tokio::test(start_paused = true)]
async fn an_unknown_follow_up_counts_as_expired() {
    let fake = Fake::start();
    fake.lease_follow_ups.plays([leased(1)]);
    fake.lease_follow_ups.plays(idle());
    let unknown = refusal(Code::NotFound, Reason::FollowUpNotFound, None);
    fake.acknowledge_follow_up.plays([Play::Fail(unknown)]);
    let handled = Handled::default();
    let handle = async |follow_up| handled.takes(follow_up, 1).await;
    let consumer = fake.client().follow_ups().consumer();
    let report = consumer.for_each_concurrent(1, sleep(seconds(5)), handle).await.unwrap();
    assert_eq!(counts(report), [0, 0, 0, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_follow_up_that_is_leased_again_while_its_handler_runs_is_not_handled_twice_at_once() {
    let fake = Fake::start();
    fake.lease_follow_ups.plays([
        leased(1),
        Play::After(seconds(25), lease(1, "token-1b")),
        // The renewal of the first lease, at 20 s, and those of the second one, at 40 s and 60 s.
        Play::Answer(nothing()),
        Play::Never,
        Play::Answer(lease(1, "token-1b")),
        Play::Answer(lease(1, "token-1b")),
        Play::Answer(nothing()),
    ]);
    fake.acknowledge_follow_up.plays([accepted()]);
    let (handled, began) = (Handled::default(), Instant::now());
    let handle = async |follow_up| handled.takes(follow_up, 70).await;
    let consumer = fake.client().follow_ups().consumer();
    let report = consumer.for_each_concurrent(2, sleep(seconds(75)), handle).await.unwrap();
    assert_eq!(counts(report), [1, 0, 0, 0]);
    assert_eq!(*handled.0.borrow(), ["1"]);
    assert_eq!(asked_at(&fake, began), [0, 0, 20, 25, 40, 60, 75]);
    let asked = fake.lease_follow_ups.requests();
    assert_eq!(asked[2], asked[0]);
    assert_eq!(asked[4..6], vec![asked[1].clone(); 2]);
    assert_eq!(acknowledgements(&fake), ["fu-1 by token-1b: delivered"]);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_of_an_earlier_lease_does_not_affect_the_current_one() {
    let fake = Fake::start();
    fake.lease_follow_ups.plays([
        leased(1),
        Play::After(seconds(25), lease(1, "token-1b")),
        Play::After(seconds(10), nothing()),
        Play::Never,
        Play::Answer(lease(1, "token-1b")),
        Play::Answer(nothing()),
    ]);
    fake.acknowledge_follow_up.plays([accepted()]);
    let (handled, began) = (Handled::default(), Instant::now());
    let handle = async |follow_up| handled.takes(follow_up, 65).await;
    let consumer = fake.client().follow_ups().consumer();
    let report = consumer.for_each_concurrent(2, sleep(seconds(75)), handle).await.unwrap();
    assert_eq!(counts(report), [1, 0, 0, 0]);
    assert_eq!(asked_at(&fake, began), [0, 0, 20, 25, 50, 75]);
}

#[tokio::test(start_paused = true)]
async fn a_follow_up_that_is_leased_again_while_it_is_acknowledged_is_acknowledged_again() {
    let fake = Fake::start();
    fake.lease_follow_ups.plays([leased(1), Play::After(seconds(5), lease(1, "token-1b"))]);
    fake.lease_follow_ups.plays(idle());
    fake.acknowledge_follow_up.plays([Play::FailAfter(seconds(9), expired()), accepted()]);
    let handled = Handled::default();
    let handle = async |follow_up| handled.takes(follow_up, 1).await;
    let consumer = fake.client().follow_ups().consumer();
    let report = consumer.for_each_concurrent(2, sleep(seconds(15)), handle).await.unwrap();
    assert_eq!(counts(report), [1, 0, 0, 0]);
    assert_eq!(
        acknowledgements(&fake),
        ["fu-1 by token-1: delivered", "fu-1 by token-1b: delivered"]
    );
    assert_eq!(handled.0.borrow().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_unrelated_follow_up_that_a_renewal_leases_is_released() {
    let fake = Fake::start();
    fake.lease_follow_ups.plays([leased(1), leased(7)]);
    fake.lease_follow_ups.plays(idle());
    fake.acknowledge_follow_up.plays([accepted(), Play::Fail(expired())]);
    let handled = Handled::default();
    let handle = async |follow_up| handled.takes(follow_up, 50).await;
    let consumer = fake.client().follow_ups().consumer();
    let report = consumer.for_each_concurrent(1, sleep(seconds(60)), handle).await.unwrap();
    assert_eq!(counts(report), [0, 0, 0, 1]);
    assert_eq!(
        acknowledgements(&fake),
        ["fu-7 by token-7: released", "fu-1 by token-1: delivered"]
    );
}
