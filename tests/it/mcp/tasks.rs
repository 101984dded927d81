//! Calls that a server answers with the handle of a task.

use std::path::Path;

use callpark_proto::v1::session_event::Payload;
use serde_json::json;

use super::{lines, odd, result, text};
use crate::support::waiting::{
    call, cancel, cancel_of, ended, event, lines_of, log_of, outcome_of, park, session, task,
};
use crate::support::{TestServer, millis, v1};

/// A server whose MCP server has tasks.
async fn with_tasks(folder: &Path) -> TestServer {
    odd(folder, "tasks", "").await
}

/// A call that becomes a task, which does this each time that it is looked at.
fn job(acts: &[&str]) -> v1::RunToolRequest {
    call("odd__job", json!({ "acts": acts }))
}

/// The messages of the reports of progress in a session.
async fn reports(server: &TestServer, session_id: &str) -> Vec<String> {
    let log = log_of(server, session_id).await;
    let reports = log.into_iter().filter_map(|event| match event.payload {
        Some(Payload::ToolProgress(progress)) => progress.progress,
        _ => None,
    });
    reports.map(|report| report.message).collect()
}

/// Waits until the call of this session is followed: its handle has been reported.
async fn followed(server: &TestServer, session_id: &str) {
    event(server, session_id, |payload| match payload {
        Payload::ToolProgress(progress) => progress.progress.clone(),
        _ => None,
    })
    .await;
}

/// The task that this call becomes, once it has ended.
async fn failed(server: &TestServer, request: v1::RunToolRequest) -> v1::Task {
    let id = park(server, request).await;
    let task = ended(server, &id).await;
    assert_eq!(task.state(), v1::State::Failed, "{task:?}");
    task
}

#[track_caller]
fn check_reported(task: &v1::Task, words: &str) {
    let result = outcome_of(task);
    assert!(result.is_error, "{result:?}");
    for words in ["the MCP server `odd` failed", words] {
        assert!(result.error_message.contains(words), "{}", result.error_message);
    }
}

#[tokio::test]
async fn a_handle_becomes_a_task_that_parks_reports_progress_and_ends_with_the_result() {
    let folder = crate::support::folder();
    let server = with_tasks(folder.path()).await;
    let session_id = session(&server, Default::default()).await;
    let acts = ["step 1", "step 1", "step 2", "completed"];
    let request = v1::RunToolRequest { session_id: session_id.clone(), ..job(&acts) };
    let id = park(&server, request).await;
    assert_eq!(task(&server, &id).await.kind(), v1::Kind::Mcp);
    let task = ended(&server, &id).await;
    assert_eq!(task.state(), v1::State::Succeeded, "{task:?}");
    assert_eq!(text(outcome_of(&task)), "done");
    assert_eq!(reports(&server, &session_id).await, ["accepted", "step 1", "step 2"]);
    assert_eq!(lines(folder.path(), "cancelled_tasks"), [""; 0], "it ended by itself");
}

#[tokio::test]
async fn a_cancel_is_passed_on_to_the_task() {
    let folder = crate::support::folder();
    let server = with_tasks(folder.path()).await;
    let session_id = session(&server, Default::default()).await;
    let request = v1::RunToolRequest { session_id: session_id.clone(), ..job(&["at work"]) };
    let id = park(&server, request).await;
    followed(&server, &session_id).await;
    cancel(&server, v1::CancelRequest { reason: "enough".into(), ..cancel_of(&id) }).await;
    assert_eq!(ended(&server, &id).await.state(), v1::State::Cancelled);
    assert_eq!(lines_of(&folder.path().join("cancelled_tasks"), 1).await, ["task 1"]);
}

