//! The writer: group commit, a full disk, a broken one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rusqlite::Connection;

use super::{hold, queue, store, visit};
use crate::model::limits::STORE_COMMIT_APPENDS_MAX;
use crate::store::conformance::world::{SessionWriter, conflict, event, read_log, sequences};
use crate::store::sqlite::{SqliteOptions, SqliteStore, Synchronous};
use crate::store::{Append, Store, StoreError};
use crate::telemetry::Metrics;

/// Counts the writer's commits from now on.
async fn count_commits(store: &SqliteStore) -> Arc<AtomicU32> {
    let commits = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&commits);
    let count = move || {
        counter.fetch_add(1, Ordering::Relaxed);
        false
    };
    visit(store, move |connection| drop(connection.commit_hook(Some(count)))).await;
    commits
}

#[tokio::test]
async fn waiting_appends_are_committed_together() {
    let (_directory, store) = store();
    let commits = count_commits(&store).await;
    let held = hold(&store).await;
    let mut answers = Vec::new();
    for n in 0..=STORE_COMMIT_APPENDS_MAX {
        answers.push(queue(&store, SessionWriter::new(n as i64).append()).await);
    }
    drop(held);
    for answer in answers {
        assert_eq!(answer.await, Ok(Ok(())));
    }
    assert_eq!(commits.load(Ordering::Relaxed), 2, "a full one, and one for the rest");
    store.close().await;
}

#[tokio::test]
async fn appends_in_one_commit_see_each_other() {
    let (_directory, store) = store();
    let commits = count_commits(&store).await;
    let held = hold(&store).await;
    let log = SessionWriter::new(0);
    let next = |head, sequence| Append {
        expected_head: head,
        events: vec![event(sequence)],
        ..log.append()
    };
    let mut answers = Vec::new();
    for append in [next(None, 1), next(None, 1), next(Some(1), 2), next(Some(1), 2)] {
        answers.push(queue(&store, append).await);
    }
    drop(held);
    let mut results = Vec::new();
    for answer in answers {
        results.push(answer.await.unwrap());
    }
    assert_eq!(results, [Ok(()), conflict(Some(1)), Ok(()), conflict(Some(2))]);
    assert_eq!(commits.load(Ordering::Relaxed), 1);
    assert_eq!(sequences(&read_log(&store, log.id()).await), [1, 2]);
    store.close().await;
}

#[tokio::test]
async fn a_bad_append_does_not_fail_its_neighbours() {
    let (_directory, store) = store();
    let trap = "CREATE TEMP TRIGGER trap BEFORE INSERT ON events WHEN NEW.sequence = 3
         BEGIN SELECT RAISE(ABORT, 'trapped'); END";
    visit(&store, move |connection| connection.execute_batch(trap).unwrap()).await;
    let held = hold(&store).await;
    let logs: Vec<SessionWriter> = (0..5).map(SessionWriter::new).collect();
    let mut answers = Vec::new();
    for (log, count) in logs.iter().zip([2, 2, 3, 2, 2]) {
        let events = (1..=count).map(event).collect();
        let calls = vec![log.task(0)];
        answers.push(queue(&store, Append { events, calls, ..log.append() }).await);
    }
    drop(held);
    for (n, (log, answer)) in logs.iter().zip(answers).enumerate() {
        let (result, stored) = (answer.await.unwrap(), read_log(&store, log.id()).await);
        match n {
            2 => {
                let trapped = |cause: &str| cause.contains("trapped");
                assert!(matches!(&result, Err(StoreError::Unavailable(c)) if trapped(c)));
                assert_eq!(stored.head, 0);
                assert_eq!(store.session(log.id()).await, Ok(None));
            }
            _ => {
                assert_eq!(result, Ok(()));
                assert_eq!(sequences(&stored), [1, 2]);
            }
        }
    }
    let change = |connection: &mut Connection| {
        let newest = crate::store::sqlite::lists::newest_change(connection);
        assert_eq!(newest, Ok(4), "the call that wasn't stored took no number");
    };
    visit(&store, change).await;
    assert_eq!(store.check().await, Ok(()));
    store.close().await;
}

