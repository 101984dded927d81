//! Damaged records of a store: each is an error of its own and leaves the others.

use rusqlite::Connection;

use crate::support::streams::{ended, new_session, started, tool_start};
use crate::support::waiting::park;
use crate::support::{TestServer, bash, check_reason, soon, v1};

/// Makes the body of a record unreadable while no server has the store open.
fn spoil(server: &TestServer, sql: &str, id: &str) {
    let store = Connection::open(server.folder().join("callpark.db")).expect("the store");
    let (_, digits) = id.split_once('-').expect("an id with a prefix");
    let digits = digits.replace('-', "");
    let sql = format!("{sql} = x'{digits}'");
    assert_eq!(store.execute(&sql, []).expect("spoiled"), 1, "{sql}");
}

const TASK: &str = "UPDATE calls SET body = '{' WHERE id";
const SESSION: &str = "UPDATE session_bodies SET body = '{'
    WHERE (SELECT id FROM sessions WHERE key = session_key)";

#[tokio::test]
async fn a_damaged_task_and_a_damaged_session_are_left_out_of_lists_and_named_by_id() {
    let mut server = TestServer::with(&[("admin-listen", "127.0.0.1:0")]).await;
    let session_id = new_session(&server).await;
    let other = new_session(&server).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let task = started(&server, tool_start(&session_id, bash("true"))).await;
        ended(&server, &task.background_id).await;
        ids.push(task.background_id);
    }
    server.stop().await;
    spoil(&server, TASK, &ids[1]);
    spoil(&server, SESSION, &other);
    let server = server.restart().await;

    let answer = soon("a list", server.tasks.clone().list(v1::ListRequest::default())).await;
    let page = answer.expect("an answer").into_inner();
    let listed: Vec<_> = page.tasks.iter().map(|task| &task.background_id).collect();
    assert_eq!((listed, page.unreadable_tasks), (vec![&ids[2], &ids[0]], 1));
    let request = v1::GetRequest { background_id: ids[1].clone() };
    let error = soon("a task", server.tasks.clone().get(request)).await.expect_err("damaged");
    check_reason(&error, tonic::Code::DataLoss, "RECORD_DAMAGED");

    let request = v1::ListSessionsRequest::default();
    let answer = soon("a list", server.tools.clone().list_sessions(request)).await;
    let page = answer.expect("an answer").into_inner();
    assert_eq!((page.sessions.len(), page.unreadable_sessions), (1, 1));
    let request = v1::GetSessionRequest { session_id: other };
    let error = soon("a session", server.tools.clone().get_session(request)).await;
    check_reason(&error.expect_err("damaged"), tonic::Code::DataLoss, "RECORD_DAMAGED");
    let metrics = server.http("/metrics").await;
    for record in ["task", "session"] {
        let line = format!("callpark_records_unreadable_total{{record=\"{record}\"}} 1");
        assert!(metrics.contains(&line), "{metrics}");
    }
}

#[tokio::test]
async fn a_server_starts_and_serves_when_a_session_with_a_live_call_is_damaged() {
    let mut server = TestServer::start().await;
    let damaged = new_session(&server).await;
    let task = started(&server, tool_start(&damaged, bash("true"))).await;
    ended(&server, &task.background_id).await;
    server.stop().await;
    spoil(&server, SESSION, &damaged);
    spoil(&server, "UPDATE calls SET live = 1 WHERE id", &task.background_id);
    let server = server.restart().await;
    park(&server, bash("sleep 0.1")).await;
}