#[tokio::test]
async fn a_limit_ends_the_task_too() {
    let folder = crate::support::folder();
    let server = with_tasks(folder.path()).await;
    let request = v1::RunToolRequest { execution_timeout: millis(700), ..job(&["at work"]) };
    // There, so that the limit meets a task and not a server that starts.
    assert_eq!(text(&super::echo(&server, "there").await), "there");
    let id = park(&server, request).await;
    assert_eq!(ended(&server, &id).await.state(), v1::State::TimedOut);
    assert_eq!(lines_of(&folder.path().join("cancelled_tasks"), 1).await, ["task 1"]);
}

#[tokio::test]
async fn a_task_that_waits_for_input_fails_and_is_cancelled() {
    let folder = crate::support::folder();
    let server = with_tasks(folder.path()).await;
    let task = failed(&server, job(&["at work", "input_required"])).await;
    check_reported(&task, "its task waits for input, which callpark cannot give");
    assert_eq!(lines_of(&folder.path().join("cancelled_tasks"), 1).await, ["task 1"]);
}

#[tokio::test]
async fn a_task_that_ends_without_a_result_fails_with_its_reason() {
    let folder = crate::support::folder();
    let server = with_tasks(folder.path()).await;
    for (act, words) in [
        ("failed", "its task failed: out of paper (-32000)"),
        ("cancelled", "its task was cancelled: the shop has closed"),
        ("forgotten", "it no longer knows its task: Task not found"),
        ("completed with nonsense", "the result of its task is not a valid MCP result"),
    ] {
        check_reported(&failed(&server, job(&["at work", act])).await, words);
    }
    let task = failed(&server, job(&["completed with an error"])).await;
    assert_eq!(text(outcome_of(&task)), "it went wrong", "the tool's own failure");
    assert_eq!(lines(folder.path(), "cancelled_tasks"), [""; 0], "none is there any more");
    assert_eq!(lines(folder.path(), "starts").len(), 1, "none of it ends the server");
}

#[tokio::test]
async fn a_server_that_dies_fails_the_calls_that_wait_for_its_tasks() {
    let folder = crate::support::folder();
    let server = with_tasks(folder.path()).await;
    let waiting = park(&server, job(&["at work"])).await;
    check_reported(&failed(&server, job(&["at work", "death"])).await, "exit code 3");
    let task = ended(&server, &waiting).await;
    assert_eq!(task.state(), v1::State::Failed, "{task:?}");
    check_reported(&task, "exit code 3");
    assert_eq!(text(&super::echo(&server, "again").await), "again");
}

#[tokio::test]
async fn wrong_answers_are_tolerated_a_few_times_only() {
    let folder = crate::support::folder();
    let server = with_tasks(folder.path()).await;
    // Five, but not in a row.
    let acts = ["refused", "nonsense", "another", "at work", "refused", "nonsense", "completed"];
    let id = park(&server, job(&acts)).await;
    assert_eq!(text(outcome_of(&ended(&server, &id).await)), "done");
    for (act, words) in [
        ("refused", "asked about its task 5 times, it returned an error: try later (-32603)"),
        ("nonsense", "asked about its task 5 times, its answer is not a valid MCP result"),
        ("another", "asked about its task 5 times, it answered about another task"),
    ] {
        check_reported(&failed(&server, job(&[act])).await, words);
    }
    let cancelled = lines_of(&folder.path().join("cancelled_tasks"), 3).await;
    assert_eq!(cancelled, ["task 2", "task 3", "task 4"]);
}

#[tokio::test]
async fn a_task_that_outlives_its_time_is_given_up() {
    let folder = crate::support::folder();
    let server = with_tasks(folder.path()).await;
    let arguments = json!({ "acts": ["at work"], "ttl": 300, "interval": 3_600_000 });
    let task = failed(&server, call("odd__job", arguments)).await;
    check_reported(&task, "its task did not end within its time to live of 300ms");
    assert_eq!(lines_of(&folder.path().join("cancelled_tasks"), 1).await, ["task 1"]);
}

