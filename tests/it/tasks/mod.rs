//! Finding background tasks: Get, List and its pages.

mod cancel;
mod end_reasons;
mod life;
mod summary;
mod wait;
mod watch;

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::future::join_all;
use tonic::Code;
use v1::State;

use crate::support::streams::{
    Gate, MISSING_TOOL, ended, get, log_of, new_session, start_of, started, task, task_now,
    tool_start,
};
use crate::support::{TestServer, bash, check_reason, python, soon, v1};

async fn listed(server: &TestServer, request: v1::ListRequest) -> v1::ListResponse {
    let answer = soon("a list", server.tasks.clone().list(request)).await;
    answer.expect("a list").into_inner()
}

fn ids(tasks: &[v1::Task]) -> Vec<&str> {
    tasks.iter().map(|task| task.background_id.as_str()).collect()
}

async fn delete(server: &TestServer, background_id: &str) {
    let request = v1::DeleteRequest { background_id: background_id.into(), ..Default::default() };
    soon("a delete", server.tasks.clone().delete(request)).await.expect("deleted");
}

fn labelled(key: &str, value: &str) -> BTreeMap<String, String> {
    [(key.to_owned(), value.to_owned())].into()
}

#[tokio::test]
async fn a_started_task_is_there_at_once_and_its_result_stays() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    let call = v1::RunToolRequest {
        description: "says hello".into(),
        labels: labelled("for", "greeting"),
        ..bash("echo hello; exit 3")
    };
    let task = started(&server, tool_start(&session_id, call)).await;
    assert_eq!(task.background_id.strip_prefix("bg-"), task.call_id.strip_prefix("call-"));
    assert_eq!((&task.session_id, task.tool.as_str()), (&session_id, "bash"));
    assert_eq!((task.kind(), task.description.as_str()), (v1::Kind::Command, "says hello"));
    assert_eq!(task.labels, labelled("for", "greeting"));
    assert_eq!(task.park_reason(), v1::ParkReason::BackgroundStart);
    assert!(task.create_time.is_some() && task.park_time.is_some());
    let end = ended(&server, &task.background_id).await;
    assert_eq!(end.state(), State::Failed);
    assert_eq!((end.attempt, end.revision > task.revision), (1, true));
    let Some(v1::task::Outcome::Result(result)) = &end.outcome else { panic!("{end:?}") };
    assert_eq!(result.exit, Some(v1::tool_result::Exit::ExitCode(3)));
    assert!(end.end_time.is_some() && end.expire_time.is_some());
    for _ in 0..2 {
        assert_eq!(task_now(&server, &task.background_id).await, end);
    }
    let list = listed(&server, v1::ListRequest::default()).await;
    assert_eq!(ids(&list.tasks), [&task.background_id]);
    assert_eq!(list.tasks[0].state(), State::Failed);
}

#[tokio::test]
async fn a_call_that_was_never_parked_is_no_task() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    let call = v1::RunToolRequest { session_id, ..bash("true") };
    let answer = server.tools.clone().run_tool(call).await.expect("an answer").into_inner();
    let id = answer.call_id.replace("call-", "bg-");
    let status = get(&server, &id).await.expect_err("no task");
    check_reason(&status, Code::NotFound, "TASK_NOT_FOUND");
    assert!(listed(&server, v1::ListRequest::default()).await.tasks.is_empty());
}

