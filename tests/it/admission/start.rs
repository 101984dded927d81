//! The effect of new background work on the work that its session already has.

use tonic::Code;
use tonic_types::StatusExt as _;

use crate::support::waiting::{
    Gate, ended, lines_of, outcome_of, park, run, session, start, start_of, task, text_of, time,
};
use crate::support::{TestServer, bash, check_reason, soon, stdout_of, v1};

fn within(session_id: &str, command: &str) -> v1::RunToolRequest {
    v1::RunToolRequest { session_id: session_id.into(), ..bash(command) }
}

fn with(concurrency: v1::Concurrency, session_id: &str, command: &str) -> v1::StartRequest {
    v1::StartRequest { concurrency: concurrency.into(), ..start_of(within(session_id, command)) }
}

#[tokio::test]
async fn allow_runs_beside_the_others() {
    let server = TestServer::start().await;
    let mut gate = Gate::new(server.folder(), "gate");
    let session_id = session(&server, Default::default()).await;
    let first = park(&server, within(&session_id, &gate.wait())).await;
    for concurrency in [v1::Concurrency::Unspecified, v1::Concurrency::Allow] {
        let beside = start(&server, with(concurrency, &session_id, "echo beside")).await;
        assert_eq!(beside.park_reason(), v1::ParkReason::BackgroundStart);
        let beside = ended(&server, &beside.background_id).await;
        assert_eq!(stdout_of(outcome_of(&beside)), b"beside\n");
    }
    assert_eq!(task(&server, &first).await.state(), v1::State::Running);
    gate.open();
    ended(&server, &first).await;
}

#[tokio::test]
async fn reject_refuses_while_a_task_is_live() {
    let server = TestServer::start().await;
    let mut gate = Gate::new(server.folder(), "gate");
    let mark = server.folder().join("mark");
    let session_id = session(&server, Default::default()).await;
    let first = park(&server, within(&session_id, &gate.wait())).await;
    let command = format!("echo ran >> {}", mark.display());
    let request = with(v1::Concurrency::Reject, &session_id, &command);
    let status = server.tasks.clone().start(request.clone()).await.expect_err("a refusal");
    check_reason(&status, Code::Aborted, "SESSION_BUSY");
    assert!(status.get_details_retry_info().is_some_and(|info| info.retry_delay.is_some()));
    // Tasks of other sessions don't count.
    let elsewhere = run(&server, bash("true")).await.session_id;
    let started = start(&server, with(v1::Concurrency::Reject, &elsewhere, "true")).await;
    ended(&server, &started.background_id).await;
    gate.open();
    ended(&server, &first).await;
    assert_eq!(text_of(&mark), "");
    let started = start(&server, request).await;
    assert_eq!(ended(&server, &started.background_id).await.state(), v1::State::Succeeded);
    assert_eq!(text_of(&mark), "ran\n");
}

#[tokio::test]
async fn a_dry_run_returns_the_error_that_would_refuse_the_work() {
    let server = TestServer::start().await;
    let mut gate = Gate::new(server.folder(), "gate");
    let session_id = session(&server, Default::default()).await;
    let first = park(&server, within(&session_id, &gate.wait())).await;
    let dry = v1::RunToolRequest { dry_run: true, ..within(&session_id, "true") };
    let request = v1::StartRequest { concurrency: v1::Concurrency::Reject.into(), ..start_of(dry) };
    let answer = soon("a dry run", server.tasks.clone().start(request.clone())).await;
    check_reason(&answer.expect_err("a refusal"), Code::Aborted, "SESSION_BUSY");
    gate.open();
    ended(&server, &first).await;
    let answer = server.tasks.clone().start(request).await.expect("an answer").into_inner();
    assert_eq!((answer.dry_run, answer.task), (true, None));
}

#[tokio::test]
async fn queue_waits_for_the_end_of_the_others() {
    let server = TestServer::start().await;
    let mut gate = Gate::new(server.folder(), "gate");
    let order = server.folder().join("order");
    let session_id = session(&server, Default::default()).await;
    let line = |text: &str| format!("echo {text} >> {}", order.display());
    let command = format!("{}; {}", gate.wait(), line("first"));
    let first = park(&server, within(&session_id, &command)).await;
    let mut queued = Vec::new();
    for text in ["second", "third", "fourth"] {
        let request = with(v1::Concurrency::Queue, &session_id, &line(text));
        let waiting = start(&server, request).await;
        assert_eq!((waiting.state(), waiting.start_time), (v1::State::Pending, None));
        queued.push(waiting.background_id);
    }
    // What doesn't queue doesn't wait.
    run(&server, within(&session_id, &line("beside"))).await;
    gate.open();
    let mut previous = time(&ended(&server, &first).await.end_time);
    for id in &queued {
        let task = ended(&server, id).await;
        assert_eq!(task.state(), v1::State::Succeeded);
        assert!(time(&task.start_time) >= previous, "{task:?}");
        previous = time(&task.end_time);
    }
    assert_eq!(text_of(&order), "beside\nfirst\nsecond\nthird\nfourth\n");
}

#[tokio::test]
async fn replace_cancels_the_others_and_starts_when_they_have_ended() {
    let server = TestServer::start().await;
    let gate = Gate::new(server.folder(), "gate");
    let marks = server.folder().join("marks");
    let session_id = session(&server, Default::default()).await;
    // It takes its time to go.
    let command = format!(
        "trap 'sleep 0.3; echo gone >> {0}; exit 0' TERM; echo up >> {0}; sleep 300 & wait",
        marks.display()
    );
    let old = park(&server, within(&session_id, &command)).await;
    lines_of(&marks, 1).await;
    let queued = with(v1::Concurrency::Queue, &session_id, &gate.wait());
    let queued = start(&server, queued).await.background_id;
    let command = format!("echo new >> {}", marks.display());
    let new = start(&server, with(v1::Concurrency::Replace, &session_id, &command)).await;
    assert_eq!(new.state(), v1::State::Pending);
    let new = ended(&server, &new.background_id).await;
    assert_eq!(new.state(), v1::State::Succeeded);
    let (old, queued) = (task(&server, &old).await, task(&server, &queued).await);
    assert_eq!((old.state(), queued.state()), (v1::State::Cancelled, v1::State::Cancelled));
    assert!(old.reason.contains("replaced"), "{}", old.reason);
    assert_eq!(queued.start_time, None);
    assert!(time(&new.start_time) >= time(&old.end_time));
    assert_eq!(text_of(&marks), "up\ngone\nnew\n");
}
