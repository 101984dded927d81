//! Cancelling: one terminal state, a reason on record, and never a result lost.

use std::collections::BTreeMap;

use callpark_proto::v1::session_event::Payload;
use futures::StreamExt as _;
use tonic::Code;
use v1::State;

use crate::history::check_everything;
use crate::support::streams::{
    Gate, Reader, ended, log_of, new_session, stream_of, task, task_now,
};
use crate::support::waiting::lines_of;
use crate::support::wire::bad_fields;
use crate::support::{TestServer, check_reason, millis, soon, v1};

fn cancel_of(task: &v1::Task) -> v1::CancelRequest {
    v1::CancelRequest {
        background_id: task.background_id.clone(),
        reason: "not needed".into(),
        wait: millis(30_000),
        ..Default::default()
    }
}

async fn cancel(server: &TestServer, request: v1::CancelRequest) -> v1::CancelResponse {
    let answer = soon("a cancel", server.tasks.clone().cancel(request)).await;
    answer.expect("an answer").into_inner()
}

#[tokio::test]
async fn a_cancelled_task_has_requester_reason_and_output() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    let task = task(&server, &session_id, "echo before; sleep 60").await;
    let mut reader = Reader::open(&server, stream_of(&session_id)).await;
    reader.until_event(|event| matches!(event.payload, Some(Payload::ToolOutput(_)))).await;
    let answer = cancel(&server, cancel_of(&task)).await;
    assert!(!answer.still_running && !answer.dry_run && !answer.replayed, "{answer:?}");
    let cancelled = answer.task.expect("a task");
    assert_eq!((cancelled.state(), cancelled.reason.as_str()), (State::Cancelled, "not needed"));
    let record = cancelled.cancellation.clone().expect("a record");
    assert_eq!(record.reason, "not needed");
    assert!(!record.requested_by.is_empty() && record.request_time.is_some());
    assert!(record.acknowledged_time.is_some());
    let Some(v1::task::Outcome::Result(result)) = &cancelled.outcome else { panic!() };
    assert_eq!(crate::support::stdout_of(result), b"before\n");
    assert_eq!(task_now(&server, &task.background_id).await, cancelled);
    let kinds =
        log_of(&server, &session_id).await.into_iter().filter_map(|event| match event.payload {
            Some(Payload::ToolCallCancelling(cancelling)) => {
                assert_eq!(cancelling.requested_by, record.requested_by);
                assert_eq!((cancelling.reason.as_str(), cancelling.force), ("not needed", false));
                Some("cancelling")
            }
            Some(Payload::ToolCallFinished(finished)) => {
                assert_eq!(finished.state(), State::Cancelled);
                Some("finished")
            }
            _ => None,
        });
    assert_eq!(kinds.collect::<Vec<_>>(), ["cancelling", "finished"]);
}

#[tokio::test]
async fn cancelling_twice_answers_the_same() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    let ready = server.folder().join("ready");
    let command = format!("trap '' TERM; echo > {}; while :; do sleep 0.1; done", ready.display());
    let stubborn = task(&server, &session_id, &command).await;
    // A TERM that comes before the trap would end it.
    lines_of(&ready, 1).await;
    let now = v1::CancelRequest { wait: millis(0), grace: millis(60_000), ..cancel_of(&stubborn) };
    let first = cancel(&server, now.clone()).await;
    assert!(first.still_running && !first.replayed, "{first:?}");
    assert_eq!(first.task.as_ref().expect("a task").state(), State::Cancelling);
    let later = v1::CancelRequest { reason: "another".into(), ..now };
    let second = cancel(&server, later).await;
    assert!(second.still_running && second.replayed, "{second:?}");
    let (first, second) = (first.task.expect("a task"), second.task.expect("a task"));
    assert_eq!((second.cancellation, second.revision), (first.cancellation, first.revision));
    let force = v1::CancelRequest { force: true, ..cancel_of(&stubborn) };
    let killed = cancel(&server, force).await;
    let killed = killed.task.expect("a task");
    assert_eq!((killed.state(), killed.reason.as_str()), (State::Cancelled, "not needed"));
    let last = cancel(&server, cancel_of(&stubborn)).await;
    assert_eq!((last.task, last.replayed), (Some(killed), true));
}

