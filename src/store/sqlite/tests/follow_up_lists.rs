//! Follow-ups: those that can't be read back, and how what is due is found.

use super::{plan, store, visit};
use crate::model::{CallId, FollowUp, FollowUpState, Lease};
use crate::store::conformance::world::{SessionWriter, at, tenant};
use crate::store::rules::Due;
use crate::store::sqlite::SqliteStore;
use crate::store::sqlite::follow_up_lists::every_due_sql;
use crate::store::{CallCursor, DueQuery, DueScope, DueSessions, FollowUpQuery, Store, StoreError};

/// Seven follow-ups of a session. Every other one of the first six is damaged.
async fn damaged(
    store: &SqliteStore,
    change: impl Fn(FollowUp) -> FollowUp,
) -> (SessionWriter, Vec<CallId>) {
    let mut log = SessionWriter::stored(store, 0).await;
    let mut tasks = Vec::new();
    for n in 0..7 {
        let task = log.ended(n, 9);
        let record = change(log.follow_up(&task, n));
        log.add_follow_up(store, &record, &task).await;
        tasks.push(task.id);
    }
    spoil(store, "UPDATE follow_ups SET body = '{}' WHERE call_id = ?1", tasks[0]).await;
    spoil(store, "UPDATE follow_ups SET body = 'x' WHERE call_id = ?1", tasks[2]).await;
    let not_text = "UPDATE follow_ups SET body = CAST(x'ff' AS TEXT) WHERE call_id = ?1";
    spoil(store, not_text, tasks[4]).await;
    (log, tasks)
}

async fn spoil(store: &SqliteStore, sql: &str, id: CallId) {
    let sql = sql.to_owned();
    visit(store, move |connection| {
        assert_eq!(connection.execute(&sql, [id.as_bytes()]), Ok(1));
    })
    .await;
}

fn ids<'a>(records: impl IntoIterator<Item = &'a FollowUp>) -> Vec<CallId> {
    records.into_iter().map(|record| record.call_id).collect()
}

fn is_corrupt<T>(result: Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Corrupt(_)))
}

#[tokio::test]
async fn a_list_names_unreadable_records() {
    let (_directory, store) = store();
    let (log, tasks) = damaged(&store, |record| record).await;
    let of_task = "(SELECT key FROM follow_ups WHERE call_id = ?1)";
    let lost = format!("DELETE FROM follow_up_tasks WHERE key = {of_task}");
    spoil(&store, &lost, tasks[1]).await;
    let garbage = format!("UPDATE follow_up_tasks SET body = '[]' WHERE key = {of_task}");
    spoil(&store, &garbage, tasks[5]).await;

    for (n, id) in tasks.iter().enumerate() {
        assert_eq!(is_corrupt(store.follow_up(*id).await), [0, 2, 4].contains(&n), "{n}");
        assert_eq!(is_corrupt(store.follow_up_with_task(*id).await), ![3, 6].contains(&n), "{n}");
    }
    let states = vec![FollowUpState::Pending, FollowUpState::Leased];
    for session_id in [None, Some(log.id())] {
        let cursor = None;
        let (tenant, states) = (tenant(), states.clone());
        let mut query = FollowUpQuery { tenant, session_id, states, cursor, limit: 3 };
        // Newest first, each on exactly one page.
        for (good, bad, last) in [
            (vec![tasks[6]], vec![tasks[5], tasks[4]], Some(4)),
            (vec![tasks[3]], vec![tasks[2], tasks[1]], Some(1)),
            (vec![], vec![tasks[0]], None),
        ] {
            let page = store.follow_ups(query.clone()).await.unwrap();
            let next = last.map(|n| CallCursor { create_time: at(n as i64), id: tasks[n] });
            let found = ids(page.follow_ups.iter().map(|follow_up| &follow_up.record));
            assert_eq!((found, page.unreadable, page.next), (good, bad, next));
            query.cursor = page.next;
        }
    }
    store.close().await;
}

#[tokio::test]
async fn an_unreadable_record_does_not_block_due_ones() {
    let (_directory, store) = store();
    let (mut log, tasks) = damaged(&store, |record| record).await;
    // A page of the size of the damage, and the damage comes first.
    let scope = DueScope::Session(log.id());
    let query = DueQuery { scope, now: at(5), limit: 3 };
    let page = store.due_follow_ups(query.clone()).await.unwrap();
    assert_eq!(ids(&page.records), [tasks[1], tasks[3], tasks[5]]);
    assert_eq!(page.unreadable, [tasks[0], tasks[2], tasks[4]]);
    assert_eq!(page.next, Some(at(6)));
    let found = store.sessions_with_due_follow_ups(at(0), 9).await;
    let sessions = vec![(tenant(), log.id())];
    assert_eq!(found, Ok(DueSessions { sessions, next: Some(at(1)) }));

    // A rewritten record is readable again.
    let mut task = log.ended(0, 9);
    task.id = tasks[0];
    let anew = FollowUp { state: FollowUpState::DeadLettered, ..log.follow_up(&task, 0) };
    log.put_follow_ups(&store, std::slice::from_ref(&anew)).await;
    assert_eq!(store.follow_up(tasks[0]).await, Ok(Some(anew)));
    let page = store.due_follow_ups(query).await.unwrap();
    assert_eq!(page.unreadable, [tasks[2], tasks[4]]);
    store.close().await;
}

#[tokio::test]
async fn an_unreadable_record_does_not_block_leases() {
    let (_directory, store) = store();
    let lease =
        Lease { token: String::new(), request_id: Some("r".to_owned()), consumer: String::new() };
    let leased =
        |record| FollowUp { state: FollowUpState::Leased, lease: Some(lease.clone()), ..record };
    let (_, tasks) = damaged(&store, leased).await;
    let good = [tasks[1], tasks[3], tasks[5], tasks[6]];
    assert_eq!(ids(&store.leased_follow_ups(&tenant(), "r").await.unwrap()), good);
    let query = DueQuery { scope: DueScope::Leased, now: at(9), limit: 9 };
    let page = store.due_follow_ups(query).await.unwrap();
    assert_eq!((ids(&page.records).len(), page.unreadable.len(), page.next), (4, 3, None));
    store.close().await;
}

#[tokio::test]
async fn due_follow_ups_are_found_through_an_index() {
    let (_directory, store) = store();
    visit(&store, |connection| {
        for sql in every_due_sql() {
            let text = plan(connection, &sql).join("\n");
            assert!(!text.contains("TEMP B-TREE") && !text.contains("SCAN"), "{sql}\n{text}");
            // The index knows the time, or the request.
            let narrow = text.contains("due_time<?") || text.contains("due_time>?");
            assert!(narrow || text.contains("lease_request=?"), "{sql}\n{text}");
        }
    })
    .await;
    store.close().await;
}

#[test]
fn the_schema_finds_due_follow_ups() {
    let schema = include_str!("../migrations/V4__follow_ups.sql");
    for (index, what) in
        [("deliver", Due::Delivery), ("lease", Due::Lease), ("lapse", Due::LeaseExpiry)]
    {
        let start = format!("CREATE INDEX follow_ups_to_{index} ");
        let end = format!(" WHERE due_kind = {};", what.number());
        assert!(schema.lines().any(|line| line.starts_with(&start) && line.ends_with(&end)));
    }
}
