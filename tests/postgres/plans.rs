//! The cost of reads and writes in a store with much history: no statement reads a whole table.

use std::collections::BTreeSet;

use callpark::model::{
    CallId, Delivery, FollowUp, FollowUpPut, FollowUpState, SessionState, State, ToolKind,
};
use callpark::store::{
    Append, CallQuery, ChangeQuery, DueQuery, DueScope, EventQuery, ExpiryPolicy, FollowUpQuery,
    OutputFrom, OutputQuery, OutputSelection, PostgresStore, SessionQuery, Store,
};

use crate::cluster::shared;
use crate::load::{append, at, session, tenant};

/// Rows of many other sessions, so many that no planner reads a table from its beginning to its end
/// for a few of them.
const HISTORY: &str = "
    INSERT INTO sessions SELECT n + 1000, gen_random_uuid(), 'tenant', 1, false, n, n, 5, 1, 0, 2, 3
        FROM generate_series(1, 20000) n;
    INSERT INTO session_bodies SELECT n + 1000, 'x' FROM generate_series(1, 20000) n;
    INSERT INTO events SELECT n % 20000 + 1001, n / 20000 + 1, 0, 1, 1, gen_random_uuid(), 0, 0, 0, 1,
        'x' FROM generate_series(0, 99999) n;
    INSERT INTO calls SELECT gen_random_uuid(), n % 20000 + 1001, 'tenant', true, false, 3, 1, n, 1 << 60,
        n, NULL, 'x' FROM generate_series(1, 40000) n;
    INSERT INTO outputs SELECT gen_random_uuid(), 1, 1, NULL, 0, 0, NULL, 1, 1, NULL
        FROM generate_series(1, 40000) n;
    INSERT INTO requests SELECT 'tenant', 'r' || n, 'x', 'x', n, gen_random_uuid(), gen_random_uuid()
        FROM generate_series(1, 40000) n;
    INSERT INTO messages SELECT n % 20000 + 1001, n / 20000, 'x' FROM generate_series(1, 40000) n;
    INSERT INTO follow_ups (call_id, session_key, session_id, tenant, state, create_time, due_kind,
            due_time, body)
        SELECT gen_random_uuid(), n % 20000 + 1001, gen_random_uuid(), 'tenant', 1, n, n % 3 + 1, 1 << 60,
            'x' FROM generate_series(1, 40000) n;
    INSERT INTO follow_up_tasks SELECT call_id, 'x' FROM follow_ups;
    ALTER SEQUENCE session_keys RESTART WITH 100000;
    ANALYZE;";

/// Returns the tables that have been read from the beginning to the end, as often as that has happened.
fn scans(database: &str) -> BTreeSet<String> {
    let sql = "SELECT relname || ' ' || seq_scan FROM pg_stat_user_tables
        WHERE relname IN ('sessions', 'session_bodies', 'events', 'calls', 'outputs', 'requests',
            'messages', 'follow_ups', 'follow_up_tasks')";
    shared().sql(database, sql).lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_statement_reads_a_whole_table() {
    let cluster = shared();
    let database = cluster.database();
    cluster.open(&database).await.close().await;
    let history = format!("SET search_path = callpark; {HISTORY}");
    cluster.sql(&database, &history);
    let before = scans(&database);
    let store = cluster.open(&database).await;
    // After some executions the database plans a statement once for all parameters.
    for _ in 0..8 {
        use_everything(&store).await;
    }
    // The statistics of a connection are complete when it ends.
    store.close().await;
    let opened = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'callpark%'
        AND datname = current_database()";
    while cluster.sql(&database, opened) != "0" {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(scans(&database), before);
}

async fn use_everything(store: &PostgresStore) {
    let mut session = session();
    let started = append(&session, None);
    let call = started.calls[0].clone();
    store.append(started).await.expect("stored");
    let record = FollowUp {
        due_time: Some(at(1)),
        state: FollowUpState::Pending,
        ..FollowUp::new(&call, Delivery::Engine, at(0))
    };
    session.state = SessionState::Closed;
    let put = FollowUpPut { record, task: Some(Box::new(call.clone())) };
    let next = Append { follow_ups: vec![put], ..append(&session, Some(1)) };
    let deleted_calls = vec![next.calls[0].id];
    store.append(next).await.expect("stored");
    let next = Append { deleted_calls, ..append(&session, Some(2)) };
    store.append(next).await.expect("stored");
    let session_id = session.id;
    read_records(store, session_id, call.id).await;
    for session_id in [None, Some(session_id)] {
        for states in [vec![], vec![State::Running, State::Succeeded]] {
            let kinds = vec![ToolKind::Command];
            let query = CallQuery { session_id, states, kinds, ..CallQuery::newest(tenant(), 2) };
            store.calls(query).await.expect("calls");
        }
        let query = ChangeQuery { tenant: tenant(), session_id, after: 39_990, limit: 2 };
        store.changes(query).await.expect("changes");
        let states = vec![FollowUpState::Pending];
        let query = FollowUpQuery { tenant: tenant(), session_id, states, cursor: None, limit: 2 };
        store.follow_ups(query).await.expect("follow-ups");
        let scope = DueScope::Lease(tenant(), session_id);
        store.due_follow_ups(DueQuery { scope, now: at(5), limit: 2 }).await.expect("due");
    }
    for scope in [DueScope::Session(session_id), DueScope::Leased] {
        store.due_follow_ups(DueQuery { scope, now: at(5), limit: 2 }).await.expect("due");
    }
    store.sessions_with_due_follow_ups(at(5), 2).await.expect("due");
    let states = vec![SessionState::Open, SessionState::Closed];
    let query = SessionQuery { states, ..SessionQuery::newest(tenant(), 2) };
    store.sessions(query).await.expect("sessions");
    store.sessions(SessionQuery::newest(tenant(), 2)).await.expect("sessions");
    let policy =
        ExpiryPolicy { now: at(-1), older_than: at(-1), session_events_max: 100, rows_max: 9 };
    store.expire(policy).await.expect("a round");
}

async fn read_records(
    store: &PostgresStore,
    session_id: callpark::model::SessionId,
    call_id: CallId,
) {
    store.session(session_id).await.expect("a session");
    store.call(call_id).await.expect("a call");
    store.live_calls(session_id).await.expect("calls");
    store.request(&tenant(), "none").await.expect("a request");
    store.messages(session_id, 100).await.expect("messages");
    store.messages_after(session_id, 0, 9, 100).await.expect("messages");
    store.follow_up(call_id).await.expect("a follow-up");
    store.follow_up_with_task(call_id).await.expect("a follow-up");
    store.leased_follow_ups(&tenant(), "r7").await.expect("follow-ups");
    for call_id in [None, Some(call_id)] {
        let (scan_max, bytes_max, kinds) = (100, 1_000, Vec::new());
        let query = EventQuery { session_id, after: 0, kinds, call_id, scan_max, bytes_max };
        store.events(query).await.expect("events");
    }
    for from in [OutputFrom::Offset(0), OutputFrom::Tail(9)] {
        for selection in [OutputSelection::Stdout, OutputSelection::Combined] {
            let query = OutputQuery { call_id, selection, from, bytes_max: 9 };
            store.output(query).await.expect("output");
        }
    }
}
