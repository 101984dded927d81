//! The limits of a session and of a server, and the requests that a closed session still answers.

mod start;

use std::time::Duration;

use tonic::Code;
use tonic_types::StatusExt as _;

use crate::history::check_everything;
use crate::support::waiting::{
    Gate, ended, event, events_of, lines_of, log_of, park, parked_of, refusal, run, session,
    start_of, task, text_of, time,
};
use crate::support::{TestServer, bash, check_reason, millis, result_of, soon, stdout_of, v1};

use v1::session_event::Payload;

async fn capped(server: &TestServer, policy: v1::TaskLimitPolicy) -> String {
    let request = v1::CreateSessionRequest {
        max_live_tasks: 2,
        task_limit_policy: policy.into(),
        ..Default::default()
    };
    session(server, request).await
}

fn within(session_id: &str, command: &str) -> v1::RunToolRequest {
    v1::RunToolRequest { session_id: session_id.into(), ..bash(command) }
}

#[track_caller]
fn check_full(status: &tonic::Status) {
    check_reason(status, Code::ResourceExhausted, "TASK_LIMIT");
    let quota = status.get_details_quota_failure().expect("a QuotaFailure");
    assert_eq!(quota.violations.len(), 1);
    assert!(quota.violations[0].description.contains('2'), "{quota:?}");
}

#[tokio::test]
async fn a_full_session_refuses_work_before_it_starts() {
    let server = TestServer::start().await;
    let mut gate = Gate::new(server.folder(), "gate");
    let mark = server.folder().join("mark");
    let session_id = capped(&server, v1::TaskLimitPolicy::Reject).await;
    let first = park(&server, within(&session_id, &gate.wait())).await;
    let second = park(&server, within(&session_id, &gate.wait())).await;
    let more = within(&session_id, &format!("echo ran > {}", mark.display()));
    check_full(&refusal(&server, more.clone()).await);
    let status = server.tasks.clone().start(start_of(more.clone())).await;
    check_full(&status.expect_err("a refusal"));
    // Another session has room of its own.
    run(&server, bash("true")).await;
    gate.open();
    gate.open();
    ended(&server, &first).await;
    ended(&server, &second).await;
    assert_eq!(text_of(&mark), "");
    run(&server, more).await;
    assert_eq!(text_of(&mark), "ran\n");
    let calls = log_of(&server, &session_id).await;
    let started =
        |event: &&v1::SessionEvent| matches!(event.payload, Some(Payload::ToolCallStarted(_)));
    assert_eq!(calls.iter().filter(started).count(), 3);
}

#[tokio::test]
async fn the_server_has_a_cap_for_sessions_that_name_none() {
    let server = TestServer::with(&[("max-live-tasks", "2")]).await;
    let mut gate = Gate::new(server.folder(), "gate");
    let session_id = session(&server, Default::default()).await;
    let ids = [
        park(&server, within(&session_id, &gate.wait())).await,
        park(&server, within(&session_id, &gate.wait())).await,
    ];
    check_full(&refusal(&server, within(&session_id, "true")).await);
    // Either of them may be the one that gets through first.
    ids.iter().for_each(|_| gate.open());
    for id in ids {
        ended(&server, &id).await;
    }
}

#[tokio::test]
async fn a_session_may_cancel_its_oldest_task_to_make_room() {
    let server = TestServer::start().await;
    let mut gate = Gate::new(server.folder(), "gate");
    let session_id = capped(&server, v1::TaskLimitPolicy::EvictOldest).await;
    let oldest = park(&server, within(&session_id, &gate.wait())).await;
    let newer = park(&server, within(&session_id, &gate.wait())).await;
    let newest = park(&server, within(&session_id, &gate.wait())).await;
    let evicted = ended(&server, &oldest).await;
    assert_eq!(evicted.state(), v1::State::Cancelled);
    assert!(evicted.reason.contains("limit"), "{}", evicted.reason);
    let cancelling = |payload: &Payload| match payload {
        Payload::ToolCallCancelling(cancelling) => Some(cancelling.clone()),
        _ => None,
    };
    let cancelling = event(&server, &session_id, cancelling).await;
    assert!(cancelling.evicted && cancelling.reason == evicted.reason, "{cancelling:?}");
    for id in [newer, newest] {
        assert_eq!(task(&server, &id).await.state(), v1::State::Running);
        gate.open();
    }
}

