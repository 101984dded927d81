//! Two things at the same moment, thousands of times: an end and a budget, a cancel, or a wait.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use futures::future::join_all;
use tonic::Code;
use v1::session_event::Payload;
use v1::{State, WaitMode};

use crate::history::check_everything;
use crate::support::nap::{Meeting, REPORTS, check_nap, nap, server};
use crate::support::proofs::proof;
use crate::support::waiting::{cancel, cancel_of, ended, log_of, outcome_of, run, session};
use crate::support::waiting::{span_of, start, start_of, time};
use crate::support::{TestServer, bash, check_reason, millis, soon, stdout_of, v1};

/// Returns the number of sessions that race at the same time.
fn lanes() -> u64 {
    proof(25, 3)
}

/// Races of one session.
const TRIES: u64 = 80;

/// The events of one call in the log.
#[derive(Debug, Default)]
struct CallEvents {
    reports: u8,
    starts: u32,
    parked: u32,
    cancelling: u32,
    ends: Vec<v1::ToolCallFinished>,
}

/// Returns the events of each call in the log of a session, and checks that their order is
/// possible.
async fn events_by_call(server: &TestServer, session_id: &str) -> BTreeMap<String, CallEvents> {
    let mut calls = BTreeMap::<String, CallEvents>::new();
    for (event, sequence) in log_of(server, session_id).await.into_iter().zip(1..) {
        assert_eq!(event.sequence, sequence);
        let is_known = calls.contains_key(&event.call_id);
        let call = calls.entry(event.call_id.clone()).or_default();
        assert_eq!(call.ends, [], "something follows the end: {event:?}");
        match event.payload.as_ref().expect("a payload") {
            Payload::ToolCallAccepted(_) => assert!(!is_known, "accepted twice: {event:?}"),
            Payload::ToolCallStarted(_) => call.starts += 1,
            Payload::ToolProgress(_) => call.reports += 1,
            Payload::ToolCallParked(_) => call.parked += 1,
            Payload::ToolCallCancelling(_) => call.cancelling += 1,
            Payload::ToolCallFinished(end) => call.ends.push((**end).clone()),
            _ => panic!("{event:?}"),
        }
    }
    calls
}

/// The result in the one end of a call.
#[track_caller]
fn end_of(events: &CallEvents) -> (State, &v1::ToolResult) {
    let [end] = &events.ends[..] else { panic!("not one end: {events:?}") };
    match &end.outcome {
        Some(v1::tool_call_finished::Outcome::Result(result)) => (end.state(), result),
        other => panic!("no result but {other:?}"),
    }
}

