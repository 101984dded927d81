//! The result of a call, and the environment of its process.

mod output;
mod output_tail;
mod stdin;
mod tool_pages;
mod tools;

use std::collections::BTreeSet;

use serde_json::json;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::support::waiting::{call, events_of, refusal, run, start_of, time, variable};
use crate::support::{
    TestServer, bash, check_reason, millis, python, result_of, soon, stderr_of, stdout_of, v1,
};

use v1::tool_result::Exit;

#[tokio::test]
async fn bash_and_python_return_their_output_and_exit_code() {
    let server = TestServer::start().await;
    let answer = run(&server, bash("printf hello; exit 3")).await;
    let result = result_of(&answer);
    assert_eq!(stdout_of(result), b"hello");
    assert_eq!((result.exit, result.is_error), (Some(Exit::ExitCode(3)), true));
    assert!(time(&result.start_time) <= time(&result.end_time));
    let answer = run(&server, python("import sys; print('hi'); sys.exit(0)")).await;
    let result = result_of(&answer);
    assert_eq!(stdout_of(result), b"hi\n");
    assert_eq!((result.exit, result.is_error), (Some(Exit::ExitCode(0)), false));
    assert_eq!(result.error_message, "");
}

#[tokio::test]
async fn stdout_and_stderr_come_apart_and_byte_exact() {
    let server = TestServer::start().await;
    let code = "import os\n\
                os.write(1, bytes(range(128)))\n\
                os.write(2, 'é\\r\\n'.encode())\n\
                os.write(1, '€ and no end of line'.encode())";
    let answer = run(&server, python(code)).await;
    let result = result_of(&answer);
    let mut expected: Vec<u8> = (0..128).collect();
    expected.extend("€ and no end of line".as_bytes());
    assert_eq!(stdout_of(result), expected);
    assert_eq!(stderr_of(result), "é\r\n".as_bytes());
    let counts = |summary: &Option<v1::StreamSummary>| {
        let summary = summary.expect("a summary");
        (summary.total_bytes, summary.kept_bytes, summary.dropped_bytes, summary.cut_offset)
    };
    let output = result.output.as_ref().expect("a summary");
    assert_eq!(counts(&output.stdout), (150, 150, 0, None));
    assert_eq!(counts(&output.stderr), (4, 4, 0, None));
    assert_eq!(counts(&output.combined), (154, 154, 0, None));
    assert!(!output.inline_truncated);
}

#[tokio::test]
async fn a_signal_is_reported_as_a_signal() {
    let server = TestServer::start().await;
    let answer = run(&server, bash("echo before; kill -SEGV $$")).await;
    let result = result_of(&answer);
    assert_eq!(stdout_of(result), b"before\n");
    assert_eq!((result.exit, result.is_error), (Some(Exit::Signal(11)), true));
}

#[tokio::test]
async fn arguments_set_the_folder_the_variables_and_the_input() {
    let server = TestServer::start().await;
    let folder = server.folder().canonicalize().expect("a folder");
    let arguments = json!({
        "command": "pwd; echo \"$GREETING\"; cat",
        "cwd": folder.to_str(),
        "env": { "GREETING": "two  words; $HOME" },
        "stdin": "line one\nno end",
    });
    let answer = run(&server, call("bash", arguments)).await;
    let expected = format!("{}\ntwo  words; $HOME\nline one\nno end", folder.display());
    assert_eq!(stdout_of(result_of(&answer)), expected.as_bytes());
    let answer = run(&server, call("python", json!({ "code": "print(repr(input()))" }))).await;
    assert!(stderr_of(result_of(&answer)).ends_with(b"EOFError: EOF when reading a line\n"));
}

