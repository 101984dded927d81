//! Turns that go to the background, and what a turn takes over from its request.

use std::time::Duration;

use tonic::Request;

use super::*;
use crate::support::millis;
use crate::support::streams::{close, ended, log_of, new_session, task_now};
use crate::support::waiting::{first_end, outcome_of, start, start_of_turn};
use v1::run_turn_response::Outcome;

async fn run(server: &TestServer, request: v1::RunTurnRequest) -> v1::RunTurnResponse {
    let answer = soon("a turn", server.tools.clone().run_turn(request)).await;
    answer.expect("an answer").into_inner()
}

#[track_caller]
fn parked_of(answer: &v1::RunTurnResponse) -> &v1::ParkedCall {
    match &answer.outcome {
        Some(Outcome::Parked(parked)) => parked,
        other => panic!("not parked but {other:?}"),
    }
}

/// The text of a task's result.
#[track_caller]
fn text_of(task: &v1::Task) -> &str {
    match &outcome_of(task).content[..] {
        [v1::Content { kind: Some(v1::content::Kind::Text(text)), .. }] => text,
        other => panic!("not one text but {other:?}"),
    }
}

/// A request with all that a turn has in common with a call.
fn rich(session: &str) -> v1::RunTurnRequest {
    v1::RunTurnRequest {
        execution_timeout: millis(90_000),
        follow_up: v1::FollowUpPolicy::OnFailure.into(),
        detached: true,
        labels: [("kind".into(), "sheep".into())].into(),
        description: "count the sheep".into(),
        ..prompt(session, "how many?")
    }
}

#[track_caller]
fn check_rich(task: &v1::Task, session: &str, call_id: &str) {
    assert_eq!((task.session_id.as_str(), task.call_id.as_str()), (session, call_id));
    assert_eq!((task.tool.as_str(), task.kind()), ("", v1::Kind::Agent));
    assert_eq!((task.state(), task.end_reason()), (v1::State::Running, Default::default()));
    assert_eq!(task.execution_timeout, millis(90_000));
    assert_eq!(task.follow_up(), v1::FollowUpPolicy::OnFailure);
    assert_eq!(task.labels, [("kind".into(), "sheep".into())].into());
    assert_eq!((task.detached, task.description.as_str()), (true, "count the sheep"));
}

