//! One turn a session at a time: what a second prompt does, and what stops a turn.

use tokio::task::JoinSet;
use tonic::Code;

use super::*;
use crate::support::check_reason;
use crate::support::streams::{Reader, close, ended, get, log_of, new_session, stream_of};
use crate::support::waiting::start_of_turn;
use v1::BusyPolicy;

/// A turn that runs until it is let go or stopped.
fn running(
    server: &TestServer,
    request: v1::RunTurnRequest,
) -> impl Future<Output = Result<FinishedTurn, tonic::Status>> + use<> {
    let mut tools = server.tools.clone();
    let mut turns = JoinSet::new();
    turns.spawn(async move {
        tools.run_turn(request).await.map(|answer| FinishedTurn::of(answer.into_inner()))
    });
    async move {
        let answer = soon("a turn", turns.join_next()).await;
        answer.expect("an answer").expect("no panic")
    }
}

fn policy(session: &str, text: &str, policy: BusyPolicy) -> v1::RunTurnRequest {
    v1::RunTurnRequest { busy_policy: policy.into(), ..prompt(session, text) }
}

async fn cancel(server: &TestServer, session: &str, turn_id: &str) -> v1::CancelTurnResponse {
    let request = v1::CancelTurnRequest {
        session_id: session.into(),
        turn_id: turn_id.into(),
        reason: "enough".into(),
        ..Default::default()
    };
    let answer = soon("a cancel", server.tools.clone().cancel_turn(request)).await;
    answer.expect("an answer").into_inner()
}

#[tokio::test]
async fn a_second_prompt_is_refused_by_default() {
    let (script, go_on) = held("am done");
    let endpoint = Endpoint::new(vec![script]).await;
    let server = serve(&endpoint).await;
    let session = new_session(&server).await;
    let first = running(&server, prompt(&session, "1"));
    endpoint.asked(1).await;
    let status = server.tools.clone().run_turn(prompt(&session, "2")).await.expect_err("busy");
    check_reason(&status, Code::Aborted, "SESSION_BUSY");
    let dry = v1::StartRequest {
        concurrency: v1::Concurrency::Reject.into(),
        ..start_of_turn(v1::RunTurnRequest { dry_run: true, ..prompt(&session, "2") })
    };
    let status = server.tasks.clone().start(dry.clone()).await.expect_err("busy");
    check_reason(&status, Code::Aborted, "SESSION_BUSY");
    let dry = v1::StartRequest { concurrency: v1::Concurrency::Queue.into(), ..dry };
    assert!(server.tasks.clone().start(dry).await.expect("would be taken").into_inner().dry_run);
    go_on.notify_one();
    assert_eq!(first.await.expect("an answer").final_text, "I am done");
    assert_eq!(endpoint.requests().len(), 1);
}

#[tokio::test]
async fn an_enqueued_prompt_waits_for_its_turn() {
    let (script, go_on) = held("am done");
    let endpoint = Endpoint::new(vec![script, says("me too")]).await;
    let server = serve(&endpoint).await;
    let session = new_session(&server).await;
    let first = running(&server, prompt(&session, "1"));
    endpoint.asked(1).await;
    let request = policy(&session, "2", BusyPolicy::Enqueue);
    let mut second =
        server.tools.clone().stream_turn(request).await.expect("a stream").into_inner();
    let accepted = soon("its acceptance", second.message()).await.expect("an event");
    let accepted = accepted.expect("an event").events.remove(0).payload;
    assert!(matches!(accepted, Some(Payload::ToolCallAccepted(_))), "{accepted:?}");
    go_on.notify_one();
    assert_eq!(first.await.expect("an answer").final_text, "I am done");
    let mut events = Vec::new();
    while let Some(update) = soon("an event", second.message()).await.expect("no error") {
        events.extend(update.events);
    }
    assert_eq!(short(&events).last().expect("an end"), "idle STOP_REASON_END_TURN \"me too\"");
    assert_eq!(endpoint.messages(1).len(), 4, "it knows of the first");
}

#[tokio::test]
async fn an_interrupting_prompt_stops_the_turn_that_runs() {
    let (script, _never) = held("am done");
    let endpoint = Endpoint::new(vec![script, says("I am next")]).await;
    let server = serve(&endpoint).await;
    let session = new_session(&server).await;
    let first = running(&server, prompt(&session, "1"));
    endpoint.asked(1).await;
    let second = turn(&server, policy(&session, "2", BusyPolicy::Interrupt)).await;
    assert_eq!(second.final_text, "I am next");
    let first = first.await.expect("an answer");
    assert_eq!(first.stop_reason(), v1::StopReason::Cancelled);
    assert_eq!(first.end_reason(), v1::EndReason::Replaced);
    assert_eq!(first.error, None);
}