#[tokio::test]
async fn a_process_sees_only_the_allowed_variables() {
    let server = TestServer::start().await;
    // Cargo sets it for tests: a variable that must not come through.
    assert!(variable("CARGO_MANIFEST_DIR").is_some());
    let answer = run(&server, bash("cat /proc/$$/environ; true")).await;
    let environment = stdout_of(result_of(&answer));
    let seen: BTreeSet<String> = environment
        .split(|byte| *byte == 0)
        .filter(|entry| !entry.is_empty())
        .map(|entry| String::from_utf8_lossy(entry).into_owned())
        .collect();
    let allowed = ["PATH", "HOME", "LANG", "LC_ALL", "TZ", "USER", "LOGNAME", "SHELL", "TMPDIR"];
    let mut expected: BTreeSet<String> =
        allowed.iter().filter_map(|name| Some(format!("{name}={}", variable(name)?))).collect();
    expected.insert(format!("CALLPARK_CALL_ID={}", answer.call_id));
    expected.insert(format!("CALLPARK_SERVER_PROCESS={}", server_process()));
    expected.insert("PYTHONUNBUFFERED=1".into());
    assert_eq!(seen, expected);
}

/// This process, in which the server runs: its id and the time of its start.
pub fn server_process() -> String {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("this process");
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    let start_ticks = fields.split_ascii_whitespace().nth(19).expect("the time of its start");
    format!("{}.{start_ticks}", std::process::id())
}

#[tokio::test]
async fn the_setting_tool_environment_says_which_variables_are_seen() {
    let server = TestServer::with(&[("tool-environment", "PATH,CARGO_MANIFEST_DIR")]).await;
    let command = "echo \"${CARGO_MANIFEST_DIR-none} ${HOME-none}\"";
    let answer = run(&server, bash(command)).await;
    let expected = format!("{} none\n", variable("CARGO_MANIFEST_DIR").expect("it"));
    assert_eq!(stdout_of(result_of(&answer)), expected.as_bytes());
}

#[tokio::test]
async fn a_process_holds_descriptors_0_1_and_2_only() {
    let server = TestServer::start().await;
    for request in [
        bash("ls /proc/$$/fd; true"),
        call("bash", json!({ "command": "ls /proc/$$/fd; true", "stdin": "some" })),
    ] {
        let answer = run(&server, request).await;
        assert_eq!(stdout_of(result_of(&answer)), b"0\n1\n2\n");
    }
}

#[tokio::test]
async fn a_folder_that_is_missing_is_a_failed_result() {
    let server = TestServer::start().await;
    let request = call("bash", json!({ "command": "echo no", "cwd": "/no/such/folder" }));
    let answer = run(&server, request).await;
    let result = result_of(&answer);
    assert!(result.is_error);
    assert_eq!(result.exit, None);
    assert!(result.error_message.contains("/no/such/folder"), "{}", result.error_message);
    assert_eq!(stdout_of(result), b"");
}

#[track_caller]
fn check_fields(status: &tonic::Status, reason: &str, expected: &[&str]) {
    check_reason(status, Code::InvalidArgument, reason);
    let faults = status.get_details_bad_request().expect("a BadRequest").field_violations;
    assert!(faults.iter().all(|fault| !fault.description.is_empty()), "{faults:?}");
    let named: BTreeSet<&str> = faults.iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(named, expected.iter().copied().collect());
}

#[tokio::test]
async fn all_violations_of_the_schema_are_reported_at_once() {
    let server = TestServer::start().await;
    let arguments = json!({ "cwd": "", "env": { "A": 1, "B": "b" }, "stdin": [], "shell": "sh" });
    let status = refusal(&server, call("bash", arguments)).await;
    let expected = [
        "arguments.command",
        "arguments.cwd",
        "arguments.env.A",
        "arguments.shell",
        "arguments.stdin",
    ];
    check_fields(&status, "ARGUMENTS_INVALID", &expected);
}

#[tokio::test]
async fn all_errors_in_arguments_are_reported_at_once() {
    let server = TestServer::start().await;
    let arguments = json!({ "command": "a\0b", "env": { "A=B": "" }, "extra": 1 });
    let status = refusal(&server, call("bash", arguments)).await;
    let expected = ["arguments.command", "arguments.env.A=B", "arguments.extra"];
    check_fields(&status, "ARGUMENTS_INVALID", &expected);
}

