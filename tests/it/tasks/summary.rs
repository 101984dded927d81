//! The summary of a session's tasks for a person: one line for each, with the error of one that failed.

use crate::support::streams::{MISSING_TOOL, ended, new_session, started, task, tool_start};
use crate::support::waiting::{Gate, cancel, cancel_of};
use crate::support::{TestServer, bash, millis, soon, v1};

async fn text(server: &TestServer, session_id: &str) -> String {
    let request = v1::SummarizeRequest { session_id: session_id.into() };
    let answer = soon("a summary", server.tasks.clone().summarize(request)).await;
    answer.expect("a summary").into_inner().text
}

/// The line of a task, which must be one.
#[track_caller]
fn line_of<'a>(text: &'a str, task: &v1::Task) -> &'a str {
    let mut lines = text.lines().filter(|line| line.contains(&task.background_id));
    let line = lines.next().unwrap_or_else(|| panic!("no line of {}: {text}", task.background_id));
    assert_eq!(lines.next(), None, "{text}");
    line
}

fn described(command: &str, description: &str) -> v1::RunToolRequest {
    v1::RunToolRequest { description: description.into(), ..bash(command) }
}

#[tokio::test]
async fn the_first_line_counts_the_tasks() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    assert_eq!(text(&server, &session_id).await, "No background tasks.");
    let mut gate = Gate::new(server.folder(), "gate");
    let first = task(&server, &session_id, &gate.wait()).await;
    let one = text(&server, &session_id).await;
    assert!(one.starts_with("1 background task, 1 running.\n"), "{one}");
    let second = task(&server, &session_id, "true").await;
    ended(&server, &second.background_id).await;
    let two = text(&server, &session_id).await;
    assert!(two.starts_with("2 background tasks, 1 running.\n"), "{two}");
    assert_eq!(two.lines().count(), 3, "{two}");
    gate.open();
    ended(&server, &first.background_id).await;
    let two = text(&server, &session_id).await;
    assert!(two.starts_with("2 background tasks, 0 running.\n"), "{two}");
}

#[tokio::test]
async fn each_line_names_the_state_the_time_the_description_and_the_error() {
    let server = TestServer::with_config(MISSING_TOOL, &[]).await;
    let session_id = new_session(&server).await;
    let start = |call: v1::RunToolRequest| tool_start(&session_id, call);
    let gate = Gate::new(server.folder(), "gate");
    let good = started(&server, start(described("true", "goes well"))).await;
    let bad = started(&server, start(described("exit 9", "goes\n  wrong\t:("))).await;
    let killed = started(&server, start(described("kill -9 $$", "is killed"))).await;
    let late =
        v1::RunToolRequest { execution_timeout: millis(300), ..described("sleep 300", "is late") };
    let late = started(&server, start(late)).await;
    let absent = v1::RunToolRequest { tool: "missing".into(), ..Default::default() };
    let absent = started(&server, start(absent)).await;
    for task in [&good, &bad, &killed, &late, &absent] {
        ended(&server, &task.background_id).await;
    }
    let stopped = started(&server, start(described("sleep 300", "is stopped"))).await;
    cancel(&server, cancel_of(&stopped.background_id)).await;
    let live = started(&server, start(described(&gate.wait(), &"long ".repeat(800)))).await;
    let text = text(&server, &session_id).await;
    assert!(text.starts_with("7 background tasks, 1 running.\n"), "{text}");
    assert_eq!(text.lines().count(), 8, "one line for each: {text}");
    let cases = [
        (&good, "succeeded", r#"  "goes well""#),
        (&bad, "failed", r#"  "goes\n  wrong\t:(": "exit code 9""#),
        (&killed, "failed", r#"  "is killed": "ended by signal 9""#),
        (&late, "timed out", r#"  "is late": "timed out after 0.3 s""#),
        (&stopped, "cancelled", r#"  "is stopped""#),
    ];
    for (task, state, end) in cases {
        let line = line_of(&text, task);
        assert!(line.starts_with(&format!("{}  {state}", task.background_id)), "{line}");
        assert!(line.contains(" s  ") && line.ends_with(end), "{line}");
    }
    let line = line_of(&text, &absent);
    assert!(line.contains("  missing: ") && line.contains("/nonexistent/program"), "{line}");
    let line = line_of(&text, &live);
    assert!(line.contains("running") && line.chars().count() < 500, "{line}");
}