#[tokio::test]
async fn cancelling_a_finished_task_returns_its_result_untouched() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    let task = task(&server, &session_id, "echo done").await;
    let before = ended(&server, &task.background_id).await;
    let log = log_of(&server, &session_id).await;
    let force = v1::CancelRequest { force: true, ..cancel_of(&task) };
    for request in [cancel_of(&task), force] {
        let answer = cancel(&server, request).await;
        assert!(!answer.still_running && !answer.replayed, "{answer:?}");
        assert_eq!(answer.task.as_ref(), Some(&before));
    }
    assert_eq!(task_now(&server, &task.background_id).await, before);
    assert_eq!(log_of(&server, &session_id).await, log);
}

#[tokio::test]
async fn a_dry_run_leaves_the_task_untouched() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    let gate = Gate::new(&server, "dry");
    let task = task(&server, &session_id, &gate.command()).await;
    let dry = v1::CancelRequest { dry_run: true, force: true, ..cancel_of(&task) };
    let answer = cancel(&server, dry.clone()).await;
    assert!(answer.dry_run, "{answer:?}");
    let now = task_now(&server, &task.background_id).await;
    assert_eq!((now.state(), now.cancellation.clone()), (State::Running, None));
    assert_eq!(now.revision, task.revision);
    gate.open();
    let end = ended(&server, &task.background_id).await;
    assert_eq!(end.state(), State::Succeeded);
    let answer = cancel(&server, dry).await;
    assert_eq!((answer.task, answer.dry_run), (Some(end), true));
}

#[tokio::test]
async fn a_cancel_that_can_not_be_is_refused_whole() {
    let server = TestServer::start().await;
    let unknown = v1::CancelRequest {
        background_id: "bg-00000000000040008000000000000000".into(),
        ..Default::default()
    };
    for dry_run in [false, true] {
        let request = v1::CancelRequest { dry_run, ..unknown.clone() };
        let status = server.tasks.clone().cancel(request).await.expect_err("refused");
        check_reason(&status, Code::NotFound, "TASK_NOT_FOUND");
    }
    let bad = v1::CancelRequest {
        background_id: "x".into(),
        request_id: "y".into(),
        reason: "z".repeat(5_000),
        grace: millis(60_001),
        ..Default::default()
    };
    let status = server.tasks.clone().cancel(bad).await.expect_err("refused");
    check_reason(&status, Code::InvalidArgument, "INVALID_FIELD");
    let mut fields = bad_fields(&status);
    fields.sort();
    assert_eq!(fields, ["background_id", "grace", "reason", "request_id"]);
}

/// A cancel and the end of the work meet two hundred times, from clearly before to clearly after.
#[tokio::test]
async fn a_cancel_that_races_the_end_leaves_one_terminal_state() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    let tries = futures::stream::iter(0..200_u64).map(|number| {
        let (server, session_id) = (&server, &session_id);
        async move {
            // Some go on for so long that a cancel comes in time on a busy machine, too.
            let nap = if number % 20 == 0 { "5" } else { "0.02" };
            let task = task(server, session_id, &format!("echo whole; sleep {nap}")).await;
            tokio::time::sleep(std::time::Duration::from_millis(number % 20 * 4)).await;
            if number % 20 == 19 {
                ended(server, &task.background_id).await;
            }
            let answer = cancel(server, cancel_of(&task)).await;
            let shown = answer.task.expect("a task");
            let later = task_now(server, &task.background_id).await;
            assert_eq!(shown, later, "the state that was shown stays");
            later
        }
    });
    let tasks: Vec<v1::Task> = tries.buffer_unordered(8).collect().await;
    let mut finished = BTreeMap::<String, Vec<v1::ToolCallFinished>>::new();
    let mut cancelling = BTreeMap::<String, u32>::new();
    for event in log_of(&server, &session_id).await {
        match event.payload {
            Some(Payload::ToolCallFinished(end)) => {
                finished.entry(event.call_id).or_default().push(*end);
            }
            Some(Payload::ToolCallCancelling(_)) => {
                *cancelling.entry(event.call_id).or_default() += 1;
            }
            _ => {}
        }
    }
    for task in &tasks {
        let ends = &finished[&task.call_id];
        assert_eq!((ends.len(), ends[0].state()), (1, task.state()), "{task:?}");
        let Some(v1::task::Outcome::Result(result)) = &task.outcome else { panic!("{task:?}") };
        match task.state() {
            State::Succeeded => assert_eq!(crate::support::stdout_of(result), b"whole\n"),
            State::Cancelled => assert_eq!(cancelling.get(&task.call_id), Some(&1), "{task:?}"),
            _ => panic!("{task:?}"),
        }
    }
    let cancelled = tasks.iter().filter(|task| task.state() == State::Cancelled).count();
    assert!((1..=190).contains(&cancelled), "no race: {cancelled} of 200 were cancelled");
    check_everything(&server.connect(), 0).await;
}
