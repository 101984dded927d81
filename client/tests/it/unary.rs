//! Calls with one answer.

use std::{sync::Arc, time::Duration};

use callpark_client::{
    Client, ClientOptions, Code, Origin, Reason, RetryBudget, RunOutcome, RunTool, RunTurn,
    TlsOptions, TokenSource, v1,
};
use callpark_proto::v1::{run_tool_response::Outcome, start_request::Work};
use tokio::time::Instant;
use tonic::Status;
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use crate::{
    fake::{Fake, Play},
    story::{Noted, Notes, other, refusal, seconds, unavailable},
};

fn start() -> v1::StartRequest {
    RunTool::new("build").session_id("ses-1").into()
}

fn id_of(request: &v1::StartRequest) -> &str {
    match request.work.as_ref().unwrap() {
        Work::ToolCall(call) => &call.request_id,
        Work::Turn(turn) => &turn.request_id,
    }
}

fn run() -> RunTool {
    RunTool::new("build")
}

#[tokio::test(start_paused = true)]
async fn a_start_without_an_answer_is_sent_again_with_the_same_id() {
    let fake = Fake::start();
    let started = v1::StartResponse { replayed: true, ..Default::default() };
    fake.start.plays([Play::Cut, Play::Cut, Play::Answer(started)]);
    let answer = fake.client().tasks().start(start()).await.unwrap();
    assert!(answer.replayed);

    let asked = fake.start.requests();
    assert_eq!(asked.len(), 3);
    assert_eq!(uuid::Uuid::parse_str(id_of(&asked[0])).unwrap().get_version_num(), 4);
    assert!(asked.iter().all(|request| request == &asked[0]));
}

#[tokio::test(start_paused = true)]
async fn requests_about_follow_ups_are_sent_again_with_the_same_id() {
    let fake = Fake::start();
    let client = fake.client();
    fake.list_follow_ups.plays([Play::Cut, Play::Answer(Default::default())]);
    client.follow_ups().list(v1::ListFollowUpsRequest::default()).await.unwrap();

    fake.lease_follow_ups.plays([Play::Cut, Play::Answer(Default::default())]);
    client.follow_ups().lease(v1::LeaseFollowUpsRequest::default()).await.unwrap();
    let asked = fake.lease_follow_ups.requests();
    assert!(!asked[0].request_id.is_empty() && asked[0] == asked[1]);

    fake.acknowledge_follow_up.plays([Play::Cut, Play::Answer(Default::default())]);
    client.follow_ups().acknowledge(v1::AcknowledgeFollowUpRequest::default()).await.unwrap();
    let asked = fake.acknowledge_follow_up.requests();
    assert!(!asked[0].request_id.is_empty() && asked[0] == asked[1]);

    fake.retry_follow_up.plays([Play::Cut, Play::Answer(Default::default())]);
    client.follow_ups().retry(v1::RetryFollowUpRequest::default()).await.unwrap();
    let asked = fake.retry_follow_up.requests();
    assert!(!asked[0].request_id.is_empty() && asked[0] == asked[1]);
}

#[tokio::test(start_paused = true)]
async fn an_id_of_the_caller_is_kept_and_two_requests_have_two_ids() {
    let fake = Fake::start();
    fake.start.plays((0..3).map(|_| Play::Answer(v1::StartResponse::default())));
    let client = fake.client();
    client.tasks().start(RunTurn::new("well?").request_id("mine")).await.unwrap();
    client.tasks().start(RunTurn::new("well?")).await.unwrap();
    client.tasks().start(start()).await.unwrap();
    let asked = fake.start.requests();
    let ids: Vec<_> = asked.iter().map(id_of).collect();
    assert_eq!(ids[0], "mine");
    assert!(!ids[1].is_empty() && !ids[2].is_empty());
    assert_ne!(ids[1], ids[2]);
}