#[tokio::test]
async fn tasks_are_listed_newest_first_and_by_every_filter() {
    let server = TestServer::start().await;
    let (session, other) = (new_session(&server).await, new_session(&server).await);
    let gate = Gate::new(&server, "listed");
    let call = |command: &str, label| v1::RunToolRequest {
        labels: labelled("team", label),
        ..bash(command)
    };
    let good = started(&server, tool_start(&session, call("true", "a"))).await;
    let bad = started(&server, tool_start(&session, call("false", "b"))).await;
    let python = started(&server, tool_start(&other, python("print(1)"))).await;
    let live = started(&server, tool_start(&other, call(&gate.command(), "a"))).await;
    for task in [&good, &bad, &python] {
        ended(&server, &task.background_id).await;
    }
    let check = async |what: &str, request: v1::ListRequest, expected: &[&v1::Task]| {
        let list = listed(&server, request).await;
        let expected: Vec<_> = expected.iter().map(|task| task.background_id.as_str()).collect();
        assert_eq!(ids(&list.tasks), expected, "{what}");
        assert!(list.next_page_token.is_empty() && list.watch_sequence > 0, "{what}");
    };
    let none = v1::ListRequest::default;
    let states = |states: &[State]| v1::ListRequest {
        states: states.iter().map(|state| *state as i32).collect(),
        ..none()
    };
    check("all", none(), &[&live, &python, &bad, &good]).await;
    check("session", v1::ListRequest { session_id: session.clone(), ..none() }, &[&bad, &good])
        .await;
    check("failed", states(&[State::Failed]), &[&bad]).await;
    check("two states", states(&[State::Running, State::Succeeded]), &[&live, &python, &good])
        .await;
    check("lost", states(&[State::Lost]), &[]).await;
    let commands = v1::ListRequest { kinds: vec![v1::Kind::Command as i32], ..none() };
    check("commands", commands, &[&live, &python, &bad, &good]).await;
    let others = v1::ListRequest { kinds: vec![v1::Kind::Mcp.into(), 5], ..none() };
    check("other kinds", others, &[]).await;
    let labels = labelled("team", "a");
    check("label", v1::ListRequest { labels: labels.clone(), ..none() }, &[&live, &good]).await;
    let after = v1::ListRequest { created_after: bad.create_time, ..none() };
    check("time", after, &[&live, &python]).await;
    // Twenty digits of 122 random bits are those of one task.
    let beginning = bad.background_id[..23].to_owned();
    let one = v1::ListRequest { background_id_prefix: beginning, ..none() };
    check("beginning of an id", one.clone(), &[&bad]).await;
    check("and a state", v1::ListRequest { states: vec![State::Lost.into()], ..one }, &[]).await;
    let every = v1::ListRequest { background_id_prefix: "bg-".into(), ..none() };
    check("beginning of every id", every, &[&live, &python, &bad, &good]).await;
    let all = v1::ListRequest { session_id: session, labels, ..states(&[State::Succeeded]) };
    check("all at once", all, &[&good]).await;
    gate.open();
}

#[tokio::test]
async fn pages_show_each_task_that_was_there_throughout_once() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    let gate = Gate::new(&server, "pages");
    let start = |number: usize| {
        let command = if number.is_multiple_of(5) { gate.command() } else { "true".into() };
        task_of(&server, &session_id, command)
    };
    let mut there = Vec::new();
    for number in 0..20 {
        there.push(start(number).await);
    }
    let doomed: Vec<_> = [1, 8, 18].map(|index: usize| there[index].clone()).into();
    for id in &doomed {
        ended(&server, id).await;
    }
    let (mut seen, mut token, mut page_count) = (Vec::new(), String::new(), 0);
    loop {
        let request = v1::ListRequest { page_size: 3, page_token: token, ..Default::default() };
        let page = listed(&server, request).await;
        assert!(page.tasks.len() <= 3);
        seen.extend(page.tasks.into_iter().map(|task| task.background_id));
        // New ones come, a deleted one goes, and in the middle of it the old ones end.
        start(1).await;
        if let Some(id) = doomed.get(page_count) {
            delete(&server, id).await;
        }
        if page_count == 3 {
            gate.open();
            ended(&server, &there[0]).await;
        }
        page_count += 1;
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    let once: BTreeSet<_> = seen.iter().collect();
    assert_eq!(once.len(), seen.len(), "none twice");
    for id in there.iter().filter(|id| !doomed.contains(*id)) {
        assert!(once.contains(id), "{id} was there all the time");
    }
    let newest_first: Vec<_> = there.iter().rev().filter(|id| once.contains(id)).collect();
    assert_eq!(seen.iter().collect::<Vec<_>>(), newest_first, "in order, and no new ones");
}

async fn task_of(server: &TestServer, session_id: &str, command: String) -> String {
    task(server, session_id, &command).await.background_id
}

