//! Every reason of an error, with its code, its metadata and its details as `error_reason.proto`
//! promises them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use callpark::model::{Tool, ToolKind, ToolSource};
use callpark::tool::{ArgumentError, Arguments, CallContext, CallableTool, Work};
use prost::Message as _;
use tonic::{Code, Request, Status};
use tonic_types::{ErrorDetail, StatusExt as _};
use v1::ErrorReason as Reason;

use crate::support::streams::{
    MISSING_TOOL, Reader, close, created, failing_calls, new_session, replay_of, session_now,
    start_of, started, stream_error, stream_of, task, task_now,
};
use crate::support::waiting::{refusal, run};
use crate::support::wire::{first_answer, send, with_token};
use crate::support::{TestServer, bash, millis, request_id, soon, v1};

/// The proof of a reason.
enum Proof {
    /// A request of this file gets it, with this code and these details beside the ErrorInfo.
    Here(Code, &'static [&'static str]),
    /// No request of this file gets it, for this reason.
    Elsewhere(&'static str),
}

/// The table. A new reason does not compile without a line in it.
fn proof(reason: Reason) -> Proof {
    use Proof::{Elsewhere, Here};
    match reason {
        Reason::Unspecified => Elsewhere("never sent"),
        Reason::InvalidField | Reason::ArgumentsInvalid | Reason::PageTokenInvalid => {
            Here(Code::InvalidArgument, &["BadRequest"])
        }
        Reason::CredentialsMissing | Reason::CredentialsInvalid => Here(Code::Unauthenticated, &[]),
        Reason::CredentialsExpired | Reason::CredentialsRevoked => {
            Elsewhere("needs a key that ends: keys::ending")
        }
        Reason::ScopeMissing => Elsewhere("needs a key without a scope: keys::scopes"),
        Reason::SessionNotFound
        | Reason::TaskNotFound
        | Reason::FollowUpNotFound
        | Reason::ToolNotFound
        | Reason::ModelNotFound => Here(Code::NotFound, &["ResourceInfo"]),
        Reason::ToolNotAllowed => Here(Code::PermissionDenied, &[]),
        Reason::RequestIdReused => Here(Code::AlreadyExists, &[]),
        Reason::SessionClosed
        | Reason::TaskRunning
        | Reason::FollowUpNotDeadLettered
        | Reason::LeaseExpired => Here(Code::FailedPrecondition, &["PreconditionFailure"]),
        Reason::SessionBusy => Here(Code::Aborted, &["RetryInfo"]),
        Reason::TaskLimit => Here(Code::ResourceExhausted, &["QuotaFailure", "RetryInfo"]),
        Reason::QuotaExceeded | Reason::RateLimited => {
            Elsewhere("needs a tenant with limits: quota")
        }
        Reason::StorageFull => Elsewhere("needs a small disk: faults::disk"),
        Reason::MessageTooLarge => Here(Code::ResourceExhausted, &[]),
        Reason::SequenceAhead | Reason::SequenceTrimmed | Reason::StreamEpochMismatch => {
            Here(Code::OutOfRange, &[])
        }
        Reason::Draining => Here(Code::Unavailable, &["RetryInfo"]),
        Reason::StoreUnavailable => Elsewhere("needs a store that goes away: faults::store"),
        Reason::RecordDamaged => Elsewhere("needs a damaged store: faults::damage"),
        Reason::NotOwner => {
            Elsewhere("needs two servers on one store, which SQLite's lock refuses")
        }
        Reason::DeadlineExceeded => Here(Code::DeadlineExceeded, &[]),
        Reason::Cancelled => Elsewhere("a caller that has cancelled reads no answer"),
        Reason::UnknownMethod | Reason::UnsupportedEncoding => Here(Code::Unimplemented, &[]),
        Reason::MalformedMessage => Here(Code::InvalidArgument, &[]),
        Reason::ServerLost => Here(Code::Unavailable, &[]),
        Reason::Internal => Here(Code::Internal, &[]),
    }
}