#[tokio::test]
async fn where_none_is_parked_there_is_none_to_evict() {
    let server = TestServer::start().await;
    let mut gate = Gate::new(server.folder(), "gate");
    let mark = server.folder().join("marks");
    let session_id = capped(&server, v1::TaskLimitPolicy::EvictOldest).await;
    let held = within(&session_id, &format!("echo up >> {}; {}", mark.display(), gate.wait()));
    let holding = futures::future::join(run(&server, held.clone()), run(&server, held));
    let refused = async {
        lines_of(&mark, 2).await;
        check_full(&refusal(&server, within(&session_id, "true")).await);
        gate.open();
        gate.open();
    };
    let ((first, second), ()) = futures::future::join(holding, refused).await;
    assert!(!result_of(&first).is_error && !result_of(&second).is_error);
}

#[tokio::test]
async fn calls_beyond_the_running_limit_wait_for_their_turn() {
    let server = TestServer::with(&[("max-running-calls", "1")]).await;
    let mut gate = Gate::new(server.folder(), "gate");
    let mark = server.folder().join("mark");
    let holder = park(&server, bash(&gate.wait())).await;
    let waiting = v1::RunToolRequest {
        call_budget: millis(100),
        execution_timeout: millis(20_000),
        ..bash(&format!("echo ran > {}; echo late", mark.display()))
    };
    // It has a session of its own: the limit is the server's.
    let answer = run(&server, waiting).await;
    let parked = parked_of(&answer);
    let now = parked.task.as_ref().expect("a task");
    assert_eq!((now.state(), now.start_time, now.elapsed), (v1::State::Pending, None, None));
    assert_eq!(text_of(&mark), "");
    gate.open();
    let before = ended(&server, &holder).await;
    let task = ended(&server, &parked.background_id).await;
    assert_eq!(task.state(), v1::State::Succeeded);
    assert!(time(&task.start_time) >= time(&before.start_time) + Duration::from_millis(100));
    assert!(time(&task.start_time) > time(&task.create_time));
    assert_eq!(text_of(&mark), "ran\n");
}

#[tokio::test]
async fn many_calls_get_through_a_narrow_server() {
    let server = TestServer::with(&[("max-running-calls", "2")]).await;
    let lock = server.folder().join("running");
    // Each leaves a mark while it runs, and prints how many it sees.
    let command = format!(
        "mkdir -p {0}; touch {0}/$$; sleep 0.05; ls {0} | wc -l; rm {0}/$$",
        lock.display()
    );
    let answers = futures::future::join_all((0..20).map(|_| run(&server, bash(&command)))).await;
    for answer in &answers {
        let seen = String::from_utf8_lossy(&stdout_of(result_of(answer))).into_owned();
        assert!(["1\n", "2\n"].contains(&seen.as_str()), "{seen:?}");
    }
    check_everything(&server.connect(), 0).await;
}

#[tokio::test]
async fn a_call_can_be_cancelled_while_it_waits_for_its_turn() {
    let server = TestServer::with(&[("max-running-calls", "1")]).await;
    let mut gate = Gate::new(server.folder(), "gate");
    let mark = server.folder().join("mark");
    let holder = park(&server, bash(&gate.wait())).await;
    let id = park(&server, bash(&format!("echo ran > {}", mark.display()))).await;
    let request = crate::support::waiting::cancel_of(&id);
    let answer = crate::support::waiting::cancel(&server, request).await;
    let cancelled = answer.task.expect("a task");
    assert_eq!((cancelled.state(), cancelled.start_time), (v1::State::Cancelled, None));
    gate.open();
    assert_eq!(ended(&server, &holder).await.state(), v1::State::Succeeded);
    // Its place wasn't used up.
    run(&server, bash("true")).await;
    assert_eq!(text_of(&mark), "");
}

