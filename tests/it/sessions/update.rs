//! UpdateSession: the settings of a session change while it lives.

use prost_types::FieldMask;
use serde_json::json;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{UNKNOWN, labels};
use crate::support::streams::{
    Reader, close, created, log_of, new_session, run, session_now, stream_of,
};
use crate::support::waiting::{refusal, time};
use crate::support::wire::bad_fields;
use crate::support::{TestServer, bash, check_reason, python, request_id, soon, v1};
use crate::turns::{Endpoint, config, prompt, says, turn};
use v1::session_event::Payload;

/// A request that sets these fields.
fn update_of(session: &v1::Session, paths: &[&str]) -> v1::UpdateSessionRequest {
    v1::UpdateSessionRequest {
        session: Some(session.clone()),
        update_mask: Some(FieldMask { paths: paths.iter().map(|path| (*path).into()).collect() }),
        request_id: String::new(),
    }
}

async fn send(
    server: &TestServer,
    request: v1::UpdateSessionRequest,
) -> Result<v1::UpdateSessionResponse, Status> {
    let answer = soon("an update", server.tools.clone().update_session(request)).await;
    answer.map(tonic::Response::into_inner)
}

/// Sets these fields; the session after it.
async fn update(server: &TestServer, session: &v1::Session, paths: &[&str]) -> v1::Session {
    let answer = send(server, update_of(session, paths)).await.expect("updated");
    assert!(!answer.replayed);
    answer.session.expect("a session")
}

/// A session of which every setting has been set.
fn set(session_id: &str) -> v1::Session {
    v1::Session {
        session_id: session_id.into(),
        description: "fix the tests".into(),
        labels: labels(&[("team", "apps")]),
        allowed_tools: vec!["bash".into()],
        model: "other".into(),
        system_message: "Be thorough.".into(),
        max_rounds: 9,
        max_live_tasks: 5,
        task_limit_policy: v1::TaskLimitPolicy::EvictOldest.into(),
        follow_up: v1::FollowUpPolicy::OnFailure.into(),
        budget: Some(v1::Budget { max_cost_usd: 0.5, max_tokens: 1_000 }),
        ..Default::default()
    }
}

/// Copies the field of this path, as an update does.
fn copy(path: &str, from: &v1::Session, to: &mut v1::Session) {
    let from = from.clone();
    match path {
        "description" => to.description = from.description,
        "labels" => to.labels = from.labels,
        "allowed_tools" => to.allowed_tools = from.allowed_tools,
        "model" => to.model = from.model,
        "system_message" => to.system_message = from.system_message,
        "max_rounds" => to.max_rounds = from.max_rounds,
        "max_live_tasks" => to.max_live_tasks = from.max_live_tasks,
        "task_limit_policy" => to.task_limit_policy = from.task_limit_policy,
        "follow_up" => to.follow_up = from.follow_up,
        "budget" => to.budget = from.budget,
        other => panic!("no setting: {other}"),
    }
}

const PATHS: [&str; 10] = [
    "description",
    "labels",
    "allowed_tools",
    "model",
    "system_message",
    "max_rounds",
    "max_live_tasks",
    "task_limit_policy",
    "follow_up",
    "budget",
];

#[tokio::test]
async fn each_field_of_the_mask_is_set_and_no_other() {
    let server = TestServer::start().await;
    let request = v1::CreateSessionRequest {
        description: "fix the build".into(),
        labels: labels(&[("team", "infra")]),
        system_message: "Be brief.".into(),
        ..Default::default()
    };
    let mut expected = created(&server, request).await;
    let settings = set(&expected.session_id);
    for (number, path) in (1..).zip(PATHS) {
        let updated = update(&server, &settings, &[path]).await;
        copy(path, &settings, &mut expected);
        assert!(time(&updated.update_time) > time(&expected.update_time), "{path}");
        expected.update_time = updated.update_time;
        expected.head_sequence = number;
        assert_eq!(updated, expected, "{path}");
        assert_eq!(session_now(&server, &expected.session_id).await, expected, "{path}");
    }
    let server = server.restart().await;
    assert_eq!(session_now(&server, &expected.session_id).await, expected);
    // Fields that are not set take their defaults.
    let empty = v1::Session { session_id: expected.session_id.clone(), ..Default::default() };
    let cleared = update(&server, &empty, &PATHS).await;
    for path in PATHS {
        copy(path, &empty, &mut expected);
    }
    expected.max_live_tasks = 32;
    expected.task_limit_policy = v1::TaskLimitPolicy::Reject.into();
    expected.follow_up = v1::FollowUpPolicy::OnFinish.into();
    expected.update_time = cleared.update_time;
    expected.head_sequence += 1;
    assert_eq!(cleared, expected);
}

