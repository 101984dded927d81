//! Every field of every request of the contract, made wrong in every way: the errors are those of
//! the contract, and name the field. A new RPC or field is in it without a line here.

use std::collections::BTreeMap;

use bytes::Bytes;
use callpark_proto::v1::start_request::Work;
use futures::StreamExt as _;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FieldDescriptorProto};
use tonic::{Code, Status};

use crate::support::streams::{close, ended, new_session, task};
use crate::support::wire::{bad_fields, first_answer, messages, methods, only_reason, with_token};
use crate::support::{TestServer, bash, v1};

/// What must come of a wrong field.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Expected {
    /// An answer, or an error that the contract has.
    Documented,
    /// An error that the contract has.
    Refused,
    /// INVALID_ARGUMENT that names the field.
    Named,
}

/// A field made wrong: its bytes are appended to a good request and win over what is there.
#[derive(Debug)]
struct Wrong {
    field: String,
    how: &'static str,
    bytes: Vec<u8>,
    expected: Expected,
}

const HUGE: usize = 300 << 10;

fn delimited(number: i32, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_key(number.unsigned_abs(), WireType::LengthDelimited, &mut bytes);
    encode_varint(content.len() as u64, &mut bytes);
    bytes.extend_from_slice(content);
    bytes
}

fn number(number: i32, value: i64) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_key(number.unsigned_abs(), WireType::Varint, &mut bytes);
    encode_varint(value.cast_unsigned(), &mut bytes);
    bytes
}

/// All that can be wrong with the fields of a message.
fn wrongs(
    messages: &BTreeMap<String, DescriptorProto>,
    message: &str,
    path: &str,
    wrap: &dyn Fn(Vec<u8>) -> Vec<u8>,
) -> Vec<Wrong> {
    let mut all = Vec::new();
    for field in &messages[message].field {
        let full = if path.is_empty() {
            field.name().to_owned()
        } else {
            format!("{path}.{}", field.name())
        };
        for (how, bytes) in variants(field) {
            let expected = expected(field, how);
            all.push(Wrong { field: full.clone(), how, bytes: wrap(bytes), expected });
        }
        let inner = field.type_name();
        if inner.starts_with(".callpark.") && messages.contains_key(inner) && path.is_empty() {
            let wrap = |bytes: Vec<u8>| wrap(delimited(field.number(), &bytes));
            all.extend(wrongs(messages, inner, &full, &wrap));
        }
    }
    all
}

fn variants(field: &FieldDescriptorProto) -> Vec<(&'static str, Vec<u8>)> {
    let at = field.number();
    let text = |text: &[u8]| delimited(at, text);
    match field.r#type() {
        Type::String | Type::Bytes => vec![
            ("empty", text(b"")),
            ("garbage", text("garbage \u{1f980}\n\0".as_bytes())),
            ("huge", text(&vec![b'x'; HUGE])),
            ("not UTF-8", text(b"\xff\xfe")),
        ],
        Type::Int32 => vec![
            ("zero", number(at, 0)),
            ("lowest", number(at, i32::MIN.into())),
            ("highest", number(at, i32::MAX.into())),
        ],
        Type::Int64 => vec![
            ("zero", number(at, 0)),
            ("lowest", number(at, i64::MIN)),
            ("highest", number(at, i64::MAX)),
        ],
        Type::Enum => vec![
            ("unknown", number(at, -1)),
            ("unknown", number(at, 9_999)),
            ("unknown", number(at, i32::MAX.into())),
            ("zero", number(at, 0)),
        ],
        Type::Bool => vec![("set", number(at, 1))],
        Type::Message => message_variants(field.type_name(), at),
        other => panic!("a new type of field: {other:?}"),
    }
}

fn message_variants(name: &str, at: i32) -> Vec<(&'static str, Vec<u8>)> {
    let pair = |seconds: i64, nanos: i64| {
        let span = [number(1, seconds), number(2, nanos)].concat();
        delimited(at, &span)
    };
    let label = |key: &[u8], value: &[u8]| {
        delimited(at, &[delimited(1, key), delimited(2, value)].concat())
    };
    match name {
        ".google.protobuf.Duration" | ".google.protobuf.Timestamp" => vec![
            ("empty", delimited(at, b"")),
            ("negative", pair(-1, 0)),
            ("lowest", pair(i64::MIN, i32::MIN.into())),
            ("bad nanos", pair(1, i32::MAX.into())),
            ("highest", pair(i64::MAX, 999_999_999)),
        ],
        _ if name.ends_with("Entry") => vec![
            ("bad label", label(b"", b"value")),
            ("bad label", label(&[b'k'; 64], b"value")),
            ("bad label", label(b"key", &vec![b'v'; HUGE])),
            ("bad label", (0..65).flat_map(|n| label(n.to_string().as_bytes(), b"")).collect()),
        ],
        _ => vec![("empty", delimited(at, b""))],
    }
}

