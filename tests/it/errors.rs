//! Requests that nobody should send: undecodable, too large, too deep, too many; and RPCs that
//! this server doesn't have.

use bytes::Bytes;
use callpark::model::limits::ARGUMENTS_DEPTH_MAX;
use callpark_proto::v1::start_request::Work;
use prost::Message;
use prost::encoding::encode_varint;
use prost_types::{Struct, Value, value::Kind};
use tokio::time::Instant;
use tonic::{Code, Request, Status};

use crate::support::streams::{new_session, stream_error, stream_of};
use crate::support::wire::{bad_fields, first_answer, methods, only_reason, send, with_token};
use crate::support::{PATIENCE, TestServer, bash, check_reason, millis, v1};

/// A tool that takes anything.
const ANY_TOOL: &str = r#"
[[tools]]
name = "any"
argv = ["true"]

[tools.input_schema]
type = "object"
"#;

async fn raw(server: &TestServer, method: &str, body: impl Into<Bytes>) -> Result<(), Status> {
    let request = with_token(server, body.into());
    first_answer(&server.channel, method, request).await.map(|_| ())
}

async fn refused(server: &TestServer, method: &str, body: impl Into<Bytes>) -> Status {
    raw(server, method, body).await.expect_err(method)
}

async fn run_refused(server: &TestServer, call: v1::RunToolRequest) -> Status {
    let began = Instant::now();
    let status = refused(server, "ToolRunner/RunTool", call.encode_to_vec()).await;
    assert!(began.elapsed() < PATIENCE / 2, "in {:?}", began.elapsed());
    status
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
            let codes = [Code::InvalidArgument, Code::Unimplemented];
            let code = codes[usize::from(method.name == "ToolWorker/Connect")];
            assert_eq!(status.code(), code, "{} {bytes:?}: {status:?}", method.name);
            assert!(only_reason(&status).is_some(), "{} {bytes:?}: {status:?}", method.name);
        }
    }
}