#[tokio::test]
async fn an_update_is_an_event_that_live_streams_see() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    let mut all = Reader::open(&server, stream_of(&session_id)).await;
    let filter = v1::StreamSessionRequest {
        payloads: vec![v1::PayloadKind::SessionUpdated.into()],
        ..stream_of(&session_id)
    };
    let mut filtered = Reader::open(&server, filter).await;
    all.until_caught_up().await;
    filtered.until_caught_up().await;
    run(&server, &session_id, "true").await;
    update(&server, &set(&session_id), &["model", "description"]).await;
    let is_update =
        |event: &v1::SessionEvent| matches!(event.payload, Some(Payload::SessionUpdated(_)));
    let of_all = all.until_event(is_update).await;
    let of_filtered = filtered.until_event(is_update).await;
    let [event] = &of_filtered[..] else { panic!("{of_filtered:?}") };
    assert_eq!(of_all.last(), Some(event));
    assert_eq!((event.turn_id.as_str(), event.call_id.as_str(), event.attempt), ("", "", 0));
    let Some(Payload::SessionUpdated(updated)) = &event.payload else { panic!("{event:?}") };
    let mut paths = updated.update_paths.clone();
    paths.sort();
    assert_eq!(paths, ["description", "model"]);
    assert!(!updated.requested_by.is_empty());
    assert_eq!(log_of(&server, &session_id).await.last(), Some(event));
}

#[tokio::test]
async fn an_update_that_cannot_be_made_changes_nothing() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    let before = session_now(&server, &session_id).await;
    let settings = set(&session_id);
    let negative = v1::Session { max_rounds: -1, max_live_tasks: 1_001, ..settings.clone() };
    let policy = v1::Session { follow_up: 99, ..settings.clone() };
    let masks = [
        (update_of(&settings, &[]), vec!["update_mask"]),
        (
            v1::UpdateSessionRequest { update_mask: None, ..update_of(&settings, &[]) },
            vec!["update_mask"],
        ),
        (update_of(&settings, &["description", "state"]), vec!["update_mask"]),
        (update_of(&settings, &["working_directory"]), vec!["update_mask"]),
        (update_of(&settings, &["*"]), vec!["update_mask"]),
        (update_of(&v1::Session::default(), &["model"]), vec!["session.session_id"]),
        (
            update_of(&negative, &["max_rounds", "max_live_tasks"]),
            vec!["session.max_rounds", "session.max_live_tasks"],
        ),
        (update_of(&policy, &["follow_up"]), vec!["session.follow_up"]),
    ];
    for (request, fields) in masks {
        let status = send(&server, request).await.expect_err("refused");
        check_reason(&status, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(bad_fields(&status), fields, "{status:?}");
    }
    let absent = v1::Session { allowed_tools: vec!["absent".into()], ..settings.clone() };
    let status = send(&server, update_of(&absent, &["description", "allowed_tools"])).await;
    check_reason(&status.expect_err("refused"), Code::NotFound, "TOOL_NOT_FOUND");
    let status = send(&server, update_of(&set(UNKNOWN), &["model"])).await;
    check_reason(&status.expect_err("refused"), Code::NotFound, "SESSION_NOT_FOUND");
    // A field that is not in the mask is not read.
    let mut description = settings;
    description.max_rounds = -1;
    assert_eq!(session_now(&server, &session_id).await, before);
    let updated = update(&server, &description, &["description"]).await;
    assert_eq!(updated.max_rounds, 0);
    close(&server, &session_id).await;
    let closed = session_now(&server, &session_id).await;
    let status = send(&server, update_of(&set(&session_id), &["model"])).await;
    check_reason(&status.expect_err("refused"), Code::FailedPrecondition, "SESSION_CLOSED");
    assert_eq!(session_now(&server, &session_id).await, closed);
}

#[tokio::test]
async fn an_update_that_is_sent_again_is_made_once() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    let settings = set(&session_id);
    let request =
        v1::UpdateSessionRequest { request_id: request_id(), ..update_of(&settings, &["model"]) };
    let first = send(&server, request.clone()).await.expect("updated");
    assert!(!first.replayed);
    let second = v1::Session { model: "newer".into(), ..settings.clone() };
    update(&server, &second, &["model"]).await;
    let again = send(&server, request.clone()).await.expect("an answer");
    assert!(again.replayed);
    assert_eq!(again.session.expect("a session").model, "newer", "it was not made again");
    let log = log_of(&server, &session_id).await;
    assert_eq!(log.len(), 2, "{log:?}");
    let other = v1::UpdateSessionRequest { session: Some(second), ..request.clone() };
    let status = send(&server, other).await.expect_err("refused");
    check_reason(&status, Code::AlreadyExists, "REQUEST_ID_REUSED");
    let server = server.restart().await;
    assert!(send(&server, request).await.expect("an answer").replayed);
    assert_eq!(session_now(&server, &session_id).await.model, "newer");
}

