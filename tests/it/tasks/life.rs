//! Tasks over the life of a server: restarts, expiry, summaries, approvals.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use v1::State;

use crate::history::check_everything;
use crate::support::streams::{
    Gate, Reader, ended, get, log_of, new_session, sequences, started, stream_of, task, task_now,
    tool_start,
};
use crate::support::{TestServer, bash, check_reason, millis, soon, v1};

async fn output_of(server: &TestServer, task: &v1::Task) -> Result<v1::ReadOutputResponse, Status> {
    let request =
        v1::ReadOutputRequest { background_id: task.background_id.clone(), ..Default::default() };
    soon("output", server.tasks.clone().read_output(request)).await.map(|o| o.into_inner())
}

/// Returns whether a process exists and is not a zombie.
fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[tokio::test]
async fn finished_results_outlive_a_restart_and_running_tasks_are_lost() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    let done = task(&server, &session_id, "echo out; echo err >&2; exit 7").await;
    let done = ended(&server, &done.background_id).await;
    let live = task(&server, &session_id, "echo $$; exec sleep 300").await;
    let mut reader = Reader::open(&server, stream_of(&session_id)).await;
    let of_live = |event: &v1::SessionEvent| {
        let payload = &event.payload;
        let is_output = matches!(payload, Some(v1::session_event::Payload::ToolOutput(_)));
        is_output && event.call_id == live.call_id
    };
    reader.until_event(of_live).await;
    drop(reader);
    let output = output_of(&server, &done).await.expect("output");
    let pid = output_of(&server, &live).await.expect("output").data;
    let pid = String::from_utf8(pid.to_vec()).expect("a pid").trim().to_owned();
    assert!(is_alive(&pid), "{pid}");
    let before = log_of(&server, &session_id).await;

    let server = server.restart().await;
    assert!(!is_alive(&pid), "{pid} lives on");
    assert_eq!(task_now(&server, &done.background_id).await, done);
    assert_eq!(ended(&server, &done.background_id).await, done);
    assert_eq!(output_of(&server, &done).await.expect("output"), output);
    let lost = ended(&server, &live.background_id).await;
    assert_eq!(lost.state(), State::Lost);
    let Some(v1::task::Outcome::Error(error)) = &lost.outcome else { panic!("{lost:?}") };
    assert!(!error.message.is_empty() && error.details.len() == 1, "{error:?}");
    let kept = output_of(&server, &live).await.expect("output");
    assert_eq!((kept.data, kept.eof), (format!("{pid}\n").into(), true));
    let after = log_of(&server, &session_id).await;
    assert_eq!(after[..before.len()], before[..]);
    assert_eq!(sequences(&after), (1..=before.len() as i64 + 1).collect::<Vec<_>>());
    let end = after.last().and_then(|event| event.payload.clone());
    let Some(v1::session_event::Payload::ToolCallFinished(end)) = end else { panic!("{end:?}") };
    assert_eq!(end.state(), State::Lost);
    assert_eq!(end.outcome, Some(v1::tool_call_finished::Outcome::Error(error.clone())));
    check_everything(&server.connect(), 1).await;
}

