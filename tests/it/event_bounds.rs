//! The size of events: none is larger than the server says, and what is left out is marked.

use std::sync::Arc;

use callpark::model::{ContentKind, Progress};
use callpark::tool::{CallableTool, FunctionTool, ToolOutput};
use callpark_proto::v1::session_event::Payload;
use prost::Message as _;
use serde_json::{Value, json};

use crate::support::streams::{log_of, new_session};
use crate::support::waiting::{call, ended, outcome_of, park, run, start_of, task};
use crate::support::{TestServer, bash, result_of, soon, v1};
use crate::turns::{Endpoint, calls, prompt, says, serve_with, turn};

/// `ServerLimits.event_bytes_max`.
const EVENT_BYTES_MAX: usize = 256 << 10;

/// Does what its argument `then` says with 1 MB of something.
fn large() -> Arc<dyn CallableTool> {
    FunctionTool::new("large").run(|arguments: Value, context| async move {
        let text = "x".repeat(1 << 20);
        match arguments["then"].as_str() {
            Some("structured") => Ok(ToolOutput::json(json!({ "text": text }))),
            Some("numbers") => Ok(ToolOutput::json(json!({ "numbers": vec![0; 60_000] }))),
            Some("text") => Ok(ToolOutput::text(text)),
            Some("binary") => {
                let media_type = "application/x-large".into();
                Ok(ToolOutput::default()
                    .with(ContentKind::Binary { media_type, data: text.into() }))
            }
            Some("error") => Err(text.into()),
            Some("progress") => {
                let report = Progress { done: 1.0, total: None, message: text };
                context.progress(report).await;
                Ok(ToolOutput::text("done"))
            }
            Some("output") => {
                context.output(text).await;
                Ok(ToolOutput::text("done"))
            }
            _ => Ok(ToolOutput::text("done")),
        }
    })
}

/// Checks every event of a log, and returns their payloads.
async fn payloads(server: &TestServer, session_id: &str) -> Vec<Payload> {
    let events = log_of(server, session_id).await;
    for event in &events {
        let bytes = event.encoded_len();
        assert!(bytes <= EVENT_BYTES_MAX, "{bytes} bytes in event {}", event.sequence);
    }
    events.into_iter().filter_map(|event| event.payload).collect()
}

fn finished(payloads: &[Payload]) -> &v1::ToolCallFinished {
    let ends = payloads.iter().filter_map(|payload| match payload {
        Payload::ToolCallFinished(finished) => Some(finished.as_ref()),
        _ => None,
    });
    ends.last().expect("an end")
}

#[track_caller]
fn event_result(finished: &v1::ToolCallFinished) -> &v1::ToolResult {
    match &finished.outcome {
        Some(v1::tool_call_finished::Outcome::Result(result)) => result,
        other => panic!("no result but {other:?}"),
    }
}

fn is_truncated(result: &v1::ToolResult) -> bool {
    result.output.as_ref().is_some_and(|output| output.inline_truncated)
}

async fn after(server: &TestServer, then: &str) -> (v1::RunToolResponse, Vec<Payload>) {
    let answer = run(server, call("large", json!({ "then": then }))).await;
    let payloads = payloads(server, &answer.session_id).await;
    (answer, payloads)
}

#[tokio::test]
async fn a_large_result_is_left_out_of_its_event_and_the_answer_has_it() {
    let server = TestServer::with_tools(vec![large()]).await;
    for then in ["structured", "numbers", "text", "binary"] {
        let (answer, payloads) = after(&server, then).await;
        let whole = result_of(&answer);
        assert!(!whole.is_error && !is_truncated(whole) && whole.encoded_len() > EVENT_BYTES_MAX);
        let event = event_result(finished(&payloads));
        assert!(is_truncated(event), "{then}: nothing says that something is missing");
        assert_eq!(event.structured, None, "{then}");
    }
    let (_, payloads) = after(&server, "nothing").await;
    let event = event_result(finished(&payloads));
    assert_eq!((event.content.len(), &event.output), (1, &None), "a small one is whole");
}

#[tokio::test]
async fn a_task_has_the_large_result_that_its_list_entry_marks() {
    let server = TestServer::with_tools(vec![large()]).await;
    let id = park(&server, call("large", json!({ "then": "text" }))).await;
    let task = ended(&server, &id).await;
    let result = outcome_of(&task);
    assert!(!is_truncated(result) && result.encoded_len() > 1 << 20);
    let list = soon("a list", server.tasks.clone().list(v1::ListRequest::default())).await;
    let listed = list.expect("a list").into_inner().tasks.remove(0);
    let result = outcome_of(&listed);
    assert!(result.content.is_empty() && is_truncated(result), "{result:?}");
}

#[tokio::test]
async fn a_large_error_and_a_large_report_are_truncated() {
    let server = TestServer::with_tools(vec![large()]).await;
    let (answer, payloads) = after(&server, "error").await;
    let end = finished(&payloads);
    for text in [&end.reason, &event_result(end).error_message, &result_of(&answer).error_message] {
        assert!(text.len() < 5_000, "{} bytes", text.len());
        assert!(text.contains("bytes are left out here]"), "no note of it");
    }
    let (_, payloads) = after(&server, "progress").await;
    let reports = payloads.iter().filter_map(|payload| match payload {
        Payload::ToolProgress(progress) => progress.progress.as_ref(),
        _ => None,
    });
    let messages: Vec<&str> = reports.map(|report| report.message.as_str()).collect();
    assert_eq!(messages.len(), 1);
    assert!(messages[0].len() < 5_000 && messages[0].contains("bytes are left out here]"));
}