#[tokio::test]
async fn a_message_of_more_than_four_mebibytes_is_refused() {
    let server = TestServer::start().await;
    let call = |bytes: usize| bash(&"x".repeat(bytes));
    for method in ["ToolRunner/RunTool", "BackgroundTasks/Start", "ToolRunner/StreamTool"] {
        let status = refused(&server, method, vec![0x0a; (4 << 20) + 1]).await;
        let codes = [Code::InvalidArgument, Code::ResourceExhausted];
        assert!(codes.contains(&status.code()), "{method}: {status:?}");
        assert!(only_reason(&status).is_some(), "{method}: {status:?}");
    }
    let status = run_refused(&server, call((4 << 20) + 100)).await;
    assert!(only_reason(&status).is_some(), "{status:?}");
    let status = run_refused(&server, call((1 << 20) + 1)).await;
    check_reason(&status, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(bad_fields(&status), ["arguments"]);
}

/// A struct in a struct in a struct, encoded from the inside out: neither side may recurse.
fn nested(depth: usize) -> Vec<u8> {
    let mut reversed: Vec<u8> = Vec::new();
    let mut wrap = |tag: u8, before: &[u8]| {
        reversed.extend(before.iter().rev());
        let mut length = Vec::new();
        encode_varint(reversed.len() as u64, &mut length);
        reversed.extend(length.iter().rev());
        reversed.push(tag);
    };
    for _ in 1..depth {
        // Value.struct_value, the entry's value, the entry's key before it, Struct.fields.
        wrap(0x2a, b"");
        wrap(0x12, b"");
        wrap(0x0a, b"\x0a\x01a");
    }
    wrap(0x1a, b"");
    reversed.reverse();
    reversed
}

fn nested_call(depth: usize) -> Vec<u8> {
    let call = v1::RunToolRequest { tool: "any".into(), dry_run: true, ..Default::default() };
    let mut bytes = call.encode_to_vec();
    bytes.extend(nested(depth));
    bytes
}

#[tokio::test]
async fn arguments_are_as_deep_as_documented_and_no_deeper() {
    let server = TestServer::with_config(ANY_TOOL, &[]).await;
    for depth in [1, 20, 30] {
        raw(&server, "ToolRunner/RunTool", nested_call(depth)).await.expect("not too deep");
    }
    for depth in [ARGUMENTS_DEPTH_MAX + 1, 200, 10_000, 100_000] {
        let began = Instant::now();
        let status = refused(&server, "ToolRunner/RunTool", nested_call(depth)).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{depth}: {status:?}");
        assert!(only_reason(&status).is_some(), "{depth}: {status:?}");
        assert!(began.elapsed() < PATIENCE / 2, "{depth}: {:?}", began.elapsed());
    }
    let deepest = nested_call(ARGUMENTS_DEPTH_MAX);
    raw(&server, "ToolRunner/RunTool", deepest).await.expect("as deep as documented");
}

#[tokio::test]
async fn many_keys_are_refused_in_bounded_time_and_named() {
    let server = TestServer::with_config(ANY_TOOL, &[]).await;
    let keys = numbers(100_000, 1.0);
    let call = v1::RunToolRequest { arguments: keys, dry_run: true, ..bash("") };
    let status = run_refused(&server, call).await;
    check_reason(&status, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(bad_fields(&status), ["arguments"], "more than a mebibyte");
    for tool in ["bash", "any"] {
        let call = v1::RunToolRequest {
            tool: tool.into(),
            arguments: numbers(40_000, f64::NAN),
            dry_run: true,
            ..Default::default()
        };
        let status = run_refused(&server, call).await;
        check_reason(&status, Code::InvalidArgument, "INVALID_FIELD");
        assert!(bad_fields(&status).iter().any(|field| field.starts_with("arguments.k")));
    }
    let call = v1::RunToolRequest { arguments: numbers(40_000, 1.0), dry_run: true, ..bash("") };
    let status = run_refused(&server, call).await;
    check_reason(&status, Code::InvalidArgument, "ARGUMENTS_INVALID");
    assert!(!bad_fields(&status).is_empty());
}

#[tokio::test]
async fn numbers_that_json_does_not_have_are_refused_by_name() {
    let server = TestServer::start().await;
    for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let call = v1::RunToolRequest { arguments: numbers(1, number), ..bash("") };
        let status = run_refused(&server, call).await;
        check_reason(&status, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(bad_fields(&status), ["arguments.k00000"]);
    }
}

#[tokio::test]
async fn an_error_about_a_huge_request_is_small_enough_to_arrive() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    let wrong_kinds =
        v1::StreamSessionRequest { payloads: vec![999; 100_000], ..stream_of(&session_id) };
    let status = stream_error(&server, wrong_kinds).await;
    check_reason(&status, Code::InvalidArgument, "INVALID_FIELD");
    let wrong_states = v1::ListRequest { states: vec![999; 100_000], ..Default::default() };
    let status = server.tasks.clone().list(wrong_states).await.expect_err("refused");
    check_reason(&status, Code::InvalidArgument, "INVALID_FIELD");
    let background_ids = vec!["x".repeat(1_000); 100];
    let wrong_ids = v1::WaitManyRequest { background_ids, ..Default::default() };
    let status = server.tasks.clone().wait_many(wrong_ids).await.expect_err("refused");
    check_reason(&status, Code::InvalidArgument, "INVALID_FIELD");
    let tool = "t".repeat(1 << 20);
    let status = run_refused(&server, v1::RunToolRequest { tool, ..bash("") }).await;
    assert!(only_reason(&status).is_some(), "{:?}", status.code());
    let stream_epoch = "e".repeat(1 << 20);
    let other = v1::StreamSessionRequest { stream_epoch, ..stream_of(&session_id) };
    let status = stream_error(&server, other).await;
    assert!(only_reason(&status).is_some(), "{:?}", status.code());
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
async fn turns_and_follow_ups_are_unimplemented_and_nothing_else_is() {
    let server = TestServer::start().await;
    let mut left_out = 0;
    for method in methods() {
        let answer = raw(&server, &method.name, Bytes::new()).await;
        if method.is_left_out() {
            left_out += 1;
            let status = answer.expect_err(&method.name);
            check_reason(&status, Code::Unimplemented, "NOT_IMPLEMENTED");
            continue;
        }
        if let Err(status) = answer {
            assert_eq!(status.code(), Code::InvalidArgument, "{}: {status:?}", method.name);
            assert_eq!(only_reason(&status).as_deref(), Some("INVALID_FIELD"));
            assert!(!bad_fields(&status).is_empty(), "{}: {status:?}", method.name);
        }
    }
    assert_eq!(left_out, 8, "RunTurn, StreamTurn, CancelTurn, four of follow-ups, Connect");
    let turn = v1::AgentTurn { prompt: "do it".into(), ..Default::default() };
    let start = v1::StartRequest { work: Some(Work::AgentTurn(turn)), ..Default::default() };
    let status = server.tasks.clone().start(start).await.expect_err("refused");
    check_reason(&status, Code::Unimplemented, "NOT_IMPLEMENTED");
    let list = v1::ListSessionsRequest::default();
    let list = server.tools.clone().list_sessions(Request::new(list)).await.expect("a list");
    assert_eq!(list.into_inner().sessions.len(), 1, "only what an empty CreateSession made");
}