#[tokio::test]
async fn a_page_token_is_for_its_filters_only() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    for _ in 0..3 {
        task(&server, &session_id, "true").await;
    }
    let first = v1::ListRequest { page_size: 1, ..Default::default() };
    let token = listed(&server, first.clone()).await.next_page_token;
    let next = v1::ListRequest { page_token: token.clone(), ..first };
    assert_eq!(listed(&server, next.clone()).await.tasks.len(), 1);
    let larger = v1::ListRequest { page_size: 9, ..next.clone() };
    assert_eq!(listed(&server, larger).await.tasks.len(), 2, "the size may change");
    let with = |page_token: String| v1::ListRequest { page_token, ..next.clone() };
    let mut flipped = token.clone();
    flipped.pop();
    let wrong = [
        v1::ListRequest { session_id, ..next.clone() },
        v1::ListRequest { states: vec![5], ..next.clone() },
        v1::ListRequest { labels: labelled("a", "b"), ..next.clone() },
        with("garbage".into()),
        with(flipped),
        with(format!("{token}00")),
        with("é".repeat(40)),
        with("f".repeat(100_000)),
    ];
    for request in wrong {
        let status = server.tasks.clone().list(request).await.expect_err("refused");
        check_reason(&status, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
    }
}

#[tokio::test]
async fn a_forged_page_token_is_refused() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    for _ in 0..2 {
        task(&server, &session_id, "true").await;
    }
    let first = v1::ListRequest { page_size: 1, ..Default::default() };
    let token = listed(&server, first.clone()).await.next_page_token;
    let bytes = URL_SAFE_NO_PAD.decode(&token).expect("base64");
    // Each digit of the position and of the id, and each byte of the code.
    for at in 0..bytes.len() {
        let mut forged = bytes.clone();
        forged[at] = if forged[at].is_ascii_digit() { b'0' + (forged[at] + 1) % 10 } else { b'0' };
        if forged == bytes {
            continue;
        }
        let page_token = URL_SAFE_NO_PAD.encode(forged);
        let request = v1::ListRequest { page_token, ..first.clone() };
        let status = server.tasks.clone().list(request).await.expect_err("forged");
        check_reason(&status, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
    }
    let of_another = v1::ListFollowUpsRequest { page_token: token, ..Default::default() };
    let status = server.tasks.clone().list_follow_ups(of_another).await.expect_err("another list");
    check_reason(&status, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
}

#[tokio::test]
async fn a_page_holds_fifty_by_default_and_a_thousand_at_most() {
    let server = TestServer::with_config(MISSING_TOOL, &[("max-live-tasks", "1000")]).await;
    let session_id = new_session(&server).await;
    let call = v1::RunToolRequest { tool: "missing".into(), ..Default::default() };
    for _ in 0..67 {
        let starts = (0..15).map(|_| started(&server, tool_start(&session_id, call.clone())));
        soon("starts", join_all(starts)).await;
    }
    for (page_size, count) in [(0, 50), (1, 1), (1_000, 1_000), (1_001, 1_000), (i32::MAX, 1_000)] {
        let request = v1::ListRequest { page_size, ..Default::default() };
        let page = listed(&server, request).await;
        assert_eq!(page.tasks.len(), count, "{page_size}");
        assert!(!page.next_page_token.is_empty());
    }
    let request = v1::ListRequest { page_size: -1, ..Default::default() };
    let status = server.tasks.clone().list(request).await.expect_err("refused");
    check_reason(&status, Code::InvalidArgument, "INVALID_FIELD");
}

#[tokio::test]
async fn a_finished_task_is_deleted_and_a_running_one_is_not() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    let gate = Gate::new(&server, "delete");
    let live = task(&server, &session_id, &gate.command()).await;
    let request = |id: &str| v1::DeleteRequest { background_id: id.into(), ..Default::default() };
    let status = server.tasks.clone().delete(request(&live.background_id)).await;
    let status = status.expect_err("refused");
    check_reason(&status, Code::FailedPrecondition, "TASK_RUNNING");
    gate.open();
    ended(&server, &live.background_id).await;
    let log = log_of(&server, &session_id).await;
    delete(&server, &live.background_id).await;
    let status = get(&server, &live.background_id).await.expect_err("gone");
    check_reason(&status, Code::NotFound, "TASK_NOT_FOUND");
    let status = server.tasks.clone().delete(request(&live.background_id)).await;
    check_reason(&status.expect_err("gone"), Code::NotFound, "TASK_NOT_FOUND");
    assert!(listed(&server, v1::ListRequest::default()).await.tasks.is_empty());
    assert_eq!(log_of(&server, &session_id).await, log, "its events stay");
    let another = server.tasks.clone().start(start_of(&session_id, "true")).await;
    assert!(another.is_ok(), "the session goes on: {another:?}");
}