#[test]
fn a_start_in_the_background_has_no_settings_for_a_caller_that_waits() {
    let call = RunTool::new("build").session_id("ses-1").dry_run().label("job", "7");
    let waits = call.clone().call_budget(seconds(3)).on_disconnect(v1::OnDisconnect::Cancel);
    let work = Some(Work::ToolCall(call.into()));
    assert_eq!(v1::StartRequest::from(waits), v1::StartRequest { work, ..Default::default() });

    let turn = RunTurn::new("well?").busy_policy(v1::BusyPolicy::Enqueue).detached();
    let waits = turn.clone().call_budget(seconds(3)).on_disconnect(v1::OnDisconnect::Cancel);
    let work = Some(Work::Turn(turn.into()));
    assert_eq!(v1::StartRequest::from(waits), v1::StartRequest { work, ..Default::default() });
}

#[tokio::test(start_paused = true)]
async fn the_delay_of_the_server_is_observed_and_reported() {
    let fake = Fake::start();
    let away = refusal(Code::Unavailable, Reason::Draining, Some(seconds(33)));
    fake.list_tools.plays([Play::Fail(away), Play::Answer(v1::ListToolsResponse::default())]);
    let notes = Notes::default();
    let began = Instant::now();
    fake.client().with_on_retry(notes.taker()).tools().list().await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 33);
    let noted = Noted {
        attempts: 1,
        budget: Some(RetryBudget::Start),
        delay: seconds(33),
        after_sequence: None,
    };
    assert_eq!(notes.taken(), [noted]);
}

#[tokio::test(start_paused = true)]
async fn five_attempts_and_no_more() {
    let fake = Fake::start();
    fake.list_tools.plays((0..9).map(|_| Play::Fail(unavailable())));
    let notes = Notes::default();
    let client = fake.client().with_on_retry(notes.taker());
    let error = client.tools().list().await.unwrap_err();
    assert_eq!(
        (error.code(), error.reason()),
        (Code::Unavailable, Some(&Reason::StoreUnavailable))
    );
    assert_eq!((error.origin(), error.attempts()), (Origin::Server, 5));
    assert!(error.retryable());
    assert_eq!(fake.list_tools.requests().len(), 5);
    for (delay, most) in notes.delays().into_iter().zip([100, 200, 400, 800]) {
        assert!(delay <= Duration::from_millis(most), "{delay:?}");
    }
    assert_eq!(
        error.to_string(),
        "ToolRunner.ListTools: as scripted (UNAVAILABLE, STORE_UNAVAILABLE, 5 attempts). Try again \
         later."
    );
}

#[tokio::test(start_paused = true)]
async fn a_refused_connection_is_retried() {
    let fake = Fake::start();
    fake.refuse(3);
    fake.list_tools.plays([Play::Answer(v1::ListToolsResponse::default())]);
    fake.client().tools().list().await.unwrap();

    fake.refuse(5);
    let error = fake.client().tools().list().await.unwrap_err();
    assert_eq!((error.origin(), error.code()), (Origin::Transport, Code::Unavailable));
    assert_eq!(error.attempts(), 5);
    assert!(std::error::Error::source(&error).is_some());
}