#[tokio::test]
async fn an_expired_task_is_not_found_and_the_error_says_that_it_may_have_expired() {
    let server = TestServer::with(&[("retention", "1s"), ("sweep-interval", "100ms")]).await;
    let session_id = new_session(&server).await;
    let gate = Gate::new(&server, "expiry");
    let live = task(&server, &session_id, &gate.command()).await;
    let task = task(&server, &session_id, "echo one").await;
    let end = ended(&server, &task.background_id).await;
    let kept = end.expire_time.expect("a time").seconds - end.end_time.expect("a time").seconds;
    assert_eq!(kept, 1);
    let gone = async {
        loop {
            if let Err(status) = get(&server, &task.background_id).await {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let status = soon("the expiry", gone).await;
    check_reason(&status, Code::NotFound, "TASK_NOT_FOUND");
    assert!(status.message().contains("may have expired"), "{status:?}");
    let named = status.get_details_resource_info().expect("a resource");
    assert_eq!(named.resource_name, task.background_id);
    let status = output_of(&server, &task).await.expect_err("gone");
    check_reason(&status, Code::NotFound, "TASK_NOT_FOUND");
    assert_eq!(task_now(&server, &live.background_id).await.state(), State::Running);
    let log = log_of(&server, &session_id).await;
    assert_eq!(log.first().map(|event| event.sequence), Some(1), "its events stay");
    gate.open();
}

async fn summary(server: &TestServer, session_id: &str) -> v1::SummarizeResponse {
    let request = v1::SummarizeRequest { session_id: session_id.into() };
    let answer = soon("a summary", server.tasks.clone().summarize(request)).await;
    answer.expect("a summary").into_inner()
}

#[tokio::test]
async fn a_summary_covers_running_failed_and_finished_tasks() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    let empty = summary(&server, &session_id).await;
    assert_eq!((empty.context.as_str(), empty.running), ("", 0));
    assert!(!empty.text.is_empty());
    let gate = Gate::new(&server, "summary");
    let call = v1::RunToolRequest { description: "waits".into(), ..bash(&gate.command()) };
    let live = started(&server, tool_start(&session_id, call)).await;
    let good = task(&server, &session_id, "echo all good").await;
    let bad = task(&server, &session_id, "echo oh no >&2; exit 9").await;
    let other = task(&server, &new_session(&server).await, "echo other").await;
    for task in [&good, &bad, &other] {
        ended(&server, &task.background_id).await;
    }
    let summarized = summary(&server, &session_id).await;
    assert_eq!(summarized.running, 1);
    for text in [&summarized.context, &summarized.text] {
        for task in [&live, &good, &bad] {
            assert!(text.contains(&task.background_id), "{text}");
        }
        assert!(text.contains("waits") && !text.contains(&other.background_id), "{text}");
    }
    for words in ["running for", "all good", "oh no", "exit code 9"] {
        assert!(summarized.context.contains(words), "{words} in {}", summarized.context);
    }
    gate.open();
}

#[tokio::test]
async fn a_summary_cuts_a_result_at_two_thousand_characters() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    // Written so that the character is in the output alone.
    let command = r"for i in $(seq 2500); do printf '\342\202\254'; done";
    let task = task(&server, &session_id, command).await;
    ended(&server, &task.background_id).await;
    let summarized = summary(&server, &session_id).await.context;
    assert_eq!(summarized.chars().filter(|character| *character == '\u{20ac}').count(), 2_000);
    assert!(summarized.contains("500 more"), "{summarized}");
}

#[tokio::test]
async fn a_summary_includes_running_tasks_behind_many_finished_ones() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    let gate = Gate::new(&server, "old");
    let live = task(&server, &session_id, &gate.command()).await;
    for _ in 0..60 {
        let task = task(&server, &session_id, "true").await;
        ended(&server, &task.background_id).await;
    }
    let summarized = summary(&server, &session_id).await;
    assert_eq!(summarized.running, 1);
    assert!(summarized.context.contains(&live.background_id), "{}", summarized.context);
    gate.open();
}

#[tokio::test]
async fn waits_end_with_draining_when_the_server_stops() {
    let mut server = TestServer::start().await;
    let session_id = new_session(&server).await;
    let task = task(&server, &session_id, "sleep 300").await;
    let id = task.background_id.clone();
    let (mut one, mut many, mut output) =
        (server.tasks.clone(), server.tasks.clone(), server.tasks.clone());
    let wait = v1::WaitRequest { background_id: id.clone(), ..Default::default() };
    let wait_many = v1::WaitManyRequest { background_ids: vec![id.clone()], ..Default::default() };
    let read =
        v1::ReadOutputRequest { background_id: id, wait: millis(60_000), ..Default::default() };
    let waits =
        async { tokio::join!(one.wait(wait), many.wait_many(wait_many), output.read_output(read)) };
    let stop = async {
        // Long enough for the requests to have arrived.
        tokio::time::sleep(Duration::from_millis(500)).await;
        server.begin_stop();
    };
    let ((wait, wait_many, read), ()) = soon("answers", async { tokio::join!(waits, stop) }).await;
    for status in [wait.err(), wait_many.err(), read.err()] {
        let status = status.expect("an error");
        check_reason(&status, Code::Unavailable, "DRAINING");
        assert!(status.get_details_retry_info().is_some(), "{status:?}");
    }
    server.stop().await;
}
