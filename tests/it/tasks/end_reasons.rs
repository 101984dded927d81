//! The reason for the end of a call, for programs: on the task, its result and its last event.

use std::sync::Arc;

use callpark::tool::{FunctionTool, ToolOutput};
use serde_json::{Value, json};
use v1::{EndReason, State};

use crate::support::program::Site;
use crate::support::streams::{
    Gate, MISSING_TOOL, close, created, ended, log_of, new_session, start_of, started, task,
    task_now, tool_start,
};
use crate::support::waiting::{call, cancel, cancel_of, run};
use crate::support::{TestServer, bash, millis, result_of, soon, v1};
use crate::turns::{Endpoint, Script, config, prompt, turn};
use v1::session_event::Payload;

/// Checks the end of a task, wherever it is reported.
#[track_caller]
fn check(task: &v1::Task, log: &[v1::SessionEvent], state: State, reason: EndReason) {
    assert_eq!((task.state(), task.end_reason()), (state, reason), "{task:?}");
    if let Some(v1::task::Outcome::Result(result)) = &task.outcome {
        assert_eq!(result.end_reason(), reason, "{result:?}");
    }
    let finished = log.iter().find_map(|event| match &event.payload {
        Some(Payload::ToolCallFinished(finished)) if event.call_id == task.call_id => {
            Some(finished)
        }
        _ => None,
    });
    let finished = finished.expect("an end");
    assert_eq!((finished.state(), finished.end_reason()), (state, reason), "{finished:?}");
    if let Some(v1::tool_call_finished::Outcome::Result(result)) = &finished.outcome {
        assert_eq!(result.end_reason(), reason, "{result:?}");
    }
}

/// Waits for the end of a task, and checks it.
async fn check_end(server: &TestServer, task: &v1::Task, state: State, reason: EndReason) {
    assert_eq!(task.end_reason(), EndReason::Unspecified, "it has not ended");
    let task = ended(server, &task.background_id).await;
    check(&task, &log_of(server, &task.session_id).await, state, reason);
    let request = v1::ListRequest { session_id: task.session_id.clone(), ..Default::default() };
    let listed = server.tasks.clone().list(request).await.expect("a list").into_inner().tasks;
    let listed = listed.iter().find(|listed| listed.background_id == task.background_id);
    assert_eq!(listed.expect("the task").end_reason(), reason);
}

/// Runs a call in the background and in the foreground, which must both end so.
async fn check_both(
    server: &TestServer,
    request: v1::RunToolRequest,
    state: State,
    reason: EndReason,
) {
    let session_id = new_session(server).await;
    let answer = run(server, v1::RunToolRequest { session_id, ..request.clone() }).await;
    let result = result_of(&answer);
    assert_eq!((result.end_reason(), result.is_error), (reason, state != State::Succeeded));
    let log = log_of(server, &answer.session_id).await;
    let Some(Payload::ToolCallFinished(finished)) = log.last().and_then(|e| e.payload.clone())
    else {
        panic!("{log:?}")
    };
    assert_eq!((finished.state(), finished.end_reason()), (state, reason));
    let request = v1::RunToolRequest { call_budget: None, ..request };
    let task = started(server, tool_start(&answer.session_id, request)).await;
    // A short call may have ended before the answer to its start.
    let task = v1::Task { end_reason: 0, ..task };
    check_end(server, &task, state, reason).await;
}

#[tokio::test]
async fn a_process_that_ends_by_itself() {
    let server = TestServer::with_config(MISSING_TOOL, &[]).await;
    let missing = call("missing", json!({}));
    check_both(&server, bash("true"), State::Succeeded, EndReason::Completed).await;
    check_both(&server, bash("exit 3"), State::Failed, EndReason::ExitCode).await;
    check_both(&server, bash("kill -SEGV $$"), State::Failed, EndReason::Signal).await;
    check_both(&server, missing, State::Failed, EndReason::SpawnFailed).await;
}

#[tokio::test]
async fn a_run_that_is_stopped_at_a_limit() {
    let server = TestServer::start().await;
    let whole = v1::RunToolRequest { execution_timeout: millis(300), ..bash("sleep 60") };
    check_both(&server, whole, State::TimedOut, EndReason::ExecutionTimeout).await;
    let silence = v1::RunToolRequest { idle_timeout: millis(300), ..bash("sleep 60") };
    check_both(&server, silence, State::TimedOut, EndReason::IdleTimeout).await;
    // Code 0 after TERM is a timeout all the same.
    let trap = bash("trap 'exit 0' TERM; while :; do sleep 0.05; done");
    let whole = v1::RunToolRequest { execution_timeout: millis(500), ..trap };
    check_both(&server, whole, State::TimedOut, EndReason::ExecutionTimeout).await;
}

#[tokio::test]
async fn a_tool_that_reports_an_error() {
    let tool = FunctionTool::new("say").run(|arguments: Value, _context| async move {
        if arguments["panic"].as_bool() == Some(true) {
            panic!("as its arguments ask");
        }
        arguments["fail"].is_null().then(|| ToolOutput::text("said")).ok_or("it failed".into())
    });
    let server = TestServer::with_tools(vec![tool as Arc<_>]).await;
    let of = |arguments| call("say", arguments);
    check_both(&server, of(json!({})), State::Succeeded, EndReason::Completed).await;
    let failing = of(json!({ "fail": true }));
    check_both(&server, failing, State::Failed, EndReason::ToolError).await;
    let panicking = of(json!({ "panic": true }));
    check_both(&server, panicking, State::Failed, EndReason::ToolError).await;
}