/// Calls whose naps end when their budget does: how many gave a result, and how many parked.
async fn race_budgets(server: &TestServer) -> (u64, u64) {
    let session_id = session(server, Default::default()).await;
    let mut meeting = Meeting::new(Duration::from_millis(5));
    let mut results = BTreeMap::new();
    let mut parked = BTreeMap::new();
    for number in 0..TRIES {
        let request = v1::RunToolRequest {
            session_id: session_id.clone(),
            call_budget: millis(4),
            ..nap(number, meeting.at(number))
        };
        let answer = run(server, request).await;
        match answer.outcome.expect("an outcome") {
            v1::run_tool_response::Outcome::Result(result) => {
                check_nap(&result, number);
                results.insert(answer.call_id, result);
                meeting.later();
            }
            v1::run_tool_response::Outcome::Parked(call) => {
                let task = ended(server, &call.background_id).await;
                assert_eq!(task.state(), State::Succeeded);
                check_nap(outcome_of(&task), number);
                assert_eq!(ended(server, &call.background_id).await, task, "the same again");
                parked.insert(task.call_id.clone(), task);
                meeting.earlier();
            }
        }
    }
    let events = events_by_call(server, &session_id).await;
    assert_eq!(events.len() as u64, TRIES);
    for (call_id, events) in &events {
        assert_eq!((events.reports, events.cancelling), (REPORTS, 0), "{events:?}");
        let (state, result) = end_of(events);
        assert_eq!(state, State::Succeeded);
        match (results.get(call_id), parked.get(call_id)) {
            (Some(answer), None) => assert_eq!((events.parked, answer), (0, result)),
            (None, Some(task)) => assert_eq!((events.parked, outcome_of(task)), (1, result)),
            other => panic!("{other:?}: {events:?}"),
        }
    }
    (results.len() as u64, parked.len() as u64)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_thousands_of_calls_that_end_with_their_budget_each_is_a_result_or_parked() {
    let server = server().await;
    let counts = join_all((0..lanes()).map(|_| race_budgets(&server))).await;
    check_everything(&server.connect(), 0).await;
    check_raced(&counts, "results and parked calls");
}

/// Both sides have won often enough for the race to have been one.
#[track_caller]
fn check_raced(counts: &[(u64, u64)], what: &str) {
    let (one, other) = counts.iter().fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
    println!("{one} and {other} {what}");
    assert_eq!(one + other, lanes() * TRIES);
    assert!(one > lanes() * 5 && other > lanes() * 5, "no race: {one} and {other} {what}");
}

/// Tasks that are cancelled when they end: how many succeeded, and how many were cancelled.
async fn race_cancels(server: &TestServer) -> (u64, u64) {
    let session_id = session(server, Default::default()).await;
    let mut meeting = Meeting::new(Duration::from_millis(4));
    let mut tasks = BTreeMap::new();
    let (mut succeeded, mut cancelled) = (0, 0);
    for number in 0..TRIES {
        let call = nap(number, meeting.at(number));
        let call = v1::RunToolRequest { session_id: session_id.clone(), ..call };
        let task = start(server, start_of(call)).await;
        let answer = cancel(server, cancel_of(&task.background_id)).await;
        assert!(!answer.still_running, "{answer:?}");
        let task = answer.task.expect("a task");
        for _ in 0..2 {
            assert_eq!(
                ended(server, &task.background_id).await,
                task,
                "an outcome that was shown stays"
            );
        }
        match task.state() {
            State::Succeeded => {
                check_nap(outcome_of(&task), number);
                succeeded += 1;
                meeting.later();
            }
            State::Cancelled => {
                assert!(task.cancellation.is_some(), "{task:?}");
                cancelled += 1;
                meeting.earlier();
            }
            _ => panic!("{task:?}"),
        }
        tasks.insert(task.call_id.clone(), task);
    }
    let events = events_by_call(server, &session_id).await;
    assert_eq!(events.len() as u64, TRIES);
    for (call_id, events) in &events {
        let task = &tasks[call_id];
        let (state, result) = end_of(events);
        assert_eq!((state, result, events.parked), (task.state(), outcome_of(task), 1));
        assert_eq!(events.cancelling, u32::from(task.cancellation.is_some()), "{events:?}");
        if state == State::Succeeded {
            assert_eq!(events.reports, REPORTS, "{events:?}");
        }
    }
    (succeeded, cancelled)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_thousands_of_cancels_that_race_an_end_each_leaves_one_terminal_state() {
    let server = server().await;
    let counts = join_all((0..lanes()).map(|_| race_cancels(&server))).await;
    check_everything(&server.connect(), 0).await;
    check_raced(&counts, "successes and cancellations");
}

/// Longer than any end here takes: a wake-up that was lost shows as a wait that took all of it.
const WAIT_MS: u64 = 20_000;

/// Waits for a task in one of the ways that there are: for how long it did.
async fn wait(server: &TestServer, task: &v1::Task, way: u64) -> Duration {
    let (id, wait) = (task.background_id.clone(), millis(WAIT_MS));
    let mut tasks = server.tasks.clone();
    match way {
        0 => {
            let request = v1::WaitRequest { background_id: id, wait, acknowledge: false };
            let answer = soon("a wait", tasks.wait(request)).await.expect("an answer");
            let answer = answer.into_inner();
            assert!(!answer.still_running, "{answer:?}");
            span_of(&answer.waited)
        }
        1 => {
            let (background_ids, mode) = (vec![id], WaitMode::All.into());
            let request = v1::WaitManyRequest { background_ids, mode, wait, acknowledge: false };
            let answer = soon("a wait", tasks.wait_many(request)).await.expect("an answer");
            let answer = answer.into_inner();
            assert_eq!((answer.settled.len(), answer.pending.len()), (1, 0), "{answer:?}");
            span_of(&answer.waited)
        }
        _ => {
            // It writes nothing, so there is nothing to read before its end.
            let request = v1::ReadOutputRequest { background_id: id, wait, ..Default::default() };
            let began = tokio::time::Instant::now();
            let answer = soon("a read", tasks.read_output(request)).await.expect("an answer");
            assert!(answer.get_ref().eof, "{answer:?}");
            began.elapsed()
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "it is compared with times that the server reports")]
fn wall_clock() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time")
}

/// Tasks that end when a client begins to wait for them: how many had ended before, and how many
/// ended during the wait.
async fn race_waits(server: &TestServer) -> (u64, u64) {
    let session_id = session(server, Default::default()).await;
    let mut meeting = Meeting::new(Duration::from_millis(4));
    let (mut before, mut during) = (0, 0);
    for number in 0..TRIES {
        let call = nap(number, meeting.at(number));
        let call = v1::RunToolRequest { session_id: session_id.clone(), ..call };
        let task = start(server, start_of(call)).await;
        let began = wall_clock();
        let waited = wait(server, &task, number % 3).await;
        assert!(waited < Duration::from_millis(WAIT_MS / 2), "{waited:?}");
        let task = ended(server, &task.background_id).await;
        assert_eq!(task.state(), State::Succeeded);
        check_nap(outcome_of(&task), number);
        if time(&task.end_time) < began {
            before += 1;
            meeting.later();
        } else {
            during += 1;
            meeting.earlier();
        }
    }
    (before, during)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_thousands_of_waits_none_misses_an_end_that_comes_as_it_begins() {
    let server = server().await;
    let counts = join_all((0..lanes()).map(|_| race_waits(&server))).await;
    check_everything(&server.connect(), 0).await;
    check_raced(&counts, "waits after and during the run");
}

/// Reads of a task while it is deleted: how many came before, and how many found nothing.
async fn race_deletes(server: &TestServer) -> (u64, u64) {
    let (mut whole, mut nothing) = (0, 0);
    // More than a record holds: the rest comes from the log.
    let task = start(server, start_of(bash("seq 1 4000"))).await;
    let task = ended(server, &task.background_id).await;
    let id = &task.background_id;
    let reads = join_all((0..8).map(|_| async {
        let request = v1::GetRequest { background_id: id.clone() };
        match soon("a get", server.tasks.clone().get(request)).await {
            Ok(answer) => {
                let seen = answer.into_inner().task.expect("a task");
                assert_eq!(outcome_of(&seen), outcome_of(&task), "an outcome that was shown stays");
                true
            }
            Err(status) => {
                check_reason(&status, Code::NotFound, "TASK_NOT_FOUND");
                false
            }
        }
    }));
    let outputs = join_all((0..8).map(|_| async {
        let request = v1::ReadOutputRequest { background_id: id.clone(), ..Default::default() };
        match soon("a read", server.tasks.clone().read_output(request)).await {
            Ok(answer) => {
                assert_eq!(answer.into_inner().data, stdout_of(outcome_of(&task)));
                true
            }
            Err(status) => {
                check_reason(&status, Code::NotFound, "TASK_NOT_FOUND");
                false
            }
        }
    }));
    let request = v1::DeleteRequest { background_id: id.clone(), ..Default::default() };
    let delete = async { soon("a delete", server.tasks.clone().delete(request)).await };
    let (reads, outputs, deleted) = futures::join!(reads, outputs, delete);
    deleted.expect("it has ended");
    for found in reads.into_iter().chain(outputs) {
        if found { whole += 1 } else { nothing += 1 }
    }
    (whole, nothing)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_thousands_of_reads_of_tasks_that_are_deleted_each_is_whole_or_finds_nothing() {
    let server = server().await;
    let (mut whole, mut nothing) = (0, 0);
    let rounds = proof(200, 25);
    for _ in 0..rounds {
        let counts = race_deletes(&server).await;
        whole += counts.0;
        nothing += counts.1;
    }
    println!("{whole} whole reads and {nothing} that found nothing");
    assert!(whole > rounds / 10 && nothing > rounds / 10, "no race: {whole} and {nothing}");
}
