//! Follow-ups of agents that live elsewhere: leased, and acknowledged.

use tonic::Code;

use super::*;
use crate::support::streams::{Gate, close, ended, log_of, new_session, run, task_now};
use crate::support::{check_reason, request_id};
use v1::FollowUpPolicy as Policy;

#[tokio::test]
async fn an_end_and_its_follow_up_are_consecutive_events() {
    let server = TestServer::start().await;
    let session = new_session(&server).await;
    let id = followed(&server, &session, "echo done; exit 3").await;
    ended(&server, &id).await;
    let events = log_of(&server, &session).await;
    let [.., end, scheduled] = &events[..] else { panic!("{events:?}") };
    assert!(matches!(end.payload, Some(Payload::ToolCallFinished(_))), "{end:?}");
    assert!(matches!(scheduled.payload, Some(Payload::FollowUpScheduled(_))), "{scheduled:?}");
    let follow_ups = list(&server, &session).await;
    let [follow_up] = &follow_ups[..] else { panic!("{follow_ups:?}") };
    assert_eq!(follow_up.follow_up_id, follow_up_of(&id));
    assert_eq!((follow_up.state(), follow_up.attempt), (State::Pending, 0));
    assert_eq!(follow_up.delivery(), v1::FollowUpDelivery::Lease);
    assert_eq!(follow_up.task.as_ref().expect("a task").background_id, id);
    assert!(follow_up.expire_time.is_none() && follow_up.next_attempt_time.is_some());
}

#[tokio::test]
async fn only_ends_that_the_policy_asks_for_give_one() {
    let server = TestServer::start().await;
    let session = new_session(&server).await;
    for (policy, command) in [
        (Policy::None, "exit 1"),
        (Policy::OnFailure, "true"),
        (Policy::OnFailure, "exit 2"),
        (Policy::OnFinish, "true"),
    ] {
        let id = started(&server, with_policy(&session, command, policy)).await.background_id;
        ended(&server, &id).await;
    }
    // In the foreground the caller has the result.
    run(&server, &session, "exit 3").await;
    let reasons: Vec<String> = list(&server, &session)
        .await
        .into_iter()
        .map(|follow_up| follow_up.task.expect("a task").reason)
        .collect();
    assert_eq!(reasons, ["", "exit code 2"]);
}

#[tokio::test]
async fn a_waiting_consumer_gets_the_end_and_acknowledges_it() {
    let server = TestServer::start().await;
    let session = new_session(&server).await;
    let gate = Gate::new(&server, "a");
    let command = format!("{}; echo the result", gate.command());
    let id = followed(&server, &session, &command).await;
    let waiting = leased(&server, &session);
    let opening = async {
        tokio::task::yield_now().await;
        gate.open();
    };
    let (lease, ()) = tokio::join!(waiting, opening);
    let follow_up = record(&lease);
    assert_eq!((follow_up.state(), follow_up.attempt), (State::Leased, 1));
    assert_eq!(follow_up.dedupe_key, follow_up.follow_up_id);
    let words = [id.as_str(), "succeeded", "the result", "not from a person"];
    for word in words {
        assert!(follow_up.message.contains(word), "{word}: {}", follow_up.message);
    }
    let answer = acknowledge(&server, &lease, None).await.expect("taken");
    assert!(!answer.replayed);
    let follow_up = answer.follow_up.expect("a follow-up");
    assert_eq!(follow_up.state(), State::Delivered);
    assert!(follow_up.expire_time.is_some() && follow_up.lease_expire_time.is_none());
    assert!(acknowledge(&server, &lease, None).await.expect("taken again").replayed);
    assert!(lease_now(&server, &session).await.is_empty());
    let events = story(&log_of(&server, &session).await);
    assert_eq!(events, ["scheduled", "started 1", "DELIVERED 1"]);
}

/// Leases all follow-ups that are available without waiting.
async fn lease_now(server: &TestServer, session_id: &str) -> Vec<v1::LeasedFollowUp> {
    lease(server, v1::LeaseFollowUpsRequest { wait: millis(0), ..lease_of(session_id) }).await
}

#[tokio::test]
async fn the_same_request_has_the_same_leases_and_renews_them() {
    let server = TestServer::start().await;
    let session = new_session(&server).await;
    for _ in 0..3 {
        let id = followed(&server, &session, "true").await;
        ended(&server, &id).await;
    }
    let request = v1::LeaseFollowUpsRequest {
        request_id: request_id(),
        max_follow_ups: 2,
        consumer: "me".into(),
        ..lease_of(&session)
    };
    let first = lease(&server, request.clone()).await;
    assert_eq!(first.len(), 2);
    assert_eq!(record(&first[0]).consumer, "me");
    acknowledge(&server, &first[0], None).await.expect("taken");
    let again = server.tasks.clone().lease_follow_ups(request.clone()).await;
    let again = again.expect("an answer").into_inner();
    assert!(again.replayed);
    let [renewed] = &again.follow_ups[..] else { panic!("{again:?}") };
    assert_eq!(renewed.lease_token, first[1].lease_token);
    let until = |lease| {
        let time = record(lease).lease_expire_time.expect("a time");
        (time.seconds, time.nanos)
    };
    assert!(until(renewed) > until(&first[1]));
    let other = v1::LeaseFollowUpsRequest { max_follow_ups: 1, ..request };
    let status = server.tasks.clone().lease_follow_ups(other).await.expect_err("another");
    check_reason(&status, Code::AlreadyExists, "REQUEST_ID_REUSED");
    let events = story(&log_of(&server, &session).await);
    assert_eq!(events[3..], ["started 1", "started 1", "DELIVERED 1"]);
}