#[tokio::test]
async fn a_tool_that_is_no_longer_allowed_is_refused() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    run(&server, &session_id, "true").await;
    let only = v1::Session { allowed_tools: vec!["python".into()], ..set(&session_id) };
    update(&server, &only, &["allowed_tools"]).await;
    let call = v1::RunToolRequest { session_id: session_id.clone(), ..bash("true") };
    let status = refusal(&server, call.clone()).await;
    check_reason(&status, Code::PermissionDenied, "TOOL_NOT_ALLOWED");
    let metadata = status.get_details_error_info().expect("a reason").metadata;
    let expected = [("tool", "bash"), ("session_id", &session_id)];
    assert_eq!(metadata, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    let other = v1::RunToolRequest { session_id: session_id.clone(), ..python("print(1)") };
    assert!(server.tools.clone().run_tool(other).await.is_ok());
    let tools = v1::ListToolsRequest { session_id: session_id.clone(), ..Default::default() };
    let listed = server.tools.clone().list_tools(tools).await.expect("a list").into_inner().tools;
    assert_eq!(listed.iter().map(|tool| tool.name.as_str()).collect::<Vec<_>>(), ["python"]);
    let all = v1::Session { allowed_tools: vec![], ..only };
    update(&server, &all, &["allowed_tools"]).await;
    assert!(server.tools.clone().run_tool(call).await.is_ok());
}

/// The names of the tools that a request to the model offers.
fn offered(request: &serde_json::Value) -> Vec<&str> {
    let tools = request["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
    tools.iter().filter_map(|tool| tool["function"]["name"].as_str()).collect()
}

#[tokio::test]
async fn the_next_turn_has_the_new_settings() {
    let (first, second) =
        (Endpoint::new(vec![says("1")]).await, Endpoint::new(vec![says("2")]).await);
    let more =
        format!("[[models]]\nname = 'other'\nendpoint = '{}'\nmodel = 'fake-2'\n", second.url);
    let server = TestServer::with_config(&config(&first, &more), &[]).await;
    let request =
        v1::CreateSessionRequest { system_message: "Be brief.".into(), ..Default::default() };
    let session_id = created(&server, request).await.session_id;
    turn(&server, prompt(&session_id, "first")).await;
    let before = &first.requests()[0];
    assert!(offered(before).contains(&"python"), "{before}");
    assert!(before["messages"][0]["content"].as_str().expect("text").contains("Be brief."));
    update(&server, &set(&session_id), &["model", "system_message", "allowed_tools"]).await;
    assert_eq!(turn(&server, prompt(&session_id, "second")).await.final_text, "2");
    assert_eq!((first.requests().len(), second.requests().len()), (1, 1));
    let after = &second.requests()[0];
    assert_eq!(after["model"], json!("fake-2"));
    assert!(offered(after).contains(&"bash") && !offered(after).contains(&"python"), "{after}");
    let system = after["messages"][0]["content"].as_str().expect("text");
    assert!(system.contains("Be thorough.") && !system.contains("Be brief."), "{system}");
    let absent = v1::Session { model: "absent".into(), ..set(&session_id) };
    update(&server, &absent, &["model"]).await;
    let status = server.tools.clone().run_turn(prompt(&session_id, "3")).await;
    check_reason(&status.expect_err("refused"), Code::NotFound, "MODEL_NOT_FOUND");
}

#[tokio::test]
async fn a_lower_limit_of_tasks_applies_to_new_ones() {
    use crate::support::streams::{Gate, ended, start_of, task, task_now};
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    let gate = Gate::new(&server, "limit");
    let tasks = [
        task(&server, &session_id, &gate.command()).await,
        task(&server, &session_id, &gate.command()).await,
    ];
    let one = v1::Session { max_live_tasks: 1, ..set(&session_id) };
    update(&server, &one, &["max_live_tasks"]).await;
    for task in &tasks {
        let state = task_now(&server, &task.background_id).await.state();
        assert_eq!(state, v1::State::Running, "it keeps running");
    }
    let status = server.tasks.clone().start(start_of(&session_id, "true")).await;
    check_reason(&status.expect_err("refused"), Code::ResourceExhausted, "TASK_LIMIT");
    gate.open();
    for task in &tasks {
        ended(&server, &task.background_id).await;
    }
    task(&server, &session_id, "true").await;
}