fn expected(field: &FieldDescriptorProto, how: &str) -> Expected {
    let name = field.name();
    let opaque = ["approval_id", "follow_up_id", "lease_id"].contains(&name);
    let is_id = (name.ends_with("_id") || name == "background_ids") && !opaque;
    let is_span = field.type_name() == ".google.protobuf.Duration";
    match how {
        "garbage" | "huge" if is_id => Expected::Named,
        "empty" if name == "background_id" || name == "tool" => Expected::Named,
        "huge" | "not UTF-8" => Expected::Refused,
        "unknown" | "bad label" => Expected::Named,
        "lowest" if matches!(field.r#type(), Type::Int32 | Type::Int64) => Expected::Named,
        // A wait is clamped, whatever it is.
        "negative" | "lowest" | "bad nanos" if is_span && name != "wait" => Expected::Named,
        "bad nanos" if !is_span => Expected::Named,
        _ => Expected::Documented,
    }
}

/// What a good request is about.
struct World {
    session_id: String,
    closed_id: String,
    background_id: String,
}

/// A request that is good, so that what comes of it comes from the field made wrong.
fn good(method: &str, world: &World) -> Vec<u8> {
    let World { session_id, closed_id, background_id } = world;
    let (session_id, background_id) = (session_id.clone(), background_id.clone());
    let unknown = "bg-00000000000040008000000000000000".to_owned();
    let call = v1::RunToolRequest { dry_run: true, ..bash("true") };
    let work = v1::ToolCall {
        tool: call.tool.clone(),
        arguments: call.arguments.clone(),
        ..Default::default()
    };
    let work = Some(Work::ToolCall(work));
    match method {
        "ListTools" | "GetSession" | "Summarize" | "Watch" => {
            v1::GetSessionRequest { session_id }.encode_to_vec()
        }
        "CloseSession" => v1::GetSessionRequest { session_id: closed_id.clone() }.encode_to_vec(),
        "RunTool" => call.encode_to_vec(),
        "StreamTool" => v1::StreamToolRequest {
            tool: call.tool,
            arguments: call.arguments,
            dry_run: true,
            ..Default::default()
        }
        .encode_to_vec(),
        "StreamSession" => {
            let follow = Some(false);
            v1::StreamSessionRequest { session_id, follow, ..Default::default() }.encode_to_vec()
        }
        "Start" => v1::StartRequest { work, dry_run: true, ..Default::default() }.encode_to_vec(),
        "Delete" => v1::GetRequest { background_id: unknown }.encode_to_vec(),
        "WaitMany" => {
            let background_ids = vec![background_id];
            v1::WaitManyRequest { background_ids, ..Default::default() }.encode_to_vec()
        }
        "ResolveApproval" => {
            let decision = v1::ApprovalDecision::Allow.into();
            v1::ResolveApprovalRequest { background_id, decision, ..Default::default() }
                .encode_to_vec()
        }
        "Get" | "Wait" | "Cancel" | "ReadOutput" => {
            v1::GetRequest { background_id }.encode_to_vec()
        }
        "List" => v1::ListRequest { page_size: 1, ..Default::default() }.encode_to_vec(),
        "ListSessions" => {
            v1::ListSessionsRequest { page_size: 1, ..Default::default() }.encode_to_vec()
        }
        "CreateSession" => Vec::new(),
        other => panic!("a new RPC: how does a good {other} look?"),
    }
}

/// What is wrong with the answer.
fn complaint(wrong: &Wrong, answer: &Result<(), Status>) -> Option<String> {
    let status = match answer {
        Ok(()) => return (wrong.expected != Expected::Documented).then(|| "accepted".into()),
        Err(status) => status,
    };
    let message: String = status.message().chars().take(150).collect();
    let told = format!("{:?}: {message}", status.code());
    let is_turn = wrong.field.starts_with("agent_turn") && status.code() == Code::Unimplemented;
    let documented =
        [Code::InvalidArgument, Code::NotFound, Code::OutOfRange, Code::FailedPrecondition];
    if !documented.contains(&status.code()) && !is_turn {
        return Some(told);
    }
    if only_reason(status).is_none() {
        return Some(format!("no reason of ours: {told}"));
    }
    let fields = bad_fields(status);
    let is_named = status.code() == Code::InvalidArgument
        && fields.iter().any(|field| field.starts_with(&wrong.field));
    (wrong.expected == Expected::Named && !is_named && !is_turn)
        .then(|| format!("not named in {fields:?}: {told}"))
}

#[tokio::test]
async fn every_wrong_field_of_every_rpc_is_refused_as_documented() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    let closed_id = new_session(&server).await;
    close(&server, &closed_id).await;
    let background_id = task(&server, &session_id, "echo one").await.background_id;
    ended(&server, &background_id).await;
    let world = World { session_id, closed_id, background_id };
    let messages = messages();
    let (mut count, mut complaints) = (0, Vec::new());
    for method in methods().into_iter().filter(|method| !method.is_left_out()) {
        let (_, short) = method.name.split_once('/').expect("a method");
        let good = good(short, &world);
        let wrongs = wrongs(&messages, &method.input, "", &|bytes| bytes);
        let asked = wrongs.into_iter().map(|wrong| {
            let body = Bytes::from([good.as_slice(), &wrong.bytes].concat());
            let (server, name) = (&server, &method.name);
            async move {
                let request = with_token(server, body);
                let answer = first_answer(&server.channel, name, request).await.map(|_| ());
                let complaint = complaint(&wrong, &answer);
                complaint.map(|text| format!("{name}.{} {}: {text}", wrong.field, wrong.how))
            }
        });
        let answers: Vec<_> = futures::stream::iter(asked).buffered(8).collect().await;
        count += answers.len();
        complaints.extend(answers.into_iter().flatten());
    }
    assert!(count > 300, "{count}");
    assert!(complaints.is_empty(), "{} of {count}:\n{}", complaints.len(), complaints.join("\n"));
    let server = server.restart().await;
    let request = v1::GetRequest { background_id: world.background_id };
    server.tasks.clone().get(request).await.expect("nothing of it did any harm");
}