/// An error that a request got, and the metadata that it must have.
struct Found {
    reason: Reason,
    status: Status,
    metadata: Vec<(&'static str, String)>,
}

fn found(reason: Reason, status: Status, metadata: &[(&'static str, &str)]) -> Found {
    let metadata = metadata.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
    Found { reason, status, metadata }
}

fn name_of(reason: Reason) -> &'static str {
    reason.as_str_name().strip_prefix("ERROR_REASON_").expect("a prefix")
}

fn check(found: Found) {
    let Found { reason, status, metadata } = found;
    let name = name_of(reason);
    let Proof::Here(code, details) = proof(reason) else { panic!("{name} is listed as elsewhere") };
    assert_eq!(status.code(), code, "{name}: {status:?}");
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("{name}: {status:?}"));
    assert_eq!((info.reason.as_str(), info.domain.as_str()), (name, "callpark"));
    let expected: HashMap<String, String> =
        metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    assert_eq!(info.metadata, expected, "{name}");
    let mut beside: Vec<&str> = Vec::new();
    for detail in status.get_error_details_vec() {
        match detail {
            ErrorDetail::ErrorInfo(_) => {}
            ErrorDetail::BadRequest(_) => beside.push("BadRequest"),
            ErrorDetail::ResourceInfo(_) => beside.push("ResourceInfo"),
            ErrorDetail::PreconditionFailure(_) => beside.push("PreconditionFailure"),
            ErrorDetail::QuotaFailure(_) => beside.push("QuotaFailure"),
            ErrorDetail::RetryInfo(_) => beside.push("RetryInfo"),
            other => panic!("{name}: {other:?}"),
        }
    }
    beside.sort_unstable();
    assert_eq!(beside, details, "{name}");
    assert!(!status.message().is_empty(), "{name} has no message");
}

fn unknown(prefix: &str) -> String {
    format!("{prefix}-{:032x}", 0xbad)
}

/// A tool that has a defect.
struct Defect(Tool);

impl CallableTool for Defect {
    fn describe(&self) -> &Tool {
        &self.0
    }

