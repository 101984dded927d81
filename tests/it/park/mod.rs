//! Parking: when a call goes to the background, and the answer to its caller.

mod leaving;
mod limits;
mod stream;

use std::time::{Duration, Instant};

use serde_json::json;
use tonic::Request;

use crate::history::check_everything;
use crate::support::waiting::{
    Gate, call, ended, event, first_end, is_alive, lines_of, outcome_of, parked_of, pids, run,
    session, span_of, time,
};
use crate::support::{
    TEST_TIMEOUT, TestServer, bash, millis, result_of, soon, stderr_of, stdout_of, v1,
};

use v1::session_event::Payload;

#[tokio::test]
async fn a_call_that_outlasts_its_budget_is_parked_with_a_complete_answer() {
    let server = TestServer::start().await;
    let mut gate = Gate::new(server.folder(), "gate");
    let request = v1::RunToolRequest {
        call_budget: millis(300),
        execution_timeout: millis(90_000),
        description: "count the sheep".into(),
        labels: [("kind".into(), "sheep".into())].into(),
        detached: true,
        follow_up: v1::FollowUpPolicy::OnFailure.into(),
        ..bash(&format!("echo one; {}; echo two", gate.wait()))
    };
    let answer = run(&server, request).await;
    let parked = parked_of(&answer);
    assert_eq!((parked.r#type.as_str(), parked.tool.as_str()), ("background", "bash"));
    assert_eq!(parked.call_budget, millis(300));
    let hex = answer.call_id.strip_prefix("call-").expect("a call's id");
    assert_eq!(parked.background_id, format!("bg-{hex}"));
    assert!(parked.message.contains(&parked.background_id), "{}", parked.message);
    assert!(parked.message.contains("still running after 0."), "{}", parked.message);
    let suggested = span_of(&parked.suggested_wait).as_secs();
    assert!((1..=540).contains(&suggested), "{suggested}");
    check_snapshot(parked.task.as_ref().expect("a task"), &answer);
    gate.open();
    let task = ended(&server, &parked.background_id).await;
    assert_eq!(task.state(), v1::State::Succeeded);
    assert_eq!(stdout_of(outcome_of(&task)), b"one\ntwo\n");
}

#[track_caller]
fn check_snapshot(task: &v1::Task, answer: &v1::RunToolResponse) {
    assert_eq!(task.background_id, parked_of(answer).background_id);
    assert_eq!((&task.session_id, &task.call_id), (&answer.session_id, &answer.call_id));
    assert_eq!((task.tool.as_str(), task.kind()), ("bash", v1::Kind::Command));
    assert_eq!(task.description, "count the sheep");
    assert_eq!(task.state(), v1::State::Running);
    assert_eq!(task.park_reason(), v1::ParkReason::Budget);
    assert_eq!((task.call_budget, task.execution_timeout), (millis(300), millis(90_000)));
    assert_eq!(task.labels, [("kind".into(), "sheep".into())].into());
    assert_eq!((task.detached, task.attempt), (true, 1));
    assert_eq!(task.follow_up(), v1::FollowUpPolicy::OnFailure);
    assert_eq!((&task.outcome, &task.cancellation), (&None, &None));
    assert_eq!((task.end_time, task.expire_time), (None, None));
    let started = time(&task.start_time);
    assert!(time(&task.create_time) <= started);
    assert!(time(&task.park_time) >= started + Duration::from_millis(300));
    assert!(span_of(&task.elapsed) >= Duration::from_millis(300));
    let output = task.output.as_ref().expect("a summary");
    assert!(output.stdout.is_some() && output.combined.is_some(), "{output:?}");
}

#[tokio::test]
async fn a_budget_of_zero_parks_at_once() {
    let server = TestServer::start().await;
    let mut gate = Gate::new(server.folder(), "gate");
    let request = v1::RunToolRequest { call_budget: millis(0), ..bash(&gate.wait()) };
    let answer = run(&server, request).await;
    let parked = parked_of(&answer);
    assert_eq!(parked.call_budget, millis(0));
    let task = parked.task.as_ref().expect("a task");
    assert_eq!(task.park_reason(), v1::ParkReason::BackgroundStart);
    gate.open();
    assert_eq!(ended(&server, &parked.background_id).await.state(), v1::State::Succeeded);
}

const BUDGETS: &str = r#"
[[tools]]
name = "never"
argv = ["sh", "-c", "sleep 0.8; echo late"]
environment = ["PATH"]
call_budget = "never"
[[tools]]
name = "short"
argv = ["sh", "-c", "read -r _ < $0", "{gate}"]
call_budget = "120ms"
input_schema = { type = "object", properties = { gate = { type = "string" } } }
"#;

#[tokio::test]
async fn an_unset_budget_is_the_one_of_the_tool_if_it_has_one() {
    let server = TestServer::with_config(BUDGETS, &[("call-budget", "150ms")]).await;
    let mut gate = Gate::new(server.folder(), "gate");
    let answer = run(&server, call("never", json!({}))).await;
    assert_eq!(stdout_of(result_of(&answer)), b"late\n");
    let short = call("short", json!({ "gate": gate.path().to_str() }));
    for (request, budget) in [(short, 120), (bash(&gate.wait()), 150)] {
        let answer = run(&server, request).await;
        let parked = parked_of(&answer);
        assert_eq!(parked.call_budget, millis(budget));
        gate.open();
        ended(&server, &parked.background_id).await;
    }
    // A call may give a budget to a tool that has none.
    let impatient = v1::RunToolRequest { call_budget: millis(50), ..call("never", json!({})) };
    let answer = run(&server, impatient).await;
    assert_eq!(parked_of(&answer).call_budget, millis(50));
    let task = ended(&server, &parked_of(&answer).background_id).await;
    assert_eq!(stdout_of(outcome_of(&task)), b"late\n");
}

/// One call with a deadline of 300 ms on a run of 3 s; what its caller gets, and when.
async fn with_deadline(
    server: &TestServer,
    session_id: &str,
) -> (Result<v1::RunToolResponse, tonic::Status>, Duration) {
    let call = v1::RunToolRequest { session_id: session_id.into(), ..bash("sleep 3; echo ok") };
    let mut request = Request::new(call);
    request.set_timeout(Duration::from_millis(300));
    let began = Instant::now();
    let answer = soon("an answer", server.tools.clone().run_tool(request)).await;
    (answer.map(tonic::Response::into_inner), began.elapsed())
}

#[tokio::test]
async fn a_deadline_parks_the_call_in_time_for_the_answer() {
    let server = TestServer::start().await;
    let session_id = session(&server, Default::default()).await;
    // A machine that is busy with other things may be late: one of a few must be in time.
    let mut answered = None;
    for _ in 0..8 {
        if let (Ok(answer), elapsed) = with_deadline(&server, &session_id).await {
            assert!(elapsed < Duration::from_millis(300), "{elapsed:?}");
            answered = Some(answer);
            break;
        }
    }
    let answer = answered.expect("an answer before the deadline");
    let task = parked_of(&answer).task.as_ref().expect("a task");
    assert_eq!(task.park_reason(), v1::ParkReason::Deadline);
    // A caller that was late lost nothing either.
    let request = v1::ListRequest { session_id, ..Default::default() };
    let tasks = server.tasks.clone().list(request).await.expect("an answer").into_inner().tasks;
    assert!(!tasks.is_empty());
    for task in tasks {
        let task = ended(&server, &task.background_id).await;
        assert_eq!(task.state(), v1::State::Succeeded);
        assert_eq!(stdout_of(outcome_of(&task)), b"ok\n");
    }
}

/// Runs a call, and drops its caller once the process runs; the process's id.
async fn abandon(server: &TestServer, request: v1::RunToolRequest, mark: &std::path::Path) -> u32 {
    let mut client = server.tools.clone();
    tokio::select! {
        answer = client.run_tool(request) => panic!("answered: {answer:?}"),
        lines = lines_of(mark, 1) => pids(&lines)[0],
    }
}

/// Runs a call whose caller leaves: it is parked, and ends by itself. `abandon` starts the call, leaves
/// it once its process runs, and returns the process's id.
async fn leaves_a_parked_call(
    abandon: impl AsyncFn(&TestServer, v1::RunToolRequest, &std::path::Path) -> u32,
) {
    let server = TestServer::start().await;
    let mut gate = Gate::new(server.folder(), "gate");
    let mark = server.folder().join("mark");
    let session_id = session(&server, Default::default()).await;
    let command = format!("echo $$ > {}; {}; echo done", mark.display(), gate.wait());
    let request = v1::RunToolRequest { session_id: session_id.clone(), ..bash(&command) };
    let pid = abandon(&server, request, &mark).await;
    let parked = |payload: &Payload| match payload {
        Payload::ToolCallParked(parked) => Some(parked.clone()),
        _ => None,
    };
    let parked = event(&server, &session_id, parked).await;
    assert_eq!(parked.reason(), v1::ParkReason::Disconnected);
    let request = v1::ListRequest { session_id, ..Default::default() };
    let tasks = server.tasks.clone().list(request).await.expect("an answer").into_inner().tasks;
    let [task] = &tasks[..] else { panic!("{tasks:?}") };
    assert_eq!((&task.background_id, task.state()), (&parked.background_id, v1::State::Running));
    assert!(is_alive(pid));
    gate.open();
    let task = ended(&server, &parked.background_id).await;
    assert_eq!((task.state(), task.cancellation.as_ref()), (v1::State::Succeeded, None));
    assert_eq!(stdout_of(outcome_of(&task)), b"done\n");
}

/// Runs a call whose caller leaves and takes it along: it is cancelled, and was never a task.
async fn takes_its_call_along(
    abandon: impl AsyncFn(&TestServer, v1::RunToolRequest, &std::path::Path) -> u32,
) {
    let server = TestServer::start().await;
    let gate = Gate::new(server.folder(), "gate");
    let mark = server.folder().join("mark");
    let session_id = session(&server, Default::default()).await;
    let request = v1::RunToolRequest {
        session_id: session_id.clone(),
        on_disconnect: v1::OnDisconnect::Cancel.into(),
        ..bash(&format!("echo $$ > {}; {}", mark.display(), gate.wait()))
    };
    let pid = abandon(&server, request, &mark).await;
    let finished = first_end(&server, &session_id).await;
    assert_eq!((finished.state(), finished.background_id.as_str()), (v1::State::Cancelled, ""));
    assert!(!is_alive(pid));
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_a_parked_call_that_ends_by_itself() {
    leaves_a_parked_call(abandon).await;
}

#[tokio::test]
async fn a_caller_that_goes_away_may_take_its_call_along() {
    takes_its_call_along(abandon).await;
}

#[tokio::test]
async fn a_parked_call_outlives_its_caller_whatever_on_disconnect_says() {
    let mut server = TestServer::start().await;
    let mut gate = Gate::new(server.folder(), "gate");
    let request = v1::RunToolRequest {
        call_budget: millis(0),
        on_disconnect: v1::OnDisconnect::Cancel.into(),
        ..bash(&gate.wait())
    };
    let answer = run(&server, request).await;
    let id = parked_of(&answer).background_id.clone();
    // A wait that is left changes nothing.
    let wait = v1::WaitRequest { background_id: id.clone(), ..Default::default() };
    let left = tokio::time::timeout(Duration::from_millis(100), server.tasks.wait(wait)).await;
    assert!(left.is_err(), "{left:?}");
    gate.open();
    assert_eq!(ended(&server, &id).await.state(), v1::State::Succeeded);
}

const RACE: &str = r#"
[[tools]]
name = "nap"
argv = ["sh", "-c", "sleep 0.02; echo done; echo oops >&2"]
environment = ["PATH"]
"#;

/// Calls whose budget follows the time they take: half of them end before it, half after.
async fn race(server: &TestServer, session_id: &str, tries: usize) -> (usize, usize) {
    let (mut budget, mut results, mut parked) = (Duration::from_millis(40), 0, 0);
    for _ in 0..tries {
        let request = v1::RunToolRequest {
            session_id: session_id.into(),
            call_budget: crate::support::span(budget),
            ..call("nap", json!({}))
        };
        let answer = run(server, request).await;
        match answer.outcome.as_ref().expect("an outcome") {
            v1::run_tool_response::Outcome::Result(result) => {
                check_nap(result);
                results += 1;
                budget = budget.mul_f64(0.97);
            }
            v1::run_tool_response::Outcome::Parked(task) => {
                let task = ended(server, &task.background_id).await;
                assert_eq!(task.state(), v1::State::Succeeded);
                check_nap(outcome_of(&task));
                parked += 1;
                budget = budget.mul_f64(1.03);
            }
        }
    }
    (results, parked)
}

#[track_caller]
fn check_nap(result: &v1::ToolResult) {
    assert_eq!((stdout_of(result), stderr_of(result)), (b"done\n".to_vec(), b"oops\n".to_vec()));
}

#[tokio::test]
async fn a_call_that_ends_with_its_budget_is_a_result_or_parked_and_never_both() {
    let server = TestServer::with_config(RACE, &[]).await;
    let lanes = (0..4).map(|_| async {
        let session_id = session(&server, Default::default()).await;
        let count = race(&server, &session_id, 50).await;
        check_log(&server, &session_id, count).await;
        count
    });
    let counts = tokio::time::timeout(TEST_TIMEOUT * 2, futures::future::join_all(lanes)).await;
    let counts = counts.expect("all lanes done");
    let results: usize = counts.iter().map(|(results, _)| results).sum();
    let parked: usize = counts.iter().map(|(_, parked)| parked).sum();
    assert_eq!(results + parked, 200);
    assert!(results > 20 && parked > 20, "{results} results, {parked} parked");
    check_everything(&server.connect(), 0).await;
}

/// Every call has ended once, and the parked ones are those that were answered as parked.
async fn check_log(server: &TestServer, session_id: &str, (results, parked): (usize, usize)) {
    let log = crate::support::waiting::log_of(server, session_id).await;
    let count = |wanted: fn(&Payload) -> bool| {
        log.iter().filter_map(|event| event.payload.as_ref()).filter(|p| wanted(p)).count()
    };
    let ends = count(|payload| matches!(payload, Payload::ToolCallFinished(_)));
    assert_eq!(ends, results + parked);
    assert_eq!(count(|payload| matches!(payload, Payload::ToolCallParked(_))), parked);
}
