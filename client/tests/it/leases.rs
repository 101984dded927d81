//! Leases of follow-ups: renewed while a handler runs, lost, and taken again.

use std::{cell::RefCell, convert::Infallible};

use callpark_client::{Code, v1};
use tokio::time::{Instant, sleep};

use crate::{
    fake::{Fake, Play},
    follow_ups::{accepted, counts, idle, lease, leased, nothing, told},
    story::{refusal, seconds, unavailable},
};

fn expired() -> tonic::Status {
    refusal(Code::FailedPrecondition, "LEASE_EXPIRED", None)
}

/// When LeaseFollowUps was asked, in seconds.
fn asked_at(fake: &Fake, began: Instant) -> Vec<u64> {
    fake.lease_follow_ups.asked().iter().map(|asked| (asked.at - began).as_secs()).collect()
}

/// What was handled, and a handler that takes so many seconds.
#[derive(Default)]
struct Handled(RefCell<Vec<String>>);

impl Handled {
    async fn takes(&self, follow_up: v1::FollowUp, long: u64) -> Result<(), Infallible> {
        self.0.borrow_mut().push(follow_up.message);
        sleep(seconds(long)).await;
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
    let follow_ups = fake.client().follow_ups();
    let done = follow_ups.for_each_concurrent(1, sleep(seconds(70)), handle).await.unwrap();
    assert_eq!(counts(done), [1, 0, 0, 0]);
    assert_eq!(asked_at(&fake, began), [0, 20, 40, 50, 70]);
    let asked = fake.lease_follow_ups.requests();
    assert_eq!(asked[1..3], vec![asked[0].clone(); 2]);
    assert_ne!(asked[3].request_id, asked[0].request_id);
    assert_eq!(told(&fake), ["fu-1 by token-1: well"]);
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_renewed_after_the_stop_and_until_its_end_is_acknowledged() {
    let fake = Fake::start();
    fake.lease_follow_ups.plays([leased(1), leased(1), leased(1), leased(1), leased(1)]);
    let away = refusal(Code::Unavailable, "DRAINING", Some(seconds(25)));
    fake.acknowledge_follow_up.plays([Play::Fail(away), accepted()]);
    let (handled, began) = (Handled::default(), Instant::now());
    let handle = async |follow_up| handled.takes(follow_up, 70).await;
    let follow_ups = fake.client().follow_ups().consumer().finish_within(seconds(100));
    let done = follow_ups.for_each_concurrent(1, sleep(seconds(30)), handle).await.unwrap();
    assert_eq!(counts(done), [1, 0, 0, 0]);
    assert_eq!(asked_at(&fake, began), [0, 20, 40, 60, 80]);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_is_tried_again_and_ends_nothing() {
    let fake = Fake::start();
    let refused = refusal(Code::PermissionDenied, "PERMISSION_DENIED", None);
    fake.lease_follow_ups.plays([
        leased(1),
        Play::Fail(unavailable()),
        Play::Fail(refused),
        // It hangs for as long as a renewal may.
        Play::Never,
        Play::Answer(lease(1, "token-1b")),
    ]);
    fake.lease_follow_ups.plays(idle());
    fake.acknowledge_follow_up.plays([accepted()]);
    let (handled, began) = (Handled::default(), Instant::now());
    let handle = async |follow_up| handled.takes(follow_up, 75).await;
    let follow_ups = fake.client().follow_ups();
    let done = follow_ups.for_each_concurrent(1, sleep(seconds(90)), handle).await.unwrap();
    assert_eq!(counts(done), [1, 0, 0, 0]);
    assert_eq!(asked_at(&fake, began), [0, 20, 20, 30, 60, 75, 90]);
    assert_eq!(told(&fake), ["fu-1 by token-1b: well"], "the newest word for the lease counts");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_ran_out_is_counted_and_the_next_follow_up_is_handled() {
    let fake = Fake::start();
    fake.lease_follow_ups.plays([leased(1), Play::Answer(nothing()), leased(2)]);
    fake.lease_follow_ups.plays(idle());
    fake.acknowledge_follow_up.plays([Play::Fail(expired()), accepted()]);
    let (handled, began) = (Handled::default(), Instant::now());
    let handle = async |follow_up: v1::FollowUp| {
        let long = if follow_up.message == "1" { 50 } else { 1 };
        handled.takes(follow_up, long).await
    };
    let follow_ups = fake.client().follow_ups();
    let done = follow_ups.for_each_concurrent(1, sleep(seconds(70)), handle).await.unwrap();
    assert_eq!(counts(done), [1, 0, 0, 1]);
    assert_eq!(asked_at(&fake, began), [0, 20, 50, 51, 70], "what is lost isn't renewed");
    assert_eq!(told(&fake), ["fu-1 by token-1: well", "fu-2 by token-2: well"]);
}

#[tokio::test(start_paused = true)]
async fn a_follow_up_that_is_forgotten_is_as_one_whose_lease_ran_out() {
    let fake = Fake::start();
    fake.lease_follow_ups.plays([leased(1)]);
    fake.lease_follow_ups.plays(idle());
    let forgotten = refusal(Code::NotFound, "FOLLOW_UP_NOT_FOUND", None);
    fake.acknowledge_follow_up.plays([Play::Fail(forgotten)]);
    let handled = Handled::default();
    let handle = async |follow_up| handled.takes(follow_up, 1).await;
    let follow_ups = fake.client().follow_ups();
    let done = follow_ups.for_each_concurrent(1, sleep(seconds(5)), handle).await.unwrap();
    assert_eq!(counts(done), [0, 0, 0, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_follow_up_that_comes_back_while_its_handler_runs_is_not_handled_twice_at_once() {
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
    let follow_ups = fake.client().follow_ups();
    let done = follow_ups.for_each_concurrent(2, sleep(seconds(75)), handle).await.unwrap();
    assert_eq!(counts(done), [1, 0, 0, 0]);
    assert_eq!(*handled.0.borrow(), ["1"]);
    assert_eq!(asked_at(&fake, began), [0, 0, 20, 25, 40, 60, 75]);
    let asked = fake.lease_follow_ups.requests();
    assert_eq!(asked[2], asked[0]);
    assert_eq!(asked[4..6], vec![asked[1].clone(); 2]);
    assert_eq!(told(&fake), ["fu-1 by token-1b: well"]);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_of_the_lease_before_says_nothing_of_the_one_that_follows_it() {
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
    let follow_ups = fake.client().follow_ups();
    let done = follow_ups.for_each_concurrent(2, sleep(seconds(75)), handle).await.unwrap();
    assert_eq!(counts(done), [1, 0, 0, 0]);
    assert_eq!(asked_at(&fake, began), [0, 0, 20, 25, 50, 75]);
}

#[tokio::test(start_paused = true)]
async fn a_follow_up_that_comes_back_while_it_is_acknowledged_is_acknowledged_again() {
    let fake = Fake::start();
    fake.lease_follow_ups.plays([leased(1), Play::After(seconds(5), lease(1, "token-1b"))]);
    fake.lease_follow_ups.plays(idle());
    fake.acknowledge_follow_up.plays([Play::FailAfter(seconds(9), expired()), accepted()]);
    let handled = Handled::default();
    let handle = async |follow_up| handled.takes(follow_up, 1).await;
    let follow_ups = fake.client().follow_ups();
    let done = follow_ups.for_each_concurrent(2, sleep(seconds(15)), handle).await.unwrap();
    assert_eq!(counts(done), [1, 0, 0, 0]);
    assert_eq!(told(&fake), ["fu-1 by token-1: well", "fu-1 by token-1b: well"]);
    assert_eq!(handled.0.borrow().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_renewal_leases_beside_is_given_back() {
    let fake = Fake::start();
    fake.lease_follow_ups.plays([leased(1), leased(7)]);
    fake.lease_follow_ups.plays(idle());
    fake.acknowledge_follow_up.plays([accepted(), Play::Fail(expired())]);
    let handled = Handled::default();
    let handle = async |follow_up| handled.takes(follow_up, 50).await;
    let follow_ups = fake.client().follow_ups();
    let done = follow_ups.for_each_concurrent(1, sleep(seconds(60)), handle).await.unwrap();
    assert_eq!(counts(done), [0, 0, 0, 1]);
    assert_eq!(told(&fake), ["fu-7 by token-7: given back", "fu-1 by token-1: well"]);
}