#[tokio::test]
async fn a_task_is_read_at_once_after_a_notification() {
    let folder = crate::support::folder();
    let server = with_tasks(folder.path()).await;
    let session_id = session(&server, Default::default()).await;
    let arguments = json!({ "acts": ["completed"], "interval": 3_600_000 });
    let request =
        v1::RunToolRequest { session_id: session_id.clone(), ..call("odd__job", arguments) };
    let id = park(&server, request).await;
    followed(&server, &session_id).await;
    assert_eq!(text(&result(&server, "notify", json!({})).await), "sent");
    assert_eq!(text(outcome_of(&ended(&server, &id).await)), "done");
}

#[tokio::test]
async fn a_handle_from_a_server_that_offers_no_tasks_fails_its_call() {
    let folder = crate::support::folder();
    let server = odd(folder.path(), "handles", "").await;
    let task = failed(&server, job(&["completed"])).await;
    check_reported(&task, "it answered with a task, but does not declare that it supports tasks");
    assert_eq!(text(&super::echo(&server, "still there").await), "still there");
}

/// A call of a tool that runs as a task of 2025-11-25 only, which has these states one after the other.
fn research(states: &[&str]) -> v1::RunToolRequest {
    call("odd__research", json!({ "states": states }))
}

#[tokio::test]
async fn a_tool_that_runs_as_a_task_only_is_called_as_one() {
    let folder = crate::support::folder();
    let server = odd(folder.path(), "", "").await;
    let session_id = session(&server, Default::default()).await;
    let states = ["working reading", "working reading", "working writing", "completed"];
    let request = v1::RunToolRequest { session_id: session_id.clone(), ..research(&states) };
    let id = park(&server, request).await;
    let task = ended(&server, &id).await;
    assert_eq!((task.state(), text(outcome_of(&task)).as_str()), (v1::State::Succeeded, "found"));
    assert_eq!(reports(&server, &session_id).await, ["reading", "writing"]);
    for (states, words) in [
        (["working", "failed"], "it returned an error: out of paper (-32000)"),
        (
            ["working", "cancelled the shop has closed"],
            "its task was cancelled: the shop has closed",
        ),
        (["working", "asleep"], "its task is in an unknown state"),
    ] {
        check_reported(&failed(&server, research(&states)).await, words);
    }
    assert_eq!(lines(folder.path(), "cancelled_tasks"), [""; 0], "all have ended");
}

#[tokio::test]
async fn a_task_of_the_older_protocol_tolerates_wrong_answers_a_few_times_only() {
    let folder = crate::support::folder();
    let server = odd(folder.path(), "", "").await;
    // Five, but not in a row.
    let states = ["refused", "refused", "refused", "working", "refused", "refused", "completed"];
    let id = park(&server, research(&states)).await;
    assert_eq!(text(outcome_of(&ended(&server, &id).await)), "found");
    check_reported(
        &failed(&server, research(&["working", "forgotten"])).await,
        "it no longer knows its task: Task not found",
    );
    assert_eq!(lines(folder.path(), "cancelled_tasks"), [""; 0], "neither is there any more");
    check_reported(
        &failed(&server, research(&["refused"])).await,
        "asked about its task 5 times, it returned an error: try later (-32603)",
    );
    assert_eq!(lines_of(&folder.path().join("cancelled_tasks"), 1).await, ["research"]);
    assert_eq!(text(&super::echo(&server, "still there").await), "still there");
}

#[tokio::test]
async fn a_cancel_is_passed_on_to_a_task_of_the_older_protocol() {
    let folder = crate::support::folder();
    let server = odd(folder.path(), "", "").await;
    let session_id = session(&server, Default::default()).await;
    let request =
        v1::RunToolRequest { session_id: session_id.clone(), ..research(&["working reading"]) };
    let id = park(&server, request).await;
    followed(&server, &session_id).await;
    cancel(&server, v1::CancelRequest { reason: "enough".into(), ..cancel_of(&id) }).await;
    assert_eq!(ended(&server, &id).await.state(), v1::State::Cancelled);
    assert_eq!(lines_of(&folder.path().join("cancelled_tasks"), 1).await, ["research"]);
}