#[tokio::test]
async fn a_turn_that_ends_with_an_error() {
    let refusals = vec![Script::Status(401, vec![], "{}".into()); 2];
    let endpoint = Endpoint::new(refusals).await;
    let server = TestServer::with_config(&config(&endpoint, ""), &[]).await;
    let session_id = new_session(&server).await;
    let answer = turn(&server, prompt(&session_id, "1")).await;
    assert_eq!(answer.end_reason(), EndReason::TurnError);
    assert!(answer.error.is_some());
    let request = crate::support::waiting::start_of_turn(prompt(&session_id, "2"));
    let task = started(&server, request).await;
    let task = v1::Task { end_reason: 0, ..task };
    check_end(&server, &task, State::Failed, EndReason::TurnError).await;
}

/// Starts a task that runs, and one that waits for it.
async fn running_and_pending(server: &TestServer, session_id: &str) -> (v1::Task, v1::Task) {
    let running = task(server, session_id, "sleep 60").await;
    let queued = v1::StartRequest {
        concurrency: v1::Concurrency::Queue.into(),
        ..start_of(session_id, "true")
    };
    (running, started(server, queued).await)
}

#[tokio::test]
async fn a_task_that_a_client_cancels() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    let (running, pending) = running_and_pending(&server, &session_id).await;
    assert_eq!(pending.state(), State::Pending);
    for task in [&pending, &running] {
        let answer = cancel(&server, cancel_of(&task.background_id)).await;
        let of_answer = answer.task.expect("a task");
        assert_eq!(of_answer.end_reason(), EndReason::CancelledByRequest);
        check_end(&server, task, State::Cancelled, EndReason::CancelledByRequest).await;
    }
    // A task that is being cancelled has no reason yet, and one that was cancelled keeps its own.
    let trap = "trap '' TERM; echo up; while :; do sleep 0.05; done";
    let stubborn = task(&server, &session_id, trap).await;
    let output = |payload: &Payload| matches!(payload, Payload::ToolOutput(_)).then_some(());
    crate::support::waiting::event(&server, &session_id, output).await;
    let slowly = v1::CancelRequest {
        wait: millis(1),
        grace: millis(60_000),
        ..cancel_of(&stubborn.background_id)
    };
    assert!(cancel(&server, slowly).await.still_running);
    let now = task_now(&server, &stubborn.background_id).await;
    assert_eq!((now.state(), now.end_reason()), (State::Cancelling, EndReason::Unspecified));
    close(&server, &session_id).await;
    let force = v1::CancelRequest { force: true, ..cancel_of(&stubborn.background_id) };
    cancel(&server, force).await;
    check_end(&server, &stubborn, State::Cancelled, EndReason::CancelledByRequest).await;
}

#[tokio::test]
async fn a_task_whose_session_is_closed() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    let (running, pending) = running_and_pending(&server, &session_id).await;
    close(&server, &session_id).await;
    for task in [&running, &pending] {
        check_end(&server, task, State::Cancelled, EndReason::SessionClosed).await;
    }
}

#[tokio::test]
async fn a_task_that_new_work_replaces() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    let first = task(&server, &session_id, "sleep 60").await;
    let replace = v1::StartRequest {
        concurrency: v1::Concurrency::Replace.into(),
        ..start_of(&session_id, "echo new")
    };
    let second = started(&server, replace).await;
    check_end(&server, &first, State::Cancelled, EndReason::Replaced).await;
    let second = ended(&server, &second.background_id).await;
    assert_eq!(second.end_reason(), EndReason::Completed);
}

#[tokio::test]
async fn a_task_that_a_full_session_evicts() {
    let server = TestServer::start().await;
    let request = v1::CreateSessionRequest {
        max_live_tasks: 1,
        task_limit_policy: v1::TaskLimitPolicy::EvictOldest.into(),
        ..Default::default()
    };
    let session_id = created(&server, request).await.session_id;
    let first = task(&server, &session_id, "sleep 60").await;
    let gate = Gate::new(&server, "second");
    let second = task(&server, &session_id, &gate.command()).await;
    check_end(&server, &first, State::Cancelled, EndReason::Evicted).await;
    gate.open();
    check_end(&server, &second, State::Succeeded, EndReason::Completed).await;
}

#[tokio::test]
async fn a_task_whose_server_stops() {
    let server = TestServer::with(&[("drain", "200ms")]).await;
    let session_id = new_session(&server).await;
    let lost = task(&server, &session_id, "sleep 300").await;
    let done = task(&server, &session_id, "exit 3").await;
    check_end(
        &server,
        &v1::Task { end_reason: 0, ..done.clone() },
        State::Failed,
        EndReason::ExitCode,
    )
    .await;
    let server = server.restart().await;
    check_end(&server, &lost, State::Lost, EndReason::ServerLost).await;
    let done = task_now(&server, &done.background_id).await;
    check(&done, &log_of(&server, &session_id).await, State::Failed, EndReason::ExitCode);
}

#[tokio::test]
async fn a_task_whose_server_is_killed() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let request = crate::support::waiting::start_of(bash("sleep 300"));
    let answer = soon("a start", server.connect().tasks.start(request)).await;
    let task = answer.expect("an answer").into_inner().task.expect("a task");
    site.kill_with_shims(server).await;
    let server = site.serve(&[]).await;
    let mut clients = server.connect();
    let wait = v1::WaitRequest { background_id: task.background_id.clone(), ..Default::default() };
    let answer = soon("an end", clients.tasks.wait(wait)).await.expect("an answer");
    let lost = answer.into_inner().task.expect("a task");
    let replay = crate::support::streams::replay_of(&task.session_id);
    let stream = soon("a log", clients.tools.stream_session(replay)).await.expect("a log");
    let log = crate::support::waiting::events_of(stream.into_inner()).await;
    check(&lost, &log, State::Lost, EndReason::ServerLost);
}