#[tokio::test]
async fn a_turn_that_outlasts_its_budget_is_parked_and_goes_on() {
    let (script, go_on) = held("am done");
    let endpoint = Endpoint::new(vec![script]).await;
    let server = serve(&endpoint).await;
    let session = new_session(&server).await;
    let request = v1::RunTurnRequest {
        call_budget: millis(300),
        request_id: crate::support::request_id(),
        ..rich(&session)
    };
    let answer = run(&server, request.clone()).await;
    let parked = parked_of(&answer);
    assert_eq!(parked.r#type, "background");
    assert_eq!((parked.tool.as_str(), parked.call_budget), ("", millis(300)));
    assert_eq!(parked.background_id, answer.call_id.replace("call-", "bg-"));
    assert!(parked.message.contains(&parked.background_id), "{}", parked.message);
    let task = parked.task.as_ref().expect("a task");
    check_rich(task, &session, &answer.call_id);
    assert_eq!((task.park_reason(), task.call_budget), (v1::ParkReason::Budget, millis(300)));
    go_on.notify_one();
    let task = ended(&server, &parked.background_id).await;
    assert_eq!((task.state(), text_of(&task)), (v1::State::Succeeded, "I am done"));
    assert_eq!(task.end_reason(), v1::EndReason::Completed);
    assert_eq!(task.usage.expect("usage").requests, 1);
    // The same request gets the same answer, now with the end of its turn.
    let again = run(&server, request).await;
    assert!(again.replayed);
    assert_eq!(parked_of(&again).task.as_ref(), Some(&task));
    assert_eq!((again.turn_id, endpoint.requests().len()), (answer.turn_id, 1));
}

#[tokio::test]
async fn a_turn_within_its_budget_is_answered_with_its_result() {
    let endpoint = Endpoint::new(vec![says("12")]).await;
    let server = serve(&endpoint).await;
    let session = new_session(&server).await;
    let request = v1::RunTurnRequest { call_budget: millis(30_000), ..rich(&session) };
    let answer = turn(&server, request).await;
    assert_eq!((answer.final_text.as_str(), answer.end_reason()), ("12", v1::EndReason::Completed));
    let log = log_of(&server, &session).await;
    let is_parked =
        |event: &v1::SessionEvent| matches!(event.payload, Some(Payload::ToolCallParked(_)));
    assert!(!log.iter().any(is_parked), "{log:?}");
}

#[tokio::test]
async fn a_turn_with_a_budget_of_zero_is_parked_at_once() {
    let (script, go_on) = held("am done");
    let endpoint = Endpoint::new(vec![script]).await;
    let server = serve(&endpoint).await;
    let session = new_session(&server).await;
    let answer =
        run(&server, v1::RunTurnRequest { call_budget: millis(0), ..rich(&session) }).await;
    let parked = parked_of(&answer);
    let task = parked.task.as_ref().expect("a task");
    check_rich(task, &session, &answer.call_id);
    assert_eq!(task.park_reason(), v1::ParkReason::BackgroundStart);
    assert_eq!((parked.call_budget, task.call_budget), (millis(0), millis(0)));
    go_on.notify_one();
    assert_eq!(text_of(&ended(&server, &parked.background_id).await), "I am done");
}

#[tokio::test]
async fn a_turn_started_in_the_background_takes_over_its_request() {
    let (script, go_on) = held("am done");
    let endpoint = Endpoint::new(vec![script]).await;
    let server = serve(&endpoint).await;
    let session = new_session(&server).await;
    let dry = v1::RunTurnRequest { dry_run: true, ..rich(&session) };
    let answer = server.tasks.clone().start(start_of_turn(dry)).await.expect("an answer");
    assert_eq!(answer.into_inner(), v1::StartResponse { dry_run: true, ..Default::default() });
    assert!(log_of(&server, &session).await.is_empty());
    let task = start(&server, start_of_turn(rich(&session))).await;
    assert_eq!(task.park_reason(), v1::ParkReason::BackgroundStart);
    check_rich(&task, &session, &task.call_id);
    let labels = [("kind".into(), "sheep".into())].into();
    let list =
        v1::ListRequest { labels, kinds: vec![v1::Kind::Agent.into()], ..Default::default() };
    let listed = server.tasks.clone().list(list).await.expect("a list").into_inner().tasks;
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(listed[0].background_id, task.background_id);
    close(&server, &session).await;
    let now = task_now(&server, &task.background_id).await;
    assert_eq!((now.state(), now.cancellation), (v1::State::Running, None), "it is detached");
    go_on.notify_one();
    let task = ended(&server, &task.background_id).await;
    assert_eq!((task.state(), text_of(&task)), (v1::State::Succeeded, "I am done"));
}

#[tokio::test]
async fn a_dry_run_of_a_turn_starts_nothing() {
    let endpoint = Endpoint::new(vec![]).await;
    let server = serve(&endpoint).await;
    let session = new_session(&server).await;
    let dry = v1::RunTurnRequest { dry_run: true, ..rich(&session) };
    let expected =
        v1::RunTurnResponse { session_id: session.clone(), dry_run: true, ..Default::default() };
    assert_eq!(run(&server, dry.clone()).await, expected);
    let anew = v1::RunTurnRequest { session_id: String::new(), ..dry.clone() };
    assert_eq!(
        run(&server, anew).await,
        v1::RunTurnResponse { dry_run: true, ..Default::default() }
    );
    assert!(streamed(&server, dry.clone()).await.is_empty());
    let absent = v1::RunTurnRequest { model: "absent".into(), ..dry };
    let status = server.tools.clone().run_turn(absent).await.expect_err("refused");
    crate::support::check_reason(&status, tonic::Code::NotFound, "MODEL_NOT_FOUND");
    assert!(log_of(&server, &session).await.is_empty());
    let list = server.tools.clone().list_sessions(v1::ListSessionsRequest::default()).await;
    assert_eq!(list.expect("a list").into_inner().sessions.len(), 1, "no session was created");
    assert!(endpoint.requests().is_empty());
}

#[tokio::test]
async fn a_stream_ends_well_when_its_turn_is_parked() {
    let (script, go_on) = held("am done");
    let endpoint = Endpoint::new(vec![script]).await;
    let server = serve(&endpoint).await;
    let session = new_session(&server).await;
    let request = v1::RunTurnRequest { call_budget: millis(500), ..rich(&session) };
    let events = streamed(&server, request).await;
    let Some(Payload::ToolCallParked(parked)) = events.last().and_then(|e| e.payload.clone())
    else {
        panic!("{events:?}")
    };
    assert_eq!((parked.reason(), parked.call_budget), (v1::ParkReason::Budget, millis(500)));
    assert_eq!(parked.background_id, events[0].call_id.replace("call-", "bg-"));
    assert!(short(&events).contains(&"started main how many?".to_owned()), "{events:?}");
    go_on.notify_one();
    assert_eq!(text_of(&ended(&server, &parked.background_id).await), "I am done");
}

#[tokio::test]
async fn a_turn_in_the_background_ends_at_its_execution_timeout() {
    let (script, _never) = held("am done");
    let endpoint = Endpoint::new(vec![script]).await;
    let server = serve(&endpoint).await;
    let session = new_session(&server).await;
    let request = v1::RunTurnRequest {
        call_budget: millis(0),
        execution_timeout: millis(400),
        ..prompt(&session, "1")
    };
    let answer = run(&server, request).await;
    let task = ended(&server, &parked_of(&answer).background_id).await;
    assert_eq!(task.state(), v1::State::TimedOut);
    assert_eq!(task.end_reason(), v1::EndReason::ExecutionTimeout);
    let finished = first_end(&server, &session).await;
    assert_eq!(finished.end_reason(), v1::EndReason::ExecutionTimeout);
    let log = short(&log_of(&server, &session).await);
    assert!(log.contains(&"error execution_timeout true".to_owned()), "{log:?}");
}

#[tokio::test]
async fn a_turn_in_the_foreground_ends_at_its_execution_timeout() {
    let (script, _never) = held("am done");
    let endpoint = Endpoint::new(vec![script]).await;
    let server = serve(&endpoint).await;
    let session = new_session(&server).await;
    let request = v1::RunTurnRequest { execution_timeout: millis(400), ..prompt(&session, "1") };
    let answer = turn(&server, request).await;
    assert_eq!(answer.end_reason(), v1::EndReason::ExecutionTimeout);
    assert_eq!(error_of(&answer).code, "execution_timeout");
}

/// A turn that is to be cancelled when its caller leaves.
fn leaving(session: &str) -> v1::RunTurnRequest {
    v1::RunTurnRequest { on_disconnect: v1::OnDisconnect::Cancel.into(), ..prompt(session, "1") }
}

/// Checks that the session's turn was cancelled because its caller left, and never parked.
async fn check_left(server: &TestServer, session: &str) {
    let finished = first_end(server, session).await;
    assert_eq!(finished.state(), v1::State::Cancelled);
    assert_eq!(finished.end_reason(), v1::EndReason::CallerGone);
    assert_eq!(finished.background_id, "");
    let log = short(&log_of(server, session).await);
    assert!(!log.contains(&"parked".to_owned()), "{log:?}");
    assert!(log.contains(&"idle STOP_REASON_CANCELLED \"\"".to_owned()), "{log:?}");
}

#[tokio::test]
async fn a_deadline_cancels_a_turn_where_that_is_wanted() {
    let (script, _never) = held("am done");
    let endpoint = Endpoint::new(vec![script.clone(), script]).await;
    let server = serve(&endpoint).await;
    let session = new_session(&server).await;
    let mut request = Request::new(leaving(&session));
    request.set_timeout(Duration::from_millis(1_500));
    let answer = server.tools.clone().run_turn(request).await.expect("an answer in time");
    let answer = FinishedTurn::of(answer.into_inner());
    assert_eq!(answer.end_reason(), v1::EndReason::CallerGone);
    assert_eq!(answer.stop_reason(), v1::StopReason::Cancelled);
    check_left(&server, &session).await;

    let session = new_session(&server).await;
    let mut request = Request::new(leaving(&session));
    request.set_timeout(Duration::from_millis(1_500));
    let stream = server.tools.clone().stream_turn(request).await.expect("a stream");
    let events = crate::support::waiting::events_of(stream.into_inner()).await;
    let last = short(&events).pop().expect("an end");
    assert!(last.starts_with("idle STOP_REASON_CANCELLED"), "{last}");
    check_left(&server, &session).await;
}

#[tokio::test]
async fn a_caller_that_goes_away_may_take_its_turn_along() {
    let (script, _never) = held("am done");
    let endpoint = Endpoint::new(vec![script.clone(), script]).await;
    let server = serve(&endpoint).await;
    let session = new_session(&server).await;
    let mut tools = server.tools.clone();
    tokio::select! {
        answer = tools.run_turn(leaving(&session)) => panic!("answered: {answer:?}"),
        () = endpoint.asked(1) => {}
    }
    check_left(&server, &session).await;

    let session = new_session(&server).await;
    let stream = server.tools.clone().stream_turn(leaving(&session)).await.expect("a stream");
    endpoint.asked(2).await;
    drop(stream);
    check_left(&server, &session).await;
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_a_parked_turn() {
    let (script, go_on) = held("am done");
    let endpoint = Endpoint::new(vec![script]).await;
    let server = serve(&endpoint).await;
    let session = new_session(&server).await;
    let stream = server.tools.clone().stream_turn(prompt(&session, "1")).await.expect("a stream");
    endpoint.asked(1).await;
    drop(stream);
    let parked = |payload: &Payload| match payload {
        Payload::ToolCallParked(parked) => Some(parked.clone()),
        _ => None,
    };
    let parked = crate::support::waiting::event(&server, &session, parked).await;
    assert_eq!(parked.reason(), v1::ParkReason::Disconnected);
    go_on.notify_one();
    assert_eq!(text_of(&ended(&server, &parked.background_id).await), "I am done");
}
