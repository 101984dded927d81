//! The log of operations: one line each, with ids and reasons, and nothing that callers or tools write.

use callpark_proto::v1;
use serde_json::{Value, json};

use super::give_up;
use crate::support::program::{Clients, Program, Site};
use crate::support::{bash, millis, soon};
use crate::turns::{Endpoint, FinishedTurn, Piece, Script, calls, config, prompt};

const SECRET: &str = "hunter2-is-a-secret";

/// The lines of the log that have this message, in order.
fn lines(server: &Program, message: &str) -> Vec<Value> {
    let log = server.live.stderr.now();
    // The last line may not be complete.
    let parsed = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let fields = parsed.map(|line| line["fields"].clone());
    fields.filter(|fields| fields["message"] == message).collect()
}

/// Waits for the line of this message about a call, and returns it.
async fn line(server: &mut Program, message: &str, background_id: &str) -> Value {
    let call = background_id.replacen("bg-", "call-", 1);
    loop {
        let read = server.live.stderr.now().len();
        let mut found = lines(server, message);
        found.retain(|fields| fields["call"] == call.as_str());
        if !found.is_empty() {
            assert_eq!(found.len(), 1, "{message} {background_id}: {found:?}");
            return found.remove(0);
        }
        server.live.stderr.bytes(read + 1).await;
    }
}

async fn created(clients: &Clients, request: v1::CreateSessionRequest) -> String {
    let session = clients.tools.clone().create_session(request).await.expect("a session");
    session.into_inner().session.expect("a session").session_id
}

async fn new_session(clients: &Clients) -> String {
    created(clients, v1::CreateSessionRequest::default()).await
}

async fn start(clients: &Clients, session_id: &str, command: &str) -> String {
    let description = format!("describes {SECRET}");
    let call = v1::RunToolRequest { session_id: session_id.into(), description, ..bash(command) };
    start_call(clients, call).await
}

async fn start_call(clients: &Clients, call: v1::RunToolRequest) -> String {
    let work = Some(v1::start_request::Work::ToolCall(call));
    let request = v1::StartRequest { work, ..Default::default() };
    let answer = clients.tasks.clone().start(request).await.expect("a task").into_inner();
    answer.task.expect("a task").background_id
}

#[tokio::test]
async fn each_operation_is_one_line_without_words_of_others() {
    let site = Site::new();
    let mut server = site.serve(&["--log-format", "json"]).await;
    let clients = server.connect();
    let request = v1::CreateSessionRequest {
        max_live_tasks: 1,
        task_limit_policy: v1::TaskLimitPolicy::EvictOldest.into(),
        ..Default::default()
    };
    let session = created(&clients, request).await;

    let sleep = format!("echo {SECRET}; sleep 60");
    let evicted = start(&clients, &session, &sleep).await;
    let parked = line(&mut server, "a call was parked", &evicted).await;
    assert_eq!(parked["session"], session.as_str());
    assert_eq!((&parked["tenant"], &parked["tool"]), (&"local".into(), &"bash".into()));
    assert_eq!(parked["reason"], "background_start");
    assert!(parked["elapsed_millis"].is_u64(), "{parked}");

    let cancelled = start(&clients, &session, &sleep).await;
    assert_eq!(line(&mut server, "a call was evicted", &evicted).await["reason"], "evicted");
    let ended = line(&mut server, "a call ended", &evicted).await;
    assert_eq!((&ended["state"], &ended["reason"]), (&"cancelled".into(), &"evicted".into()));

    let reason = format!("because of {SECRET}");
    server.cli(&["cancel", "--reason", &reason, &cancelled]).await.exits(0);
    let line_of_cancel = line(&mut server, "a call was cancelled", &cancelled).await;
    assert_eq!(line_of_cancel["reason"], "request");
    assert_eq!(
        line(&mut server, "a call ended", &cancelled).await["reason"],
        "cancelled_by_request"
    );

    let failed = start(&clients, &session, &format!("echo {SECRET} >&2; exit 3")).await;
    let ended = line(&mut server, "a call ended", &failed).await;
    assert_eq!((&ended["state"], &ended["reason"]), (&"failed".into(), &"exit_code".into()));
    assert!(!server.live.stderr.now().contains(SECRET), "{}", server.live.stderr.now());
}