#[tokio::test]
async fn cancelled_acknowledged_deleted_or_closed_tasks_have_no_delivery() {
    let server = TestServer::start().await;
    let session = new_session(&server).await;
    let reasons = |follow_ups: Vec<v1::FollowUp>| -> Vec<String> {
        let texts = follow_ups.into_iter().map(|follow_up| {
            assert_eq!(follow_up.state(), State::Suppressed, "{follow_up:?}");
            follow_up.reason
        });
        texts.collect()
    };
    let cancelled = followed(&server, &session, "sleep 1000").await;
    let request = v1::CancelRequest { background_id: cancelled, force: true, ..Default::default() };
    server.tasks.clone().cancel(request).await.expect("cancelled");
    let acknowledged = followed(&server, &session, "true").await;
    let request =
        v1::WaitRequest { background_id: acknowledged, acknowledge: true, ..Default::default() };
    server.tasks.clone().wait(request).await.expect("an answer");
    let deleted = followed(&server, &session, "true").await;
    ended(&server, &deleted).await;
    let request = v1::DeleteRequest { background_id: deleted, ..Default::default() };
    server.tasks.clone().delete(request).await.expect("deleted");
    let waiting = followed(&server, &session, "true").await;
    ended(&server, &waiting).await;
    let live = followed(&server, &session, "sleep 1000").await;
    close(&server, &session).await;
    ended(&server, &live).await;
    // What the session's log has no place for any more is in the records.
    soon("the end of all", async {
        while list(&server, &session).await.iter().any(|one| one.state() != State::Suppressed) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
    let (events, _) = Reader::open(&server, stream_of(&session)).await.rest().await;
    let end = events.last().expect("events");
    assert!(matches!(end.payload, Some(Payload::SessionShutdown(_))), "{end:?}");
    let [live, waiting, deleted, acknowledged, cancelled] =
        &reasons(list(&server, &session).await)[..]
    else {
        panic!("five")
    };
    assert_eq!(
        (live.as_str(), waiting.as_str()),
        ("its session is closed", "its session is closed")
    );
    assert_eq!(deleted, "its task was deleted");
    assert_eq!(acknowledged, "its result was acknowledged");
    assert!(cancelled.starts_with("it was cancelled by "), "{cancelled}");
    assert!(lease_now(&server, &session).await.is_empty());
}

#[tokio::test]
async fn an_evicted_task_has_a_follow_up() {
    let server = TestServer::start().await;
    let request = v1::CreateSessionRequest {
        max_live_tasks: 1,
        task_limit_policy: v1::TaskLimitPolicy::EvictOldest.into(),
        ..Default::default()
    };
    let session = crate::support::streams::created(&server, request).await.session_id;
    let evicted = followed(&server, &session, "sleep 1000").await;
    let _other = followed(&server, &session, "sleep 1000").await;
    let lease = leased(&server, &session).await;
    assert_eq!(record(&lease).background_id, evicted);
    assert_eq!(task_now(&server, &evicted).await.state(), v1::State::Cancelled);
}

#[tokio::test]
async fn lists_have_pages_and_filters() {
    let server = TestServer::start().await;
    let session = new_session(&server).await;
    for _ in 0..5 {
        let id = followed(&server, &session, "true").await;
        ended(&server, &id).await;
    }
    let lease = leased(&server, &session).await;
    acknowledge(&server, &lease, None).await.expect("taken");
    let mut request = v1::ListFollowUpsRequest {
        session_id: session.clone(),
        states: vec![State::Pending.into()],
        page_size: 3,
        ..Default::default()
    };
    let page = server.tasks.clone().list_follow_ups(request.clone()).await.expect("a page");
    let page = page.into_inner();
    assert_eq!(page.follow_ups.len(), 3);
    request.page_token = page.next_page_token;
    let rest = server.tasks.clone().list_follow_ups(request).await.expect("a page").into_inner();
    assert_eq!((rest.follow_ups.len(), rest.next_page_token.as_str()), (1, ""));
    let ids = page.follow_ups.iter().chain(&rest.follow_ups);
    assert!(ids.clone().all(|follow_up| follow_up.follow_up_id != record(&lease).follow_up_id));
    let distinct: std::collections::HashSet<_> = ids.map(|one| &one.follow_up_id).collect();
    assert_eq!(distinct.len(), 4);
}