    fn prepare(&self, _: &Arguments, _: &CallContext) -> Result<Work, Vec<ArgumentError>> {
        panic!("a defect, as the test wants it")
    }
}

fn defect() -> Arc<dyn CallableTool> {
    let schema = serde_json::json!({ "type": "object" });
    let (kind, source) = (ToolKind::BuiltIn, ToolSource::BuiltIn);
    Arc::new(Defect(Tool::new("defect", "Panics.", schema, kind, source)))
}

async fn of_names(server: &TestServer) -> Vec<Found> {
    let (session, id, follow_up) = (unknown("ses"), unknown("bg"), unknown("fu"));
    let call = |tool: &str| v1::RunToolRequest { tool: tool.into(), ..Default::default() };
    let in_session = v1::RunToolRequest { session_id: session.clone(), ..bash("true") };
    let get = v1::GetRequest { background_id: id.clone() };
    let get = soon("an answer", server.tasks.clone().get(get)).await.expect_err("unknown");
    let retry = v1::RetryFollowUpRequest { follow_up_id: follow_up.clone(), ..Default::default() };
    let retry = soon("an answer", server.tasks.clone().retry_follow_up(retry)).await;
    let turn = v1::RunTurnRequest { prompt: "?".into(), model: "m-1".into(), ..Default::default() };
    let turn = soon("an answer", server.tools.clone().run_turn(turn)).await.expect_err("unknown");
    let list = v1::ListRequest { page_token: "x".into(), ..Default::default() };
    let list = soon("an answer", server.tasks.clone().list(list)).await.expect_err("invalid");
    let defect = refusal(server, call("defect")).await;
    vec![
        found(Reason::InvalidField, refusal(server, call("")).await, &[]),
        found(Reason::ArgumentsInvalid, refusal(server, call("bash")).await, &[("tool", "bash")]),
        found(Reason::PageTokenInvalid, list, &[]),
        found(Reason::ToolNotFound, refusal(server, call("no")).await, &[("tool", "no")]),
        found(
            Reason::SessionNotFound,
            refusal(server, in_session).await,
            &[("session_id", &session)],
        ),
        found(Reason::TaskNotFound, get, &[("background_id", &id)]),
        found(
            Reason::FollowUpNotFound,
            retry.expect_err("unknown"),
            &[("follow_up_id", &follow_up)],
        ),
        found(Reason::ModelNotFound, turn, &[("model", "m-1")]),
        found(Reason::Internal, defect, &[]),
    ]
}

async fn of_states(server: &TestServer) -> Vec<Found> {
    let narrow =
        v1::CreateSessionRequest { allowed_tools: vec!["python".into()], ..Default::default() };
    let narrow = created(server, narrow).await.session_id;
    let within = |session: &str| v1::RunToolRequest { session_id: session.into(), ..bash("true") };
    let not_allowed = refusal(server, within(&narrow)).await;

    let id = request_id();
    run(server, v1::RunToolRequest { request_id: id.clone(), ..bash("true") }).await;
    let other = v1::RunToolRequest { request_id: id.clone(), ..bash("false") };
    let reused = refusal(server, other).await;

    let closed = new_session(server).await;
    close(server, &closed).await;
    let session_closed = refusal(server, within(&closed)).await;

    let one = v1::CreateSessionRequest { max_live_tasks: 1, ..Default::default() };
    let full = created(server, one).await.session_id;
    let live = task(server, &full, "sleep 300").await.background_id;
    let task_limit = refusal(server, within(&full)).await;
    let reject =
        v1::StartRequest { concurrency: v1::Concurrency::Reject.into(), ..start_of(&full, "true") };
    let busy = soon("an answer", server.tasks.clone().start(reject)).await.expect_err("busy");
    let delete = v1::DeleteRequest { background_id: live.clone(), ..Default::default() };
    let delete = soon("an answer", server.tasks.clone().delete(delete)).await;
    vec![
        found(Reason::ToolNotAllowed, not_allowed, &[("tool", "bash"), ("session_id", &narrow)]),
        found(Reason::RequestIdReused, reused, &[("request_id", &id)]),
        found(Reason::SessionClosed, session_closed, &[("session_id", &closed)]),
        found(Reason::TaskLimit, task_limit, &[("session_id", &full), ("limit", "1")]),
        found(Reason::SessionBusy, busy, &[("session_id", &full), ("live_tasks", "1")]),
        found(Reason::TaskRunning, delete.expect_err("running"), &[("background_id", &live)]),
    ]
}

async fn of_follow_ups(server: &TestServer) -> Vec<Found> {
    let session_id = new_session(server).await;
    let mut start = start_of(&session_id, "true");
    if let Some(v1::start_request::Work::ToolCall(call)) = &mut start.work {
        call.follow_up = v1::FollowUpPolicy::OnFinish.into();
    }
    let id = started(server, start).await.background_id.replace("bg-", "fu-");
    let lease =
        v1::LeaseFollowUpsRequest { session_id, wait: millis(20_000), ..Default::default() };
    let lease = soon("a lease", server.tasks.clone().lease_follow_ups(lease)).await;
    assert_eq!(lease.expect("an answer").into_inner().follow_ups.len(), 1);
    let retry = v1::RetryFollowUpRequest { follow_up_id: id.clone(), ..Default::default() };
    let retry = soon("an answer", server.tasks.clone().retry_follow_up(retry)).await;
    let stale = v1::AcknowledgeFollowUpRequest {
        follow_up_id: id.clone(),
        lease_token: "another".into(),
        ..Default::default()
    };
    let stale = soon("an answer", server.tasks.clone().acknowledge_follow_up(stale)).await;
    let state = ("state", "LEASED");
    vec![
        found(
            Reason::FollowUpNotDeadLettered,
            retry.expect_err("leased"),
            &[("follow_up_id", &id), state],
        ),
        found(Reason::LeaseExpired, stale.expect_err("stale"), &[("follow_up_id", &id)]),
    ]
}

async fn of_streams(server: &TestServer) -> Vec<Found> {
    let session_id = new_session(server).await;
    let epoch = session_now(server, &session_id).await.stream_epoch;
    let after = |sequence| v1::StreamSessionRequest {
        start_after_sequence: Some(sequence),
        ..replay_of(&session_id)
    };
    let ahead = stream_error(server, after(99)).await;
    let other = v1::StreamSessionRequest { stream_epoch: "another".into(), ..after(0) };
    let other = stream_error(server, other).await;
    let mut late = Request::new(stream_of(&session_id));
    late.set_timeout(std::time::Duration::from_secs(2));
    let (_, late) = Reader::send(server, late).await.rest().await;

    let trimmed = new_session(server).await;
    failing_calls(server, &trimmed, 340).await;
    let mut first = 1;
    while first == 1 {
        first = session_now(server, &trimmed).await.first_sequence;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let gone = v1::StreamSessionRequest {
        start_after_sequence: Some(1),
        on_gap: v1::OnGap::Fail.into(),
        ..replay_of(&trimmed)
    };
    let gone = stream_error(server, gone).await;
    vec![
        found(Reason::SequenceAhead, ahead, &[("sequence", "99"), ("head_sequence", "0")]),
        found(Reason::StreamEpochMismatch, other, &[("stream_epoch", &epoch)]),
        found(Reason::DeadlineExceeded, late.expect("an error"), &[]),
        found(
            Reason::SequenceTrimmed,
            gone,
            &[("sequence", "1"), ("first_sequence", &first.to_string())],
        ),
    ]
}

/// Errors that the library below finds, before there is a request.
async fn of_transport(server: &TestServer) -> Vec<Found> {
    let get = "BackgroundTasks/Get";
    let channel = &server.channel;
    let missing = first_answer(channel, get, Request::new(Bytes::new())).await;
    let mut wrong = Request::new(Bytes::new());
    wrong.metadata_mut().insert("authorization", "Bearer wrong".parse().expect("a header"));
    let wrong = first_answer(channel, get, wrong).await;
    let malformed = with_token(server, Bytes::from_static(b"\xff"));
    let malformed = first_answer(channel, get, malformed).await;
    let mut encoded = with_token(server, Bytes::from_static(b"\x0a\x00"));
    encoded.metadata_mut().insert("grpc-encoding", "br".parse().expect("a header"));
    let encoded = first_answer(channel, get, encoded).await;
    let large = v1::RunToolRequest { dry_run: true, ..bash(&"#".repeat(70_000)) }.encode_to_vec();
    let size = large.len().to_string();
    let large = first_answer(channel, "ToolRunner/RunTool", with_token(server, large.into())).await;
    let sizes = [("limit_bytes", "65536"), ("size_bytes", size.as_str())];
    let mut all = vec![
        found(Reason::CredentialsMissing, missing.expect_err("no token"), &[]),
        found(Reason::CredentialsInvalid, wrong.expect_err("a wrong token"), &[]),
        found(Reason::MalformedMessage, malformed.expect_err("no message"), &[]),
        found(Reason::UnsupportedEncoding, encoded.expect_err("unknown"), &[]),
        found(Reason::MessageTooLarge, large.expect_err("too large"), &sizes),
    ];
    for path in ["callpark.v1.ToolRunner/Nothing", "callpark.v1.Nothing/Get"] {
        let status = match send(channel, path, with_token(server, Bytes::new())).await {
            Err(status) => status,
            Ok(answer) => answer.into_inner().message().await.expect_err("an error"),
        };
        all.push(found(Reason::UnknownMethod, status, &[("method", path)]));
    }
    all
}

async fn of_a_stop() -> Vec<Found> {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    let id = task(&server, &session_id, "sleep 300").await.background_id;
    let mut reader = Reader::open(&server, stream_of(&session_id)).await;
    reader.snapshot().await;
    server.begin_stop();
    let (_, draining) = reader.rest().await;
    let server = server.restart().await;
    let lost = match task_now(&server, &id).await.outcome {
        Some(v1::task::Outcome::Error(error)) => error,
        other => panic!("not lost but {other:?}"),
    };
    let details = lost.encode_to_vec().into();
    let lost = Status::with_details(Code::from_i32(lost.code), lost.message, details);
    vec![
        found(Reason::Draining, draining.expect("an error"), &[]),
        found(Reason::ServerLost, lost, &[]),
    ]
}

#[tokio::test]
async fn every_reason_has_the_code_the_metadata_and_the_details_of_the_contract() {
    let bounds = [("session-events-max", "1000"), ("sweep-interval", "100ms")];
    let small = TestServer::with_config(MISSING_TOOL, &bounds).await;
    let tools = vec![defect()];
    let server = TestServer::with_tools_and(tools, &[("max-request", "64KiB")]).await;
    // One after the other: a machine that is busy with all of them misses the deadline of one.
    let mut all = of_names(&server).await;
    all.extend(of_states(&server).await);
    all.extend(of_follow_ups(&server).await);
    all.extend(of_transport(&server).await);
    all.extend(of_streams(&small).await);
    all.extend(of_a_stop().await);
    let mut reached: BTreeMap<i32, usize> = BTreeMap::new();
    for found in all {
        *reached.entry(found.reason.into()).or_default() += 1;
        check(found);
    }
    for reason in (0..1_000).filter_map(|number| Reason::try_from(number).ok()) {
        let is_reached = reached.contains_key(&i32::from(reason));
        match proof(reason) {
            Proof::Here(..) => assert!(is_reached, "no request gets {}", reason.as_str_name()),
            Proof::Elsewhere(why) => {
                assert!(!is_reached && !why.is_empty(), "{}", reason.as_str_name());
            }
        }
    }
}
