//! Consumers that fail, hang, come too late, or race each other.

use futures::future::join_all;
use tonic::Code;

use super::*;
use crate::support::check_reason;
use crate::support::proofs::proof;
use crate::support::streams::{ended, log_of, new_session};

/// `google.rpc.Code`.
const UNKNOWN: i32 = 2;
const CANCELLED: i32 = 1;

async fn retry(server: &TestServer, follow_up_id: &str) -> Result<v1::FollowUp, Status> {
    let request =
        v1::RetryFollowUpRequest { follow_up_id: follow_up_id.into(), ..Default::default() };
    let answer = soon("an answer", server.tasks.clone().retry_follow_up(request)).await?;
    Ok(answer.into_inner().follow_up.expect("a follow-up"))
}

#[tokio::test]
async fn the_fourth_attempt_succeeds_after_three_that_fail() {
    let server = TestServer::with(&QUICK).await;
    let session = new_session(&server).await;
    followed(&server, &session, "true").await;
    for attempt in 1..=3 {
        let lease = leased(&server, &session).await;
        assert_eq!(record(&lease).attempt, attempt);
        let answer = acknowledge(&server, &lease, Some(UNKNOWN)).await.expect("taken");
        let follow_up = answer.follow_up.expect("a follow-up");
        let error = follow_up.last_error.clone().expect("an error");
        assert_eq!((error.code, error.message.as_str()), (UNKNOWN, "no luck"));
        assert_eq!(follow_up.state(), State::Pending);
    }
    let lease = leased(&server, &session).await;
    acknowledge(&server, &lease, None).await.expect("taken");
    let events = story(&log_of(&server, &session).await);
    assert_eq!(events[events.len() - 3..], ["PENDING 3", "started 4", "DELIVERED 4"]);
}

#[tokio::test]
async fn one_that_always_fails_is_given_up_and_can_be_brought_back() {
    let server = TestServer::with(&QUICK).await;
    let session = new_session(&server).await;
    let id = followed(&server, &session, "true").await;
    for _ in 0..10 {
        let lease = leased(&server, &session).await;
        acknowledge(&server, &lease, Some(UNKNOWN)).await.expect("taken");
    }
    let dead = list(&server, &session).await.remove(0);
    assert_eq!((dead.state(), dead.attempt), (State::DeadLettered, 10));
    assert_eq!(dead.reason, "given up after 10 attempts; the last error: no luck");
    assert!(dead.expire_time.is_some() && dead.next_attempt_time.is_none());
    let alive = retry(&server, &follow_up_of(&id)).await.expect("brought back");
    assert_eq!((alive.state(), alive.attempt), (State::Pending, 0));
    assert!(alive.expire_time.is_none() && alive.reason.is_empty());
    // Again it is what it is.
    retry(&server, &follow_up_of(&id)).await.expect("pending");
    let lease = leased(&server, &session).await;
    let status = retry(&server, &follow_up_of(&id)).await.expect_err("leased");
    check_reason(&status, Code::FailedPrecondition, "FOLLOW_UP_NOT_DEAD_LETTERED");
    acknowledge(&server, &lease, None).await.expect("taken");
    let status = retry(&server, &follow_up_of(&id)).await.expect_err("delivered");
    check_reason(&status, Code::FailedPrecondition, "FOLLOW_UP_NOT_DEAD_LETTERED");
}

#[tokio::test]
async fn a_lease_that_runs_out_is_handed_out_again_and_the_old_one_is_refused() {
    let server = TestServer::with(&QUICK).await;
    let session = new_session(&server).await;
    followed(&server, &session, "true").await;
    let request = v1::LeaseFollowUpsRequest { lease_duration: millis(50), ..lease_of(&session) };
    let old = lease(&server, request).await.remove(0);
    // It hangs until another consumer has the lease.
    let new = leased(&server, &session).await;
    assert_eq!(
        (record(&new).follow_up_id.as_str(), record(&new).attempt),
        (&*record(&old).follow_up_id, 2)
    );
    let error = record(&new).last_error.as_ref().expect("an error");
    assert!(error.message.contains("expired"), "{error:?}");
    for code in [None, Some(UNKNOWN)] {
        let status = acknowledge(&server, &old, code).await.expect_err("stale");
        check_reason(&status, Code::FailedPrecondition, "LEASE_EXPIRED");
    }
    acknowledge(&server, &new, None).await.expect("taken");
    let status = acknowledge(&server, &old, None).await.expect_err("stale still");
    check_reason(&status, Code::FailedPrecondition, "LEASE_EXPIRED");
    let events = story(&log_of(&server, &session).await);
    assert_eq!(events, ["scheduled", "started 1", "PENDING 1", "started 2", "DELIVERED 2"]);
}

