//! The standard input that comes with a request.

use callpark::tool::{FunctionTool, ToolOutput};
use serde_json::{Value, json};
use tonic::Code;

use super::check_fields;
use crate::support::waiting::{call, ended, log_of, outcome_of, refusal, run, start, start_of};
use crate::support::{TestServer, bash, check_reason, request_id, result_of, soon, stdout_of, v1};

use v1::session_event::Payload;

/// The bound of the contract.
const BYTES_MAX: usize = 2 << 20;

fn fed(data: impl Into<bytes::Bytes>, request: v1::RunToolRequest) -> v1::RunToolRequest {
    v1::RunToolRequest { stdin: data.into(), ..request }
}

#[tokio::test]
async fn the_process_reads_it_byte_for_byte_and_then_its_end() {
    let server = TestServer::start().await;
    let bytes: Vec<u8> = (0..=255).cycle().take(BYTES_MAX).collect();
    let expected = format!("{BYTES_MAX}\n").into_bytes();
    let answer = run(&server, fed(bytes, bash("wc -c"))).await;
    assert_eq!(stdout_of(result_of(&answer)), expected);
    let answer = run(&server, fed(&b"a\0\xff\n"[..], bash("cat; echo end"))).await;
    assert_eq!(stdout_of(result_of(&answer)), b"a\0\xff\nend\n");
    // A process may leave it unread.
    let answer = run(&server, fed(vec![b'x'; BYTES_MAX], bash("echo no"))).await;
    assert_eq!(stdout_of(result_of(&answer)), b"no\n");
}

#[tokio::test]
async fn a_task_has_it_as_well_and_the_log_has_its_size() {
    let server = TestServer::start().await;
    let task = start(&server, start_of(fed("one\ntwo\n", bash("wc -l")))).await;
    let task_end = ended(&server, &task.background_id).await;
    assert_eq!(stdout_of(outcome_of(&task_end)), b"2\n");
    let log = log_of(&server, &task.session_id).await;
    let sizes: Vec<i64> = log
        .iter()
        .filter_map(|event| match &event.payload {
            Some(Payload::ToolCallAccepted(accepted)) => Some(accepted.stdin_bytes),
            _ => None,
        })
        .collect();
    assert_eq!(sizes, [8]);
}

#[tokio::test]
async fn a_tool_of_the_configuration_reads_it_unless_its_arguments_give_one() {
    const CONFIG: &str = r#"
[[tools]]
name = "count"
argv = ["wc", "-c"]
stdin = "{text}"
[tools.input_schema]
type = "object"
properties = { text = { type = "string" } }
"#;
    let server = TestServer::with_config(CONFIG, &[]).await;
    let answer = run(&server, fed("four", call("count", json!({})))).await;
    assert_eq!(stdout_of(result_of(&answer)), b"4\n");
    for request in [
        call("count", json!({ "text": "six" })),
        call("bash", json!({ "command": "cat", "stdin": "six" })),
    ] {
        let status = refusal(&server, fed("four", request)).await;
        check_fields(&status, "ARGUMENTS_INVALID", &["stdin"]);
        assert!(status.message().contains("give the standard input already"), "{status}");
    }
}

#[tokio::test]
async fn a_tool_that_is_no_process_refuses_it() {
    let echo = FunctionTool::new("echo").run(|_: Value, _| async { Ok(ToolOutput::text("hi")) });
    let server = TestServer::with_tools(vec![echo]).await;
    let request = fed("four", call("echo", json!({})));
    let status = refusal(&server, request.clone()).await;
    check_fields(&status, "ARGUMENTS_INVALID", &["stdin"]);
    assert!(status.message().contains("tool `echo`: stdin: the tool is not a process"), "{status}");
    let status = refusal(&server, v1::RunToolRequest { dry_run: true, ..request }).await;
    check_fields(&status, "ARGUMENTS_INVALID", &["stdin"]);
    run(&server, call("echo", json!({}))).await;
}

#[tokio::test]
async fn more_than_the_bound_is_refused_with_both_numbers() {
    let server = TestServer::start().await;
    let status = refusal(&server, fed(vec![b'x'; BYTES_MAX + 1], bash("cat"))).await;
    check_fields(&status, "INVALID_FIELD", &["stdin"]);
    assert!(status.message().contains("at most 2097152 bytes, but has 2097153"), "{status}");
}

#[tokio::test]
async fn it_is_part_of_what_a_request_id_stands_for() {
    let server = TestServer::start().await;
    let request = v1::RunToolRequest { request_id: request_id(), ..fed("one", bash("cat")) };
    let first = run(&server, request.clone()).await;
    let again = run(&server, request.clone()).await;
    assert!(again.replayed && again.call_id == first.call_id);
    let status = soon("an answer", server.tools.clone().run_tool(fed("two", request))).await;
    check_reason(&status.expect_err("refused"), Code::AlreadyExists, "REQUEST_ID_REUSED");
}