async fn close(server: &TestServer, session_id: &str, reason: &str) -> v1::CloseSessionResponse {
    let (session_id, reason) = (session_id.into(), reason.into());
    let request = v1::CloseSessionRequest { session_id, reason, ..Default::default() };
    let answer = soon("a close", server.tools.clone().close_session(request)).await;
    answer.expect("an answer").into_inner()
}

#[tokio::test]
async fn closing_a_session_cancels_calls_that_are_not_detached_and_counts_them() {
    let server = TestServer::start().await;
    let mut gate = Gate::new(server.folder(), "gate");
    let session_id = session(&server, Default::default()).await;
    let held = within(&session_id, &format!("{}; echo done", gate.wait()));
    let ours = [park(&server, held.clone()).await, park(&server, held.clone()).await];
    let detached = v1::RunToolRequest { detached: true, ..held.clone() };
    let detached = park(&server, detached).await;
    let closed = close(&server, &session_id, "tidy up").await;
    assert_eq!((closed.cancelled_tasks, closed.detached_tasks), (2, 1));
    assert!(!closed.replayed);
    assert_eq!(closed.session.expect("a session").state(), v1::SessionState::Closing);
    for id in &ours {
        assert_eq!(ended(&server, id).await.state(), v1::State::Cancelled);
    }
    check_closed(&server, held).await;
    assert_eq!(task(&server, &detached).await.state(), v1::State::Running);
    gate.open();
    assert_eq!(ended(&server, &detached).await.state(), v1::State::Succeeded);
    check_shutdown(&server, &session_id, "tidy up", 2).await;
    let again = close(&server, &session_id, "again").await;
    assert_eq!((again.cancelled_tasks, again.detached_tasks), (2, 1));
    assert!(again.replayed, "closing twice is answered as such");
    assert_eq!(again.session.expect("a session").state(), v1::SessionState::Closed);
}

async fn check_closed(server: &TestServer, request: v1::RunToolRequest) {
    let status = refusal(server, request.clone()).await;
    check_reason(&status, Code::FailedPrecondition, "SESSION_CLOSED");
    let failure = status.get_details_precondition_failure().expect("a PreconditionFailure");
    assert_eq!(failure.violations.len(), 1);
    let dry = v1::RunToolRequest { dry_run: true, ..request.clone() };
    check_reason(&refusal(server, dry).await, Code::FailedPrecondition, "SESSION_CLOSED");
    let status = server.tasks.clone().start(start_of(request)).await.expect_err("a refusal");
    check_reason(&status, Code::FailedPrecondition, "SESSION_CLOSED");
}

/// The log ends with session_shutdown, and a stream of it ends well.
async fn check_shutdown(server: &TestServer, session_id: &str, reason: &str, cancelled: i32) {
    let request = v1::StreamSessionRequest { session_id: session_id.into(), ..Default::default() };
    let stream = server.tools.clone().stream_session(request).await.expect("a stream");
    let events = events_of(stream.into_inner()).await;
    let shutdowns: Vec<usize> = events
        .iter()
        .enumerate()
        .filter(|(_, event)| matches!(event.payload, Some(Payload::SessionShutdown(_))))
        .map(|(index, _)| index)
        .collect();
    assert_eq!(shutdowns, [events.len() - 1]);
    let Some(Payload::SessionShutdown(shutdown)) = &events[events.len() - 1].payload else {
        panic!("{events:?}");
    };
    assert_eq!((shutdown.reason.as_str(), shutdown.cancelled_tasks), (reason, cancelled));
    let sequences: Vec<i64> = events.iter().map(|event| event.sequence).collect();
    assert!(sequences.iter().copied().eq(1..=events.len() as i64), "{sequences:?}");
}

#[tokio::test]
async fn an_idle_session_is_closed_at_once() {
    let server = TestServer::start().await;
    let session_id = run(&server, bash("true")).await.session_id;
    let closed = close(&server, &session_id, "").await;
    assert_eq!((closed.cancelled_tasks, closed.detached_tasks), (0, 0));
    let session = closed.session.expect("a session");
    assert_eq!((session.state(), session.live_tasks), (v1::SessionState::Closed, 0));
    check_shutdown(&server, &session_id, "", 0).await;
    check_closed(&server, within(&session_id, "true")).await;
}