#[tokio::test]
async fn a_follow_up_that_is_given_up_is_one_line() {
    let site = Site::new();
    let mut server = site.serve(&["--log-format", "json", "--follow-up-delay", "1ms"]).await;
    let session = new_session(&server.connect()).await;
    let call = v1::RunToolRequest {
        session_id: session.clone(),
        follow_up: v1::FollowUpPolicy::OnFinish.into(),
        ..bash(&format!("echo {SECRET}"))
    };
    let id = start_call(&server.connect(), call).await;
    server.cli(&["wait", &id]).await.exits(0);
    give_up(&server, &session, &format!("no {SECRET}")).await;
    let given_up = line(&mut server, "a follow-up was given up", &id).await;
    assert_eq!((&given_up["session"], &given_up["tenant"]), (&session.into(), &"local".into()));
    assert_eq!(given_up["reason"], "attempts_used_up");
    assert_eq!((&given_up["attempts"], &given_up["code"]), (&10.into(), &2.into()));
    assert!(given_up["elapsed_millis"].is_u64(), "{given_up}");
    assert!(!server.live.stderr.now().contains(SECRET), "{}", server.live.stderr.now());
}

/// A turn that runs out of time has the same line for each of its limits. That of its silence is half
/// an hour.
#[tokio::test]
async fn a_turn_that_runs_out_of_time_names_the_calls_that_go_on() {
    let sleep = json!({ "command": format!("echo {SECRET}; sleep 60") });
    let endpoint = Endpoint::new(vec![
        calls(&[("c", "bash", sleep)]),
        Script::Stream(vec![Piece::Text(SECRET.into()), Piece::Hang]),
    ])
    .await;
    let site = Site::new();
    let file = site.write("callpark.toml", &config(&endpoint, "")).display().to_string();
    let flags = ["--config", &file, "--log-format", "json", "--call-budget", "0s"];
    let mut server = site.serve(&flags).await;
    let clients = server.connect();
    let session = new_session(&clients).await;
    let turn = v1::RunTurnRequest {
        execution_timeout: millis(2_000),
        ..prompt(&session, &format!("the {SECRET}"))
    };
    let answer = soon("a turn", clients.tools.clone().run_turn(turn)).await.expect("an answer");
    let turn = FinishedTurn::of(answer.into_inner());
    let error = turn.error.as_ref().expect("an error");
    let [left] = &error.unresolved_calls[..] else { panic!("{error:?}") };

    let ended = line(&mut server, "a call ended", &turn.call_id).await;
    assert_eq!((&ended["state"], &ended["tool"]), (&"timed_out".into(), &"agent".into()));
    assert_eq!(
        (&ended["reason"], &ended["session"]),
        (&"execution_timeout".into(), &session.into())
    );
    assert_eq!(ended["unresolved"], left.call_id.as_str());
    assert_eq!(lines(&server, "a call ended").len(), 1, "the call goes on");
    assert!(!server.live.stderr.now().contains(SECRET), "{}", server.live.stderr.now());
}

#[tokio::test]
async fn rejected_credentials_have_a_few_lines_and_a_count() {
    let site = Site::new();
    let mut server = site.serve(&["--log-format", "json"]).await;
    let wrong = Clients::new(&server.endpoint, &format!("wrong-{SECRET}"));
    for _ in 0..30 {
        let answer = wrong.tasks.clone().list(v1::ListRequest::default()).await;
        assert_eq!(answer.expect_err("is rejected").code(), tonic::Code::Unauthenticated);
    }
    server.live.stderr.until("more credentials were rejected").await;
    let each = lines(&server, "credentials were rejected");
    let more = lines(&server, "more credentials were rejected");
    let left_out: u64 = more.iter().filter_map(|fields| fields["left_out"].as_u64()).sum();
    // An interval may end among the requests.
    assert!((5..=10).contains(&each.len()), "{each:?}");
    assert!(left_out <= 25 && each.len() as u64 + left_out <= 30, "{each:?} {more:?}");
    for fields in &each {
        assert_eq!(fields["reason"], "invalid");
        assert!(fields["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")));
    }
    assert!(!server.live.stderr.now().contains(SECRET), "{}", server.live.stderr.now());
}
