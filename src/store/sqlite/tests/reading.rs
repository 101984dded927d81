//! Reads: bounded in time, and never a sort or a scan of a whole table.

use std::time::Duration;

use super::{options, plan, store, visit};
use crate::model::Call;
use crate::store::conformance::world::{SessionWriter, labels};
use crate::store::sqlite::SqliteStore;
use crate::store::sqlite::follow_up_lists::every_list_sql;
use crate::store::sqlite::lists::every_sql;
use crate::store::{CallQuery, ChangeQuery, SessionQuery, Store, StoreError};
use crate::telemetry::Metrics;

fn tasks(log: &SessionWriter) -> CallQuery {
    CallQuery::newest(log.session.tenant.clone(), 5)
}

#[tokio::test]
async fn a_read_that_takes_too_long_is_interrupted() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(directory.path());
    let store = SqliteStore::open_with(&options, Metrics::default(), Duration::ZERO).unwrap();
    let mut log = SessionWriter::stored(&store, 0).await;
    for _ in 0..10 {
        let calls: Vec<_> = (0..100).map(|n| log.task(n)).collect();
        log.put(&store, &calls).await;
    }
    let wide = CallQuery { labels: labels(&[("no", "such")]), ..tasks(&log) };
    for _ in 0..2 {
        let error = store.calls(wide.clone()).await.unwrap_err();
        let narrow = |cause: &str| cause.contains("narrow");
        assert!(matches!(&error, StoreError::Unavailable(c) if narrow(c)), "{error:?}");
    }
    // The reader is still good, and what is short has time enough.
    assert_eq!(store.calls(tasks(&log)).await.unwrap().calls.len(), 5);
    store.close().await;
}

#[tokio::test]
async fn lists_follow_an_index() {
    let (_directory, store) = store();
    visit(&store, |connection| {
        for sql in every_sql().into_iter().chain(every_list_sql()) {
            let plan = plan(connection, &sql);
            let text = plan.join("\n");
            assert!(!text.contains("TEMP B-TREE") && !text.contains("SCAN"), "{sql}\n{text}");
            // The index gives the order, and the states where there are some.
            let by_state = sql.contains("state = ");
            for step in plan.iter().filter(|step| step.contains("_by_")) {
                let ordered = step.contains("create_time") || step.contains("change_number");
                assert!(ordered && by_state == step.contains("state=?"), "{sql}\n{text}");
            }
        }
    })
    .await;
    store.close().await;
}

#[tokio::test]
async fn an_unreadable_record_leaves_the_others() {
    let (_directory, store) = store();
    let mut log = SessionWriter::stored(&store, 0).await;
    let other = SessionWriter::stored(&store, 1).await;
    let calls: Vec<_> = (0..3).map(|n| log.task(n)).collect();
    log.put(&store, &calls).await;
    let (bad, bad_session) = (calls[1].id, other.id());
    visit(&store, move |connection| {
        let spoil = "UPDATE calls SET body = '{' WHERE id = ?1";
        assert_eq!(connection.execute(spoil, [bad.as_bytes()]).unwrap(), 1);
        let spoil = "UPDATE session_bodies SET body = 'x'
             WHERE session_key = (SELECT key FROM sessions WHERE id = ?1)";
        assert_eq!(connection.execute(spoil, [bad_session.as_bytes()]).unwrap(), 1);
    })
    .await;
    let corrupt = |error: StoreError| matches!(error, StoreError::Corrupt(_));
    assert!(corrupt(store.call(bad).await.unwrap_err()));
    assert!(corrupt(store.session(bad_session).await.unwrap_err()));
    let ids = |calls: &[Call]| calls.iter().map(|call| call.id).collect::<Vec<_>>();
    let (first, last) = (calls[0].id, calls[2].id);

    let page = store.calls(tasks(&log)).await.unwrap();
    assert_eq!((ids(&page.calls), page.unreadable), (vec![last, first], vec![bad]));
    let labelled = CallQuery { labels: labels(&[("no", "such")]), ..tasks(&log) };
    let page = store.calls(labelled).await.unwrap();
    assert_eq!((page.calls.len(), page.unreadable), (0, vec![bad]));
    let page = store.calls(CallQuery { limit: 2, ..tasks(&log) }).await.unwrap();
    assert_eq!((ids(&page.calls), page.unreadable), (vec![last], vec![bad]));
    let page = store.calls(CallQuery { limit: 2, cursor: page.next, ..tasks(&log) }).await.unwrap();
    assert_eq!((ids(&page.calls), page.unreadable, page.next), (vec![first], vec![], None));

    let tenant = log.session.tenant.clone();
    let query = ChangeQuery { tenant: tenant.clone(), session_id: None, after: 0, limit: 2 };
    let page = store.changes(query.clone()).await.unwrap();
    assert_eq!((ids(&page.calls), page.unreadable, page.more), (vec![first], vec![bad], true));
    let page = store.changes(ChangeQuery { after: page.change, ..query }).await.unwrap();
    assert_eq!((ids(&page.calls), page.more), (vec![last], false));
    assert_eq!(ids(&store.live_calls(log.id()).await.unwrap()), [first, last]);

    let query = SessionQuery::newest(tenant, 5);
    let page = store.sessions(query).await.unwrap();
    assert_eq!((page.sessions.len(), page.unreadable), (1, vec![bad_session]));
    store.close().await;
}

#[tokio::test]
async fn many_reads_share_few_readers() {
    let (_directory, store) = store();
    let store = std::sync::Arc::new(store);
    let mut log = SessionWriter::stored(&*store, 0).await;
    log.write(&*store, 5).await;
    let mut reads = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (store, id) = (std::sync::Arc::clone(&store), log.id());
        reads.spawn(async move { store.session(id).await });
    }
    for session in reads.join_all().await {
        assert_eq!(session.unwrap().unwrap().head_sequence, 5);
    }
    store.close().await;
}