#[tokio::test]
async fn writes_work_again_when_a_full_disk_has_space() {
    let (_directory, store) = store();
    let mut log = SessionWriter::stored(&store, 0).await;
    let limit = |pages| {
        visit(&store, move |connection: &mut Connection| {
            let sql = format!("PRAGMA max_page_count = {pages}");
            connection.query_row(&sql, [], |_| Ok(())).unwrap();
        })
    };
    // SQLite doesn't go below what there is.
    limit(1).await;
    let large = |log: &SessionWriter| {
        let sequence = log.head.unwrap_or(0) + 1;
        let bytes = bytes::Bytes::from(vec![0; 100_000]);
        let events = vec![crate::store::StoredEvent { bytes, ..event(sequence) }];
        Append { events, ..log.append() }
    };
    for _ in 0..2 {
        let error = store.append(large(&log)).await.unwrap_err();
        assert!(matches!(error, StoreError::Full(_)), "{error:?}");
    }
    assert_eq!(read_log(&store, log.id()).await.head, 0, "reads go on");
    assert_eq!(store.check().await, Ok(()));
    limit(1_000_000).await;
    log.commit(&store, large(&log)).await;
    log.write(&store, 1).await;
    assert_eq!(sequences(&read_log(&store, log.id()).await), [1, 2]);
    store.close().await;
}

#[tokio::test]
async fn after_a_failed_commit_nothing_is_written_any_more() {
    let (directory, store) = store();
    let mut log = SessionWriter::stored(&store, 0).await;
    log.write(&store, 1).await;
    let fail = |connection: &mut Connection| connection.commit_hook(Some(|| true)).map(drop);
    visit(&store, move |connection| fail(connection).unwrap()).await;
    let append = Append { events: vec![event(2)], ..log.append() };
    let broken = |error: StoreError| matches!(error, StoreError::Broken(_));
    assert!(broken(store.append(append.clone()).await.unwrap_err()));

    // Even when the next commit would work.
    let heal = |connection: &mut Connection| connection.commit_hook(None::<fn() -> bool>).map(drop);
    visit(&store, move |connection| heal(connection).unwrap()).await;
    assert!(broken(store.append(append).await.unwrap_err()));
    assert!(broken(store.append(SessionWriter::new(1).append()).await.unwrap_err()));
    assert!(broken(store.check().await.unwrap_err()));
    let policy = crate::store::conformance::world::keep_all();
    assert!(broken(store.expire(policy).await.unwrap_err()));
    assert_eq!(sequences(&read_log(&store, log.id()).await), [1], "reads go on");
    let wal = directory.path().join("callpark.db-wal");
    let before = std::fs::read(&wal).unwrap();
    store.close().await;
    assert_eq!(std::fs::read(&wal).unwrap(), before, "not even at the end");

    let store = SqliteStore::open(&super::options(directory.path()), Metrics::default()).unwrap();
    log.write(&store, 1).await;
    store.close().await;
}

#[tokio::test]
async fn closing_writes_queued_appends() {
    let (directory, store) = store();
    let held = hold(&store).await;
    let logs: Vec<SessionWriter> = (0..100).map(SessionWriter::new).collect();
    let mut answers = Vec::new();
    for log in &logs {
        answers.push(queue(&store, log.append()).await);
    }
    let release = async { drop(held) };
    tokio::join!(store.close(), release);
    for answer in answers {
        assert_eq!(answer.await, Ok(Ok(())));
    }
    let store = SqliteStore::open(&super::options(directory.path()), Metrics::default()).unwrap();
    for log in &logs {
        assert!(store.session(log.id()).await.unwrap().is_some());
    }
    store.close().await;
}

#[tokio::test]
async fn more_sessions_are_written_than_are_remembered() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    let options = SqliteOptions { path, synchronous: Synchronous::Normal };
    let store = SqliteStore::open(&options, Metrics::default()).unwrap();
    // Bodies of 256 KiB: 80 of them are more than the writer keeps.
    let mut logs: Vec<SessionWriter> = (0..80).map(SessionWriter::new).collect();
    for log in &mut logs {
        log.session.system_message = "x".repeat(256 * 1024).into();
        log.write(&store, 1).await;
    }
    for log in &mut logs {
        log.write(&store, 1).await;
        log.session.system_message = format!("{}y", log.session.system_message).into();
        log.save(&store).await;
    }
    for log in &logs {
        let session = store.session(log.id()).await.unwrap().unwrap();
        assert_eq!(session.head_sequence, 2);
        assert_eq!(session.system_message, log.session.system_message);
    }
    store.close().await;
}

#[tokio::test]
async fn the_write_ahead_log_stays_short() {
    let (directory, store) = store();
    let mut log = SessionWriter::stored(&store, 0).await;
    // 64 MiB of events.
    for _ in 0..64 {
        let first = log.head.unwrap_or(0) + 1;
        let bytes = bytes::Bytes::from(vec![0; 256 * 1024]);
        let large =
            |sequence| crate::store::StoredEvent { bytes: bytes.clone(), ..event(sequence) };
        let events = (first..first + 4).map(large).collect();
        log.commit(&store, Append { events, ..log.append() }).await;
    }
    let wal = directory.path().join("callpark.db-wal");
    let bytes = std::fs::metadata(&wal).unwrap().len();
    assert!(bytes < 24 * 1024 * 1024, "{bytes}");
    store.close().await;
}