#[tokio::test(start_paused = true)]
async fn no_other_code_is_ever_retried() {
    for code in (1..=16).map(Code::from_i32).filter(|code| *code != Code::Unavailable) {
        let fake = Fake::start();
        fake.start.plays([Play::Fail(refusal(code, other("SOME_REASON"), Some(seconds(1))))]);
        let error = fake.client().tasks().start(start()).await.unwrap_err();
        assert_eq!((error.code(), error.reason()), (code, Some(&other("SOME_REASON"))));
        assert_eq!((error.attempts(), fake.start.requests().len()), (1, 1), "{code:?}");
        assert_eq!(error.retry_delay(), Some(seconds(1)));
        assert!(error.retryable(), "the caller may send it again after the delay");
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_covers_all_attempts_and_is_sent() {
    let fake = Fake::start();
    let away = || refusal(Code::Unavailable, Reason::NotOwner, Some(seconds(4)));
    fake.list_tools.plays([Play::Fail(away()), Play::Fail(away()), Play::Fail(away())]);
    let client = fake.client().with_deadline(seconds(10));
    let began = Instant::now();
    let error = client.tools().list().await.unwrap_err();
    assert_eq!(error.reason(), Some(&Reason::NotOwner), "the last error, not the deadline");
    assert_eq!((error.attempts(), began.elapsed().as_secs()), (3, 8));

    let left: Vec<_> = fake
        .list_tools
        .asked()
        .iter()
        .map(|asked| asked.metadata.get("grpc-timeout").unwrap().to_str().unwrap().to_owned())
        .map(|left| left.trim_end_matches(char::is_alphabetic).parse::<f64>().unwrap())
        .collect();
    let unit = left[0] / 10.0;
    for (left, expected) in left.iter().zip([10.0, 6.0, 2.0]) {
        assert!((left / unit - expected).abs() < 0.1, "{left} of {expected}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_the_call_ends_at_the_deadline() {
    let fake = Fake::start();
    fake.list_tools.plays([Play::Never]);
    let began = Instant::now();
    let client = fake.client_with(ClientOptions::default().with_deadline(seconds(3)));
    let error = client.tools().list().await.unwrap_err();
    assert_eq!((error.origin(), error.code()), (Origin::Deadline, Code::DeadlineExceeded));
    assert_eq!((error.attempts(), began.elapsed().as_secs()), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn without_a_deadline_none_is_sent() {
    let fake = Fake::start();
    fake.list_tools.plays([Play::Answer(v1::ListToolsResponse::default())]);
    fake.client().with_deadline(seconds(1)).without_deadline().tools().list().await.unwrap();
    assert!(fake.list_tools.asked()[0].metadata.get("grpc-timeout").is_none());
}

/// In real time: a process runs.
#[tokio::test]
async fn a_refused_token_makes_its_command_run_once_more() {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path().join("runs");
    let script = format!("echo run >> {0}; echo token-$(wc -l < {0})", runs.display());
    let token =
        TokenSource::Command { program: "/bin/sh".into(), args: vec!["-c".to_owned(), script] };
    let refused = || Play::Fail(refusal(Code::Unauthenticated, Reason::CredentialsInvalid, None));
    let fake = Fake::start();
    fake.list_tools.plays([refused(), Play::Answer(v1::ListToolsResponse::default())]);
    fake.list_tools.plays([refused(), refused()]);
    let client = fake.client_with(ClientOptions::default().with_token(token));

    client.tools().list().await.unwrap();
    let error = client.tools().list().await.unwrap_err();
    assert_eq!((error.code(), error.attempts()), (Code::Unauthenticated, 2));
    let sent: Vec<_> = fake
        .list_tools
        .asked()
        .iter()
        .map(|asked| asked.metadata.get("authorization").unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(sent, ["Bearer token-1", "Bearer token-2", "Bearer token-2", "Bearer token-3"]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_that_cannot_change_is_refused_once() {
    let fake = Fake::start();
    fake.list_tools.plays([Play::Fail(refusal(
        Code::Unauthenticated,
        Reason::CredentialsInvalid,
        None,
    ))]);
    let token = TokenSource::Value("t0ken".into());
    let client = fake.client_with(ClientOptions::default().with_token(token));
    let error = client.tools().list().await.unwrap_err();
    assert_eq!((error.reason(), error.attempts()), (Some(&Reason::CredentialsInvalid), 1));
}

/// In real time: a file is read.
#[tokio::test]
async fn without_a_token_nothing_is_sent() {
    let fake = Fake::start();
    let token = TokenSource::File("/nowhere/at/all".into());
    let client = fake.client_with(ClientOptions::default().with_token(token));
    let error = client.tools().list().await.unwrap_err();
    assert_eq!((error.origin(), error.code()), (Origin::Token, Code::Unauthenticated));
    assert_eq!(error.attempts(), 0);
    assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
    assert!(fake.list_tools.requests().is_empty());
}

#[tokio::test(start_paused = true)]
async fn details_are_typed() {
    let mut details = ErrorDetails::new();
    let metadata = [("background_id".to_owned(), "bg-1".to_owned())];
    details.set_error_info("TASK_NOT_FOUND", "callpark", metadata);
    details.set_resource_info("task", "bg-1", "", "it may have expired or never existed");
    let mut violation = FieldViolation::new("background_id", "is unknown");
    violation.reason = "UNKNOWN_VALUE".to_owned();
    details.set_bad_request(vec![violation]);
    details.add_precondition_failure_violation("TASK_RUNNING", "bg-1", "is still running");
    details.set_request_info("req-7", "");
    let status = Status::with_error_details(Code::NotFound, "no such task", details);
    let fake = Fake::start();
    fake.get.plays([Play::Fail(status)]);
    let error = fake.client().tasks().handle("bg-1").get().await.unwrap_err();
    assert_eq!((error.rpc(), error.reason()), ("BackgroundTasks.Get", Some(&Reason::TaskNotFound)));
    assert_eq!(error.resource().unwrap().name, "bg-1");
    let violation = &error.field_violations()[0];
    assert_eq!(
        (violation.subject.as_str(), violation.reason.as_str()),
        ("background_id", "UNKNOWN_VALUE")
    );
    assert_eq!(error.details().preconditions[0].reason, "TASK_RUNNING");
    assert_eq!(error.metadata("background_id"), Some("bg-1"));
    assert_eq!(error.metadata("tool"), None);
    assert_eq!(error.details().request_id, "req-7");
    assert!(!error.retryable());
    assert_eq!(
        error.to_string(),
        "BackgroundTasks.Get: no such task (NOT_FOUND, TASK_NOT_FOUND); background_id: is unknown; \
         bg-1: is still running; task bg-1. Check the id; the record may have expired. The server's log lists the request \
         as req-7."
    );
}

#[tokio::test(start_paused = true)]
async fn a_tool_is_run_to_its_result_or_parked() {
    let answer = |outcome| v1::RunToolResponse {
        session_id: "ses-1".to_owned(),
        call_id: "call-1".to_owned(),
        outcome,
        ..Default::default()
    };
    let failed = v1::ToolResult { is_error: true, ..Default::default() };
    let parked = v1::ParkedCall { background_id: "bg-1".to_owned(), ..Default::default() };
    let fake = Fake::start();
    fake.run_tool.plays([
        Play::Answer(answer(Some(Outcome::Result(failed.clone())))),
        Play::Answer(answer(Some(Outcome::Parked(parked.clone())))),
        Play::Answer(v1::RunToolResponse { dry_run: true, ..Default::default() }),
        Play::Answer(answer(None)),
    ]);
    let client = fake.client();
    let RunOutcome::Finished(call) = client.tools().run(run()).await.unwrap() else { panic!() };
    assert_eq!((call.call_id.as_str(), &call.result), ("call-1", &failed));
    let RunOutcome::Parked(call) = client.tools().run(run()).await.unwrap() else { panic!() };
    assert_eq!((call.background_id(), call.notice()), ("bg-1", Some(&parked)));
    assert_eq!((call.session_id(), call.call_id()), (Some("ses-1"), Some("call-1")));
    assert!(matches!(client.tools().run(run()).await.unwrap(), RunOutcome::Checked(_)));
    assert_eq!(client.tools().run(run()).await.unwrap_err().origin(), Origin::Answer);
}

#[tokio::test(start_paused = true)]
async fn invalid_options_are_refused_by_name() {
    for (endpoint, problem) in [
        ("127.0.0.1:50051", "must begin with http:"),
        ("http://a b", "is not a valid address"),
        ("ftp://host", "must begin with http:"),
    ] {
        let error = Client::new(ClientOptions::new(endpoint)).unwrap_err();
        assert_eq!(error.origin(), Origin::Options);
        let text = error.to_string();
        assert!(text.contains(problem) && text.contains(endpoint), "{text}");
    }
    let tls = TlsOptions::new().with_ca_file("/nowhere/ca.pem");
    let mut options = ClientOptions::default().with_tls(tls);
    assert!(Client::new(options.clone()).is_err(), "certificates without https");
    options.endpoints = vec!["https://localhost".to_owned()];
    let text = Client::new(options).unwrap_err().to_string();
    assert!(text.contains("/nowhere/ca.pem"), "{text}");

    let empty = tempfile::NamedTempFile::new().unwrap();
    let tls = TlsOptions::new().with_ca_file(empty.path());
    let options = ClientOptions::new("https://localhost").with_tls(tls);
    let text = Client::new(options).unwrap_err().to_string();
    assert!(text.contains("contains no certificate"), "{text}");
}

#[test]
fn a_client_is_created_without_a_runtime_and_shared() {
    fn check_shared<T: Clone + Send + Sync + 'static>(_: T) {}
    let options = ClientOptions::default().with_on_retry(Arc::new(|_| {}));
    check_shared(Client::new(options).unwrap());
}
