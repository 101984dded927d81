//! Watching tasks change.

use std::collections::BTreeMap;

use tonic::{Code, Streaming};
use v1::State;

use crate::support::streams::{Gate, ended, new_session, task};
use crate::support::{TestServer, check_reason, soon, v1};

async fn watch(
    server: &TestServer,
    session_id: &str,
    after: Option<i64>,
) -> Streaming<v1::WatchResponse> {
    let request = v1::WatchRequest { session_id: session_id.into(), watch_sequence: after };
    let stream = soon("a watch", server.tasks.clone().watch(request)).await;
    stream.expect("a watch").into_inner()
}

async fn next(watch: &mut Streaming<v1::WatchResponse>) -> v1::WatchResponse {
    soon("a change", watch.message()).await.expect("no error").expect("a message")
}

/// The heartbeat that comes first, and where it says that the stream begins.
async fn beginning(watch: &mut Streaming<v1::WatchResponse>) -> i64 {
    let first = next(watch).await;
    assert!(first.heartbeat && first.tasks.is_empty(), "{first:?}");
    first.watch_sequence
}

async fn sequence(server: &TestServer) -> i64 {
    let list = soon("a list", server.tasks.clone().list(v1::ListRequest::default())).await;
    list.expect("a list").into_inner().watch_sequence
}

fn is_over(task: &v1::Task) -> bool {
    task.end_time.is_some()
}

/// Reads until so many tasks have ended; every step must be newer than the one before.
async fn until_ended(watch: &mut Streaming<v1::WatchResponse>, count: usize) -> Vec<v1::Task> {
    let (mut newest, mut order) = (BTreeMap::<String, i64>::new(), Vec::new());
    let (mut last, mut over) = (0, 0);
    while over < count {
        let change = next(watch).await;
        assert!(change.watch_sequence >= last, "{last} before {change:?}");
        last = change.watch_sequence;
        for task in change.tasks {
            let before = newest.insert(task.background_id.clone(), task.revision);
            assert!(before.is_none_or(|before| before < task.revision), "{task:?}");
            over += usize::from(is_over(&task));
            order.push(task);
        }
    }
    order
}

#[tokio::test]
async fn a_watch_begins_with_a_heartbeat_and_gives_later_changes() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    let old = task(&server, &session_id, "true").await;
    ended(&server, &old.background_id).await;
    let mut stream = watch(&server, "", None).await;
    assert_eq!(beginning(&mut stream).await, sequence(&server).await);
    let gate = Gate::new(&server, "watch");
    let new = task(&server, &session_id, &gate.command()).await;
    let first = next(&mut stream).await;
    assert_eq!(first.tasks[0].background_id, new.background_id);
    assert_eq!(first.tasks[0].state(), State::Running);
    gate.open();
    let changes = until_ended(&mut stream, 1).await;
    assert!(changes.iter().all(|task| task.background_id == new.background_id), "{changes:?}");
    assert_eq!(changes.last().map(v1::Task::state), Some(State::Succeeded));
}

#[tokio::test]
async fn nothing_is_missed_between_a_list_and_a_watch() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    let gate = Gate::new(&server, "list");
    let live = task(&server, &session_id, &gate.command()).await;
    let listed = sequence(&server).await;
    let mut expected = Vec::new();
    for _ in 0..5 {
        expected.push(task(&server, &session_id, "true").await.background_id);
    }
    ended(&server, &expected[4]).await;
    gate.open();
    let mut stream = watch(&server, "", Some(listed)).await;
    assert_eq!(beginning(&mut stream).await, listed);
    expected.push(live.background_id);
    let changes = until_ended(&mut stream, 6).await;
    for id in &expected {
        let last = changes.iter().rfind(|task| task.background_id == *id);
        assert_eq!(last.map(v1::Task::state), Some(State::Succeeded), "{id}");
    }
    // The same again, from the beginning: the newest state of each, in the order of the changes.
    let mut whole = watch(&server, "", Some(0)).await;
    assert_eq!(beginning(&mut whole).await, 0);
    let again = until_ended(&mut whole, 6).await;
    assert_eq!(again.len(), 6, "one for each: {again:?}");
    let order = |tasks: &[v1::Task]| -> Vec<String> {
        let over = tasks.iter().filter(|task| is_over(task));
        over.map(|task| task.background_id.clone()).collect()
    };
    assert_eq!(order(&again), order(&changes));
}

#[tokio::test]
async fn a_watch_is_resumed_where_it_was_cut() {
    let server = TestServer::start().await;
    let session_id = new_session(&server).await;
    let mut stream = watch(&server, "", None).await;
    beginning(&mut stream).await;
    task(&server, &session_id, "true").await;
    let last = loop {
        let change = next(&mut stream).await;
        if change.tasks.iter().any(is_over) {
            break change.watch_sequence;
        }
    };
    drop(stream);
    let second = task(&server, &session_id, "true").await;
    ended(&server, &second.background_id).await;
    let mut stream = watch(&server, "", Some(last)).await;
    beginning(&mut stream).await;
    let changes = until_ended(&mut stream, 1).await;
    assert!(changes.iter().all(|task| task.background_id == second.background_id), "{changes:?}");
}

#[tokio::test]
async fn a_watch_of_a_session_shows_its_tasks_only() {
    let server = TestServer::start().await;
    let (one, two) = (new_session(&server).await, new_session(&server).await);
    let mut stream = watch(&server, &one, None).await;
    beginning(&mut stream).await;
    for _ in 0..3 {
        let other = task(&server, &two, "true").await;
        ended(&server, &other.background_id).await;
    }
    let own = task(&server, &one, "true").await;
    let changes = until_ended(&mut stream, 1).await;
    assert!(changes.iter().all(|task| task.background_id == own.background_id), "{changes:?}");
    let mut whole = watch(&server, &two, Some(0)).await;
    beginning(&mut whole).await;
    let changes = until_ended(&mut whole, 3).await;
    assert!(changes.iter().all(|task| task.session_id == two), "{changes:?}");
}

#[tokio::test]
async fn a_silent_watch_says_that_it_is_alive_and_a_wrong_beginning_is_refused() {
    let server = TestServer::with(&[("heartbeat", "200ms")]).await;
    let session_id = new_session(&server).await;
    ended(&server, &task(&server, &session_id, "true").await.background_id).await;
    let mut stream = watch(&server, "", None).await;
    let begin = beginning(&mut stream).await;
    for _ in 0..2 {
        assert_eq!(beginning(&mut stream).await, begin);
    }
    for after in [begin + 1, i64::MAX] {
        let mut stream = watch(&server, "", Some(after)).await;
        let status = soon("an error", stream.message()).await.expect_err("refused");
        check_reason(&status, Code::OutOfRange, "SEQUENCE_AHEAD");
    }
    let request = v1::WatchRequest { session_id: String::new(), watch_sequence: Some(-1) };
    let status = server.tasks.clone().watch(request).await.expect_err("refused");
    check_reason(&status, Code::InvalidArgument, "INVALID_FIELD");
}