#[tokio::test]
async fn output_of_code_comes_in_pieces_and_its_result_is_behind_it() {
    let server = TestServer::with_tools(vec![large()]).await;
    let (answer, payloads) = after(&server, "output").await;
    let pieces = payloads.iter().filter_map(|payload| match payload {
        Payload::ToolOutput(output) => Some(output.data.len()),
        _ => None,
    });
    let pieces: Vec<usize> = pieces.collect();
    assert_eq!(pieces.iter().sum::<usize>(), 1 << 20, "{pieces:?}");
    assert!(pieces.iter().all(|bytes| *bytes <= 32 << 10), "{pieces:?}");
    let texts = result_of(&answer).content.iter().map(|content| match &content.kind {
        Some(v1::content::Kind::Text(text)) => text.as_str(),
        other => panic!("{other:?}"),
    });
    let text: String = texts.collect();
    assert_eq!(text.len(), (1 << 20) + 4, "the output and `done`");
    assert!(text.ends_with("xdone"));
}

#[tokio::test]
async fn large_arguments_are_left_out_of_their_event_and_counted() {
    let server = TestServer::with_tools(vec![large()]).await;
    // Each of them is below 64 KiB of JSON or above it; a number takes 11 bytes in an event.
    let zeros = json!({ "then": "nothing", "zeros": vec![0; 30_000] });
    let text = json!({ "then": "nothing", "text": "x".repeat(500_000) });
    let many: serde_json::Map<String, Value> =
        (0..3_500).map(|index| (format!("key-{index}"), json!(index))).collect();
    for arguments in [zeros, text, Value::Object(many)] {
        let request = call("large", arguments);
        let sent = request.arguments.clone().expect("arguments");
        let answer = run(&server, request).await;
        let payloads = payloads(&server, &answer.session_id).await;
        let accepted = payloads.iter().find_map(|payload| match payload {
            Payload::ToolCallAccepted(accepted) => Some(accepted),
            _ => None,
        });
        let accepted = accepted.expect("an acceptance");
        match &accepted.arguments {
            Some(arguments) => {
                assert_eq!((arguments, accepted.arguments_omitted_bytes), (&sent, 0))
            }
            None => assert!(accepted.arguments_omitted_bytes > 50_000, "{accepted:?}"),
        }
        let is_small = sent.encoded_len() < 200_000 && sent.fields.len() > 1_000;
        assert_eq!(accepted.arguments.is_some(), is_small);
    }
}

#[tokio::test]
async fn output_of_a_command_stays_within_the_bound() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    let command = "head -c 3000000 /dev/zero | tr '\\0' x; head -c 300000 /dev/zero >&2";
    let request = v1::RunToolRequest { session_id: session_id.clone(), ..bash(command) };
    let id = crate::support::waiting::start(&server, start_of(request)).await.background_id;
    ended(&server, &id).await;
    let payloads = payloads(&server, &session_id).await;
    let event = event_result(finished(&payloads));
    assert!(is_truncated(event) && !event.content.is_empty());
    assert!(is_truncated(outcome_of(&task(&server, &id).await)), "of 3 MB the ends are shown");
}

#[tokio::test]
async fn a_long_message_of_a_model_is_truncated_and_says_by_how_much() {
    let long = "ä".repeat(150_000);
    let endpoint = Endpoint::new(vec![
        calls(&[("call-1", "bash", json!({ "command": format!("true #{}", "y".repeat(90_000)) }))]),
        says(&long),
    ])
    .await;
    let server = serve_with(&endpoint, "").await;
    let session_id = new_session(&server).await;
    let ended = turn(&server, prompt(&session_id, &"p".repeat(128 << 10))).await;
    let payloads = payloads(&server, &session_id).await;
    let message = payloads.iter().rev().find_map(|payload| match payload {
        Payload::AssistantMessage(message) => Some(message),
        _ => None,
    });
    let message = message.expect("a message");
    let idle = payloads.iter().find_map(|payload| match payload {
        Payload::SessionIdle(idle) => Some(idle),
        _ => None,
    });
    let idle = idle.expect("an end");
    // A result is truncated in the middle, and says so; its event is the beginning of that.
    let result = &ended.final_text;
    assert!(result.len() < 200_000 && result.contains("bytes are left out here]"));
    for (text, omitted, whole) in [
        (&message.text, message.text_omitted_bytes, &long),
        (&idle.final_text, idle.final_text_omitted_bytes, result),
    ] {
        assert!(text.len() <= 128 << 10 && omitted > 0, "{} {omitted}", text.len());
        assert!(whole.starts_with(text.as_str()));
        assert_eq!(text.len() + usize::try_from(omitted).expect("a size"), whole.len());
    }
    let omitted = payloads.iter().filter_map(|payload| match payload {
        Payload::ToolCallAccepted(accepted) if accepted.tool == "bash" => {
            Some(accepted.arguments_omitted_bytes)
        }
        _ => None,
    });
    assert!(omitted.last().expect("a call") > 90_000);
}
