//! Copies that succeed: all that a store answers is the same.

use std::collections::BTreeMap;

use callpark::model::{
    Call, CallId, Delivery, FollowUp, FollowUpPut, SessionId, Timestamp, ToolKind,
};
use callpark::store::conformance::cases;
use callpark::store::{
    Append, CallQuery, DueQuery, DueScope, EventQuery, ExpiryPolicy, PostgresStore, SqliteStore,
    Store,
};

use futures::future::join_all;

use super::dump::{Ids, dump};
use super::fill::{empty, event, fill};
use super::{Source, TABLES, clear, rows};
use crate::cluster::shared;
use crate::load::{at, session};

/// A round by which a part of a store expires.
const EXPIRY: ExpiryPolicy = ExpiryPolicy {
    now: Timestamp::from_micros(1_005_110),
    older_than: Timestamp::from_micros(1_000_105),
    session_events_max: 9,
    rows_max: u32::MAX,
};

/// Copies a store, and checks that the copy answers the same.
async fn check_copy(source: &Source, database: &str) {
    let (from, to, _) = copied(source, database).await;
    from.close().await;
    to.close().await;
}

/// Copies a store, and checks that the copy answers the same. Returns both, open, and the ids in them.
async fn copied(source: &Source, database: &str) -> (SqliteStore, PostgresStore, Ids) {
    let ids = Ids::of(source);
    let report = source.copy(shared(), database).await.expect("a copy");
    let names: Vec<_> = report.tables.iter().map(|table| table.table).collect();
    assert_eq!(names, TABLES);
    assert!(report.tables.iter().all(|table| table.source == table.target), "{report:?}");
    assert_eq!(report.rows(), rows(database));
    let (from, to) = (source.open(), shared().open(database).await);
    let (expected, copied) = (dump(&from, &ids).await, dump(&to, &ids).await);
    expected.check(&copied);
    (from, to, ids)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_answers_like_its_source() {
    let source = Source::new();
    let store = source.open();
    fill(&store).await;
    store.close().await;
    let database = shared().database();
    let (from, to, ids) = copied(&source, &database).await;
    for table in TABLES {
        let sql = format!("SELECT count(*) > 0 FROM callpark.{table}");
        assert_eq!(shared().sql(&database, &sql), "t", "{table} is empty");
    }
    // What expires is decided by columns that no answer shows.
    let expired = from.expire(EXPIRY).await.expect("a round");
    for part in
        [expired.calls, expired.requests, expired.sessions, expired.follow_ups, expired.events]
    {
        assert!(part > 0, "{expired:?}");
    }
    assert_eq!(to.expire(EXPIRY).await, Ok(expired));
    dump(&from, &ids).await.check(&dump(&to, &ids).await);
    from.close().await;
    to.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_goes_on_where_its_source_stopped() {
    let source = Source::new();
    let store = source.open();
    let sessions = fill(&store).await;
    store.close().await;
    let database = shared().database();
    source.copy(shared(), &database).await.expect("a copy");
    let store = shared().open(&database).await;
    let old = &sessions[0];
    let stale =
        store.append(Append { events: vec![event(31, None, "31")], ..empty(old, Some(29)) });
    assert!(stale.await.is_err());
    let now = at(60);
    let task = Call {
        park_time: Some(now),
        ..Call::new(CallId::random(), old, "bash", ToolKind::Command, now)
    };
    let record = FollowUp { due_time: Some(at(50)), ..FollowUp::new(&task, Delivery::Engine, now) };
    let before = store.calls(CallQuery::newest(old.tenant.clone(), 1)).await;
    let next = Append {
        events: vec![event(31, None, "31")],
        calls: vec![task.clone()],
        follow_ups: vec![FollowUpPut { record: record.clone(), task: Some(Box::new(task)) }],
        ..empty(old, Some(30))
    };
    store.append(next).await.expect("stored");
    let after = store.calls(CallQuery::newest(old.tenant.clone(), 1)).await;
    assert_eq!(after.expect("a page").change, before.expect("a page").change + 1);
    let scope = DueScope::Session(old.id);
    let due = store.due_follow_ups(DueQuery { scope, now: at(50), limit: 100 });
    assert_eq!(due.await.expect("a page").records.last(), Some(&record), "it was stored last");
    let new = session();
    store.append(empty(&new, None)).await.expect("stored");
    assert!(store.session(new.id).await.expect("read").is_some());
    store.close().await;
}

/// Returns the files of a store with their contents.
fn files(source: &Source) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(source.path()).expect("a folder").map(|entry| {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        (name, std::fs::read(path).expect("a file"))
    });
    // The lock has the number of the process that took it.
    entries.filter(|(name, _)| !name.ends_with(".lock")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_source_stays_as_it_was() {
    let source = Source::new();
    let store = source.open();
    let sessions = fill(&store).await;
    store.close().await;
    let before = files(&source);
    source.copy(shared(), &shared().database()).await.expect("a copy");
    assert!(files(&source) == before, "a file has changed, or there is another one");
    let store = source.open();
    let session = store.session(sessions[0].id).await.expect("read").expect("a session");
    assert_eq!(session.stream_epoch, "epoch");
    store.close().await;
}

/// Copies the write-ahead log of a store while it is open, as a crash leaves it.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_left_in_the_log_is_copied() {
    let source = Source::new();
    let store = source.open();
    let session = session();
    let append = Append { events: vec![event(1, None, "kept")], ..empty(&session, None) };
    store.append(append).await.expect("stored");
    let crashed = files(&source);
    store.close().await;
    for (name, content) in &crashed {
        // In place: a database that is another file is a copy.
        std::fs::write(source.path().join(name), content).expect("written");
    }
    assert!(crashed.contains_key("callpark.db-wal"), "{:?}", crashed.keys());
    let database = shared().database();
    source.copy(shared(), &database).await.expect("a copy");
    assert_eq!(shared().sql(&database, "SELECT count(*) FROM callpark.events"), "1");
    let after = files(&source);
    for name in ["callpark.db", "callpark.db-wal", "callpark.db.continuity"] {
        assert!(after.get(name) == crashed.get(name), "{name} has changed");
    }
}

const STORIES_AT_ONCE: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn each_story_of_a_store_can_be_copied() {
    // Most of the time is spent waiting for disks.
    let shares = (0..STORIES_AT_ONCE).map(async |share| {
        let database = shared().database();
        for case in cases().iter().skip(share).step_by(STORIES_AT_ONCE) {
            let source = Source::new();
            case.check(&source.open()).await;
            check_copy(&source, &database).await;
            clear(&database);
        }
    });
    join_all(shares).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_an_earlier_epoch_keep_their_place() {
    let source = Source::new();
    let (mixed, former) = (session(), session());
    let store = source.open();
    for session in [&mixed, &former] {
        let events = (1..=3).map(|n| event(n, None, "former")).collect();
        store.append(Append { events, ..empty(session, None) }).await.expect("stored");
    }
    store.close().await;
    // Without it, the next start gives new epochs.
    std::fs::remove_file(source.path().join("callpark.db.continuity")).expect("removed");
    let store = source.open();
    let mixed = store.session(mixed.id).await.expect("read").expect("a session");
    assert_ne!(mixed.stream_epoch, "epoch");
    let events = vec![event(4, None, "present")];
    store.append(Append { events, ..empty(&mixed, Some(3)) }).await.expect("stored");
    store.close().await;
    let database = shared().database();
    check_copy(&source, &database).await;
    let store = shared().open(&database).await;
    for (session_id, after, is_former) in
        [(mixed.id, 2, true), (mixed.id, 3, false), (former.id, 2, true)]
    {
        assert_eq!(begins_with_former(&store, session_id, after).await, is_former, "{after}");
    }
    store.close().await;
}

/// Returns whether the events after a sequence begin with one of an earlier epoch.
async fn begins_with_former(store: &dyn Store, session_id: SessionId, after: u64) -> bool {
    let (scan_max, bytes_max, kinds) = (1, 1_000, Vec::new());
    let query = EventQuery { session_id, after, kinds, call_id: None, scan_max, bytes_max };
    store.events(query).await.expect("events").stream_epoch.is_some()
}

/// The store of an earlier version, whose events and records have no checksums.
const SCHEMA_4: &[u8] = include_bytes!("../../fixtures/schema-4.db");

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_an_earlier_version_is_copied_after_a_start() {
    let source = Source::new();
    std::fs::write(source.database(), SCHEMA_4).expect("written");
    let database = shared().database();
    let error = source.refuse(shared(), &database).await.to_string();
    assert!(error.contains("has schema 4") && error.contains("start the server"), "{error}");
    assert!(std::fs::read(source.database()).expect("a file") == SCHEMA_4, "it was changed");
    source.open().close().await;
    check_copy(&source, &database).await;
}
