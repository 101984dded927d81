//! Requests that no client should send: wrong in many ways at once, or no messages at all; and RPCs
//! that this server doesn't have. What is wrong with single fields is tried in `descriptor`.

use bytes::Bytes;
use prost::Message;
use prost_types::{Struct, Value, value::Kind};
use tokio::time::Instant;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use crate::support::waiting::{call, refusal};
use crate::support::wire::{
    bad_fields, first_answer, least_request, methods, only_reason, send, with_token,
};
use crate::support::{TEST_TIMEOUT, TestServer, bash, check_reason, millis, soon, v1};

async fn raw(server: &TestServer, method: &str, body: impl Into<Bytes>) -> Result<(), Status> {
    let request = with_token(server, body.into());
    first_answer(&server.channel, method, request).await.map(|_| ())
}

async fn refused(server: &TestServer, method: &str, body: impl Into<Bytes>) -> Status {
    raw(server, method, body).await.expect_err(method)
}

fn value(number: f64) -> Value {
    Value { kind: Some(Kind::NumberValue(number)) }
}

fn numbers(count: usize, number: f64) -> Option<Struct> {
    let field = |index: usize| (format!("k{index:05}"), value(number));
    Some(Struct { fields: (0..count).map(field).collect() })
}

#[tokio::test]
async fn all_bad_fields_are_named_in_one_error() {
    let server = TestServer::start().await;
    let negative = Some(prost_types::Duration { seconds: -1, nanos: 0 });
    let call = v1::RunToolRequest {
        session_id: "ses-1".into(),
        request_id: "not a uuid".into(),
        arguments: numbers(1, f64::NAN),
        call_budget: negative,
        execution_timeout: millis(0),
        idle_timeout: negative,
        on_disconnect: 7,
        follow_up: -7,
        max_output_bytes: Some(-1),
        description: "x".repeat(5_000),
        labels: [(String::new(), String::new())].into(),
        ..Default::default()
    };
    let status = server.tools.clone().run_tool(call).await.expect_err("refused");
    check_reason(&status, Code::InvalidArgument, "INVALID_FIELD");
    let mut fields = bad_fields(&status);
    fields.sort();
    let expected = [
        "arguments.k00000",
        "call_budget",
        "description",
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
    assert_eq!(fields, expected);
    for field in expected {
        assert!(status.message().contains(field), "{field} in {}", status.message());
    }
}

#[tokio::test]
async fn bytes_that_are_no_message_are_an_invalid_argument() {
    let server = TestServer::start().await;
    for method in methods() {
        // An unfinished tag, a length beyond the end, a wire type that doesn't exist, a group.
        for bytes in [&b"\xff"[..], b"\x0a\xff\xff\xff\xff\x0f", b"\x0f\x00", b"\x0b\x0b\x0b"] {
            let status = refused(&server, &method.name, Bytes::from_static(bytes)).await;
            let (code, name) = (status.code(), &method.name);
            assert_eq!(code, Code::InvalidArgument, "{name} {bytes:?}: {status:?}");
            assert!(only_reason(&status).is_some(), "{} {bytes:?}: {status:?}", method.name);
        }
    }
}

#[tokio::test]
async fn many_keys_that_a_tool_does_not_know_are_refused_in_bounded_time_and_named() {
    let server = TestServer::start().await;
    let call = v1::RunToolRequest { arguments: numbers(49_000, 1.0), dry_run: true, ..bash("") };
    let began = Instant::now();
    let status = refused(&server, "ToolRunner/RunTool", call.encode_to_vec()).await;
    assert!(began.elapsed() < TEST_TIMEOUT / 2, "in {:?}", began.elapsed());
    check_reason(&status, Code::InvalidArgument, "ARGUMENTS_INVALID");
    let fields = bad_fields(&status);
    assert!(fields.contains(&"arguments.k00000".to_owned()), "{fields:?}");
}

#[tokio::test]
async fn an_unknown_method_is_unimplemented() {
    let server = TestServer::start().await;
    for path in [
        "callpark.v1.ToolRunner/NoSuchMethod",
        "callpark.v1.NoSuchService/RunTool",
        "callpark.v2.ToolRunner/RunTool",
        "nothing",
    ] {
        let request = with_token(&server, Bytes::new());
        let status = match send(&server.channel, path, request).await {
            Err(status) => status,
            Ok(answer) => answer.into_inner().message().await.expect_err("an error"),
        };
        assert_eq!(status.code(), Code::Unimplemented, "{path}: {status:?}");
        assert!(only_reason(&status).is_some(), "{path}: {status:?}");
    }
}

#[tokio::test]
async fn every_method_answers_an_empty_request_or_names_its_fields() {
    let server = TestServer::start().await;
    for method in methods() {
        let answer = raw(&server, &method.name, least_request(&method.name)).await;
        if let Err(status) = answer {
            assert_eq!(status.code(), Code::InvalidArgument, "{}: {status:?}", method.name);
            assert_eq!(only_reason(&status).as_deref(), Some("INVALID_FIELD"));
            assert!(!bad_fields(&status).is_empty(), "{}: {status:?}", method.name);
        }
    }
    let list = v1::ListSessionsRequest::default();
    let list = server.tools.clone().list_sessions(Request::new(list)).await.expect("a list");
    assert_eq!(list.into_inner().sessions.len(), 1, "only what an empty CreateSession made");
}

#[tokio::test]
async fn every_violation_has_a_reason() {
    let server = TestServer::start().await;
    let on_start = v1::StartRequest {
        work: Some(v1::start_request::Work::ToolCall(v1::RunToolRequest {
            call_budget: millis(1_000),
            ..bash("true")
        })),
        ..Default::default()
    };
    let conflict = soon("an answer", server.tasks.clone().start(on_start)).await;
    let of = |change: v1::RunToolRequest| refusal(&server, change);
    let cases = [
        ("REQUIRED", "tool", of(v1::RunToolRequest::default()).await),
        (
            "INVALID_FORMAT",
            "session_id",
            of(v1::RunToolRequest { session_id: "ses-1".into(), ..bash("") }).await,
        ),
        (
            "OUT_OF_RANGE",
            "execution_timeout",
            of(v1::RunToolRequest { execution_timeout: millis(0), ..bash("") }).await,
        ),
        (
            "TOO_LARGE",
            "description",
            of(v1::RunToolRequest { description: "x".repeat(5_000), ..bash("") }).await,
        ),
        (
            "UNKNOWN_VALUE",
            "on_disconnect",
            of(v1::RunToolRequest { on_disconnect: 7, ..bash("") }).await,
        ),
        ("CONFLICT", "tool_call.call_budget", conflict.expect_err("a conflict")),
        (
            "SCHEMA_MISMATCH",
            "arguments.command",
            of(call("bash", serde_json::json!({ "command": 7 }))).await,
        ),
    ];
    for (reason, field, status) in cases {
        let details = status.get_details_bad_request().expect("a BadRequest");
        let [violation] = &details.field_violations[..] else { panic!("{status:?}") };
        assert_eq!((violation.reason.as_str(), violation.field.as_str()), (reason, field));
        assert!(!violation.description.is_empty(), "{status:?}");
    }
}