#[tokio::test]
async fn a_released_lease_is_no_attempt() {
    // With the default backoff: it is available at once.
    let server = TestServer::start().await;
    let session = new_session(&server).await;
    followed(&server, &session, "true").await;
    for _ in 0..12 {
        let lease = leased(&server, &session).await;
        assert_eq!(record(&lease).attempt, 1);
        acknowledge(&server, &lease, Some(CANCELLED)).await.expect("taken");
    }
    assert_eq!(list(&server, &session).await[0].attempt, 0);
}

#[tokio::test]
async fn leases_and_dead_letters_outlast_the_server() {
    let server = TestServer::with(&QUICK).await;
    let session = new_session(&server).await;
    followed(&server, &session, "true").await;
    let lease = leased(&server, &session).await;
    let server = server.restart().await;
    acknowledge(&server, &lease, Some(UNKNOWN)).await.expect("the lease still holds");
    let server = server.restart().await;
    let lease = leased(&server, &session).await;
    assert_eq!(record(&lease).attempt, 2);
    acknowledge(&server, &lease, None).await.expect("taken");
}

#[tokio::test]
async fn a_follow_up_that_two_consumers_race_for_goes_to_one() {
    let server = TestServer::with(&QUICK).await;
    let session = new_session(&server).await;
    const TASKS: usize = 40;
    for _ in 0..TASKS {
        let id = followed(&server, &session, "true").await;
        ended(&server, &id).await;
    }
    let consumers = (0..4).map(|_| async {
        let mut mine = Vec::new();
        loop {
            let request = v1::LeaseFollowUpsRequest { wait: millis(0), ..lease_of(&session) };
            let leases = lease(&server, request).await;
            let Some(lease) = leases.into_iter().next() else { return mine };
            acknowledge(&server, &lease, None).await.expect("taken");
            mine.push(record(&lease).follow_up_id.clone());
        }
    });
    let mut all: Vec<String> = join_all(consumers).await.into_iter().flatten().collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), TASKS);
    let events = story(&log_of(&server, &session).await);
    let count = |what: &str| events.iter().filter(|word| *word == what).count();
    assert_eq!((count("started 1"), count("DELIVERED 1")), (TASKS, TASKS));
}

/// A Wait that acknowledges races a consumer, many times: one of them gets the end, never both or
/// neither.
#[tokio::test]
async fn an_acknowledged_result_is_delivered_or_not_but_never_both() {
    let server = TestServer::with_tools(vec![crate::in_process::count()]).await;
    const SESSIONS: usize = 10;
    let rounds = proof(1_000, 100);
    let sessions = (0..SESSIONS).map(|_| async {
        let session = new_session(&server).await;
        let mut delivered = 0;
        for round in 0..rounds / SESSIONS {
            delivered += usize::from(race(&server, &session, round % 2 == 0).await);
        }
        let follow_ups = list_all(&server, &session).await;
        let count = |state| follow_ups.iter().filter(|one| one.state() == state).count();
        let (delivered_here, spared) = (count(State::Delivered), count(State::Suppressed));
        assert_eq!((delivered_here, delivered_here + spared), (delivered, rounds / SESSIONS));
        delivered
    });
    let delivered: usize = join_all(sessions).await.into_iter().sum();
    println!("{delivered} of {rounds} were delivered");
    assert!(delivered > 0 && delivered < rounds, "one of them is always faster");
}

/// Returns whether the consumer got the follow-up. With `late`, the Wait follows another one, to
/// give the consumer a chance.
async fn race(server: &TestServer, session: &str, late: bool) -> bool {
    let request = crate::support::waiting::start_of(v1::RunToolRequest {
        session_id: session.into(),
        tool: "count".into(),
        follow_up: v1::FollowUpPolicy::OnFinish.into(),
        ..Default::default()
    });
    let background_id = started(server, request).await.background_id;
    let request = v1::WaitRequest { background_id, acknowledge: true, ..Default::default() };
    let mut tasks = server.tasks.clone();
    let waiting = async {
        if late {
            let first = v1::WaitRequest { acknowledge: false, ..request.clone() };
            soon("an end", tasks.wait(first)).await.expect("an answer");
        }
        soon("an end", tasks.wait(request)).await.expect("an answer")
    };
    let consuming = async {
        let request = v1::LeaseFollowUpsRequest { wait: millis(3), ..lease_of(session) };
        let Some(lease) = lease(server, request).await.into_iter().next() else { return false };
        acknowledge(server, &lease, None).await.expect("taken");
        true
    };
    tokio::join!(waiting, consuming).1
}

async fn list_all(server: &TestServer, session: &str) -> Vec<v1::FollowUp> {
    let request = v1::ListFollowUpsRequest {
        session_id: session.into(),
        page_size: 1_000,
        ..Default::default()
    };
    let answer = soon("a list", server.tasks.clone().list_follow_ups(request)).await;
    answer.expect("an answer").into_inner().follow_ups
}