#[tokio::test]
async fn all_bad_fields_are_reported_at_once_and_nothing_is_done() {
    let server = TestServer::start().await;
    let negative = Some(prost_types::Duration { seconds: -1, nanos: 0 });
    let request = v1::RunToolRequest {
        session_id: "ses-1".into(),
        request_id: "1".into(),
        call_budget: negative,
        execution_timeout: millis(0),
        idle_timeout: negative,
        on_disconnect: 7,
        follow_up: 9,
        max_output_bytes: Some(-1),
        labels: [(String::new(), "x".into())].into(),
        ..Default::default()
    };
    let fields = [
        "call_budget",
        "execution_timeout",
        "follow_up",
        "idle_timeout",
        "labels[]",
        "max_output_bytes",
        "on_disconnect",
        "request_id",
        "session_id",
        "tool",
    ];
    check_fields(&refusal(&server, request.clone()).await, "INVALID_FIELD", &fields);
    let stream = server.tools.clone().stream_tool(request).await;
    check_fields(&stream.expect_err("a refusal"), "INVALID_FIELD", &fields);
    check_no_session(&server).await;
}

async fn check_no_session(server: &TestServer) {
    let request = v1::ListSessionsRequest::default();
    let answer = soon("a list", server.tools.clone().list_sessions(request)).await;
    assert_eq!(answer.expect("an answer").into_inner().sessions, []);
}

#[tokio::test]
async fn an_unknown_tool_is_not_found() {
    let server = TestServer::start().await;
    let status = refusal(&server, call("zsh", json!({}))).await;
    check_reason(&status, Code::NotFound, "TOOL_NOT_FOUND");
    let resource = status.get_details_resource_info().expect("a ResourceInfo");
    assert_eq!(resource.resource_name, "zsh");
    check_no_session(&server).await;
}

#[tokio::test]
async fn a_call_that_names_no_session_gets_one_of_its_own() {
    let server = TestServer::start().await;
    let first = run(&server, bash("true")).await;
    let second = run(&server, bash("true")).await;
    assert_ne!(first.session_id, second.session_id);
    for answer in [first, second] {
        let hex = answer.session_id.strip_prefix("ses-").expect("a session's id");
        assert!(hex.len() == 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let request = v1::GetSessionRequest { session_id: answer.session_id.clone() };
        let found = server.tools.clone().get_session(request).await.expect("an answer");
        let session = found.into_inner().session.expect("a session");
        assert_eq!((session.live_tasks, session.state()), (0, v1::SessionState::Open));
        let request = v1::RunToolRequest { session_id: answer.session_id.clone(), ..bash("true") };
        assert_eq!(run(&server, request).await.session_id, answer.session_id);
    }
}

#[tokio::test]
async fn a_dry_run_checks_and_starts_nothing() {
    let server = TestServer::start().await;
    let mark = server.folder().join("mark");
    let dry = v1::RunToolRequest {
        dry_run: true,
        request_id: crate::support::request_id(),
        ..bash(&format!("touch {}", mark.display()))
    };
    let answer = run(&server, dry.clone()).await;
    let expected = v1::RunToolResponse { dry_run: true, ..Default::default() };
    assert_eq!(answer, expected);
    let stream = server.tools.clone().stream_tool(dry.clone()).await;
    assert_eq!(events_of(stream.expect("a stream").into_inner()).await, []);
    let started = server.tasks.clone().start(start_of(dry.clone())).await.expect("an answer");
    let started = started.into_inner();
    assert_eq!((started.task, started.dry_run, started.replayed), (None, true, false));
    for wrong in [json!({}), json!({ "command": 1 })] {
        let wrong = v1::RunToolRequest { dry_run: true, ..call("bash", wrong) };
        check_fields(
            &refusal(&server, wrong.clone()).await,
            "ARGUMENTS_INVALID",
            &["arguments.command"],
        );
        let status = server.tasks.clone().start(start_of(wrong)).await.expect_err("a refusal");
        check_reason(&status, Code::InvalidArgument, "ARGUMENTS_INVALID");
    }
    check_no_session(&server).await;
    // Had anything been started, it would have run before this.
    let real = v1::RunToolRequest { dry_run: false, ..dry };
    assert!(!mark.exists());
    assert!(!run(&server, real).await.replayed);
    assert!(mark.exists());
}