#[tokio::test]
async fn a_cancelled_turn_ends_once_and_its_session_goes_on() {
    let (script, _never) = held("am done");
    let endpoint = Endpoint::new(vec![script, says("fine")]).await;
    let server = serve(&endpoint).await;
    let session = new_session(&server).await;
    let first = running(&server, prompt(&session, "1"));
    endpoint.asked(1).await;
    let stopped = cancel(&server, &session, "").await;
    assert!(!stopped.replayed);
    let first = first.await.expect("an answer");
    assert_eq!(first.stop_reason(), v1::StopReason::Cancelled);
    assert_eq!(first.end_reason(), v1::EndReason::CancelledByRequest);
    assert_eq!(first.turn_id, stopped.turn_id);
    let again = cancel(&server, &session, &stopped.turn_id).await;
    assert_eq!((again.turn_id, again.replayed), (stopped.turn_id, true));
    assert_eq!(cancel(&server, &session, "").await.turn_id, "", "none runs");
    assert_eq!(turn(&server, prompt(&session, "2")).await.final_text, "fine");
    let ends = log_of(&server, &session).await.into_iter().filter(|event| {
        matches!(event.payload, Some(Payload::SessionIdle(_) | Payload::SessionError(_)))
    });
    assert_eq!(ends.count(), 2);
}

#[tokio::test]
async fn closing_its_session_ends_a_turn_before_the_log_ends() {
    let (script, _never) = held("am done");
    let endpoint = Endpoint::new(vec![script]).await;
    let server = serve(&endpoint).await;
    let session = new_session(&server).await;
    let first = running(&server, prompt(&session, "1"));
    endpoint.asked(1).await;
    close(&server, &session).await;
    let first = first.await.expect("an answer");
    assert_eq!(first.stop_reason(), v1::StopReason::Cancelled);
    assert_eq!(first.end_reason(), v1::EndReason::SessionClosed);
    // The log may still be open when the turn is answered.
    let (log, end) = Reader::open(&server, stream_of(&session)).await.rest().await;
    assert!(end.is_none(), "{end:?}");
    let events = short(&log);
    let last: Vec<_> = events[events.len() - 3..].iter().map(String::as_str).collect();
    let [idle, finished, shutdown] = last[..] else { panic!("{events:?}") };
    assert_eq!(idle, "idle STOP_REASON_CANCELLED \"\"");
    assert_eq!(finished, "ended STATE_CANCELLED");
    assert!(shutdown.starts_with("SessionShutdown"), "{shutdown}");
    let ends = [&log[log.len() - 3], &log[log.len() - 2]];
    assert!(ends.iter().all(|event| event.call_id == log[0].call_id), "{ends:?}");
    let Some(Payload::ToolCallFinished(finished)) = &ends[1].payload else { panic!("{ends:?}") };
    assert_eq!(finished.end_reason(), v1::EndReason::SessionClosed);
}

#[tokio::test]
async fn a_deadline_parks_a_turn() {
    let (script, go_on) = held("am done");
    let endpoint = Endpoint::new(vec![script]).await;
    let server = serve(&endpoint).await;
    let session = new_session(&server).await;
    let request =
        v1::RunTurnRequest { request_id: crate::support::request_id(), ..prompt(&session, "1") };
    let mut impatient = tonic::Request::new(request.clone());
    impatient.set_timeout(std::time::Duration::from_millis(700));
    let answer = server.tools.clone().run_turn(impatient).await.expect("an answer").into_inner();
    let Some(v1::run_turn_response::Outcome::Parked(parked)) = answer.outcome else {
        panic!("not parked but {:?}", answer.outcome)
    };
    let task = get(&server, &parked.background_id).await.expect("a task");
    assert_eq!(task.park_reason(), v1::ParkReason::Deadline);
    go_on.notify_one();
    let task = ended(&server, &parked.background_id).await;
    assert_eq!(task.state(), v1::State::Succeeded);
    let Some(v1::task::Outcome::Result(result)) = &task.outcome else { panic!("{task:?}") };
    let text = Some(v1::content::Kind::Text("I am done".into()));
    assert_eq!(result.content[0].kind, text);
    let again = server.tools.clone().run_turn(request).await.expect("an answer").into_inner();
    assert!(again.replayed);
    let Some(v1::run_turn_response::Outcome::Parked(parked)) = again.outcome else {
        panic!("not parked but {:?}", again.outcome)
    };
    assert_eq!(parked.task, Some(task));
    assert_eq!(endpoint.requests().len(), 1);
}

#[tokio::test]
async fn a_turn_that_its_server_left_is_lost_and_says_so() {
    let (script, _never) = held("am done");
    let endpoint = Endpoint::new(vec![script, says("here I am")]).await;
    let server = serve(&endpoint).await;
    let lose =
        v1::CreateSessionRequest { on_restart: v1::OnRestart::Lose.into(), ..Default::default() };
    let session = crate::support::streams::created(&server, lose).await.session_id;
    let first = running(&server, prompt(&session, "1"));
    endpoint.asked(1).await;
    let server = server.restart().await;
    assert!(first.await.is_err());
    let events = log_of(&server, &session).await;
    let end = events.iter().find_map(|event| match &event.payload {
        Some(Payload::SessionError(error)) => Some(error.clone()),
        _ => None,
    });
    let error = end.expect("an end");
    assert_eq!((error.code.as_str(), error.retryable), ("host_lost", true));
    assert_eq!(turn(&server, prompt(&session, "2")).await.final_text, "here I am");
    let messages = endpoint.messages(1);
    assert_eq!(messages[1]["content"], "1\n\n2", "the prompt of the lost turn is remembered");
}
