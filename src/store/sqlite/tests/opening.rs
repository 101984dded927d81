//! Opening: the owner of the store, its version, and its permissions.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::{options, store};
use crate::model::SessionState;
use crate::store::conformance::world::{SessionWriter, read_log};
use crate::store::sqlite::{OpenError, SqliteStore, schema};
use crate::store::{ChangeQuery, Store};
use crate::telemetry::Metrics;

/// Every file in a directory and its bytes.
fn files(directory: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
    entries.map(|entry| (entry.file_name(), fs::read(entry.path()).unwrap())).collect()
}

async fn changes(store: &SqliteStore, log: &SessionWriter) -> (usize, u64) {
    let tenant = log.session.tenant.clone();
    let query = ChangeQuery { tenant, session_id: None, after: 0, limit: 9 };
    let page = store.changes(query).await.unwrap();
    (page.calls.len(), page.change)
}

#[tokio::test]
async fn a_store_opened_again_shows_all_and_goes_on() {
    let (directory, store) = store();
    let mut log = SessionWriter::stored(&store, 0).await;
    log.write(&store, 3).await;
    let (one, two) = (log.task(0), log.task(1));
    log.put(&store, &[one.clone(), two.clone()]).await;
    let deleted_calls = vec![two.id];
    let append = crate::store::Append { deleted_calls, ..log.append() };
    log.commit(&store, append).await;
    let before = (store.session(log.id()).await, read_log(&store, log.id()).await);
    let code = store.page_token_key().authenticate(&[0; 32], b"token");
    store.close().await;
    assert!(!directory.path().join("callpark.db-wal").exists(), "all is in the database");

    let store = SqliteStore::open(&options(directory.path()), Metrics::default()).unwrap();
    assert_eq!((store.session(log.id()).await, read_log(&store, log.id()).await), before);
    assert_eq!(store.call(one.id).await, Ok(Some(one)));
    assert_eq!(store.page_token_key().authenticate(&[0; 32], b"token"), code);
    assert_eq!(changes(&store, &log).await, (1, 2), "the number of a deleted call isn't free");
    log.put(&store, &[log.task(2)]).await;
    log.write(&store, 1).await;
    assert_eq!(changes(&store, &log).await, (2, 3));
    assert_eq!(read_log(&store, log.id()).await.head, 4);
    store.close().await;
}

#[tokio::test]
async fn a_store_from_before_follow_ups_gets_them() {
    let (directory, store) = store();
    let mut log = SessionWriter::stored(&store, 0).await;
    let task = log.ended(0, 9);
    log.put_one(&store, &task).await;
    log.write(&store, 2).await;
    let before = (store.session(log.id()).await, read_log(&store, log.id()).await);
    store.close().await;
    let older = Connection::open(directory.path().join("callpark.db")).unwrap();
    older.execute_batch(BEFORE_FOLLOW_UPS).unwrap();
    older.close().unwrap();

    let store = SqliteStore::open(&options(directory.path()), Metrics::default()).unwrap();
    // The events have no checksums, and the records none either.
    let after = (store.session(log.id()).await, read_log(&store, log.id()).await);
    assert_eq!(after, before);
    assert_eq!(store.call(task.id).await, Ok(Some(task.clone())));
    let record = log.follow_up(&task, 5);
    log.add_follow_up(&store, &record, &task).await;
    assert_eq!(store.follow_up(task.id).await, Ok(Some(record)));
    store.close().await;
}

const BEFORE_FOLLOW_UPS: &str = "DROP TABLE follow_ups; DROP TABLE follow_up_tasks;
     DROP TABLE identity; ALTER TABLE events DROP COLUMN checksum;
     DELETE FROM counters WHERE name <> 'change';
     DELETE FROM refinery_schema_history WHERE version >= 4;
     UPDATE session_bodies SET body = json_remove(substr(body, 9), '$.follow_up');
     UPDATE calls SET body = substr(body, 9);";

#[tokio::test]
async fn a_kill_before_any_commit_of_a_migration_leaves_a_store_that_opens() {
    let older = tempfile::tempdir().unwrap();
    let mut connection = Connection::open(older.path().join("callpark.db")).unwrap();
    schema::migrate_to(&mut connection, 1).unwrap();
    connection.close().unwrap();
    for start in [None, Some(older.path())] {
        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join("callpark.db");
        if let Some(older) = start {
            fs::copy(older.join("callpark.db"), &database).unwrap();
        }
        let mut connection = Connection::open(&database).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        let snapshots = Arc::new(Mutex::new(Vec::new()));
        let (source, taken) = (directory.path().to_owned(), snapshots.clone());
        let copy = move || {
            let snapshot = tempfile::tempdir().unwrap();
            for name in ["callpark.db", "callpark.db-wal"] {
                fs::copy(source.join(name), snapshot.path().join(name)).unwrap();
            }
            taken.lock().unwrap().push(snapshot);
            false
        };
        connection.commit_hook(Some(copy)).unwrap();
        schema::migrate(&mut connection).unwrap();
        let snapshots = std::mem::take(&mut *snapshots.lock().unwrap());
        assert!(!snapshots.is_empty());
        for snapshot in snapshots {
            opens(snapshot.path()).await;
        }
    }
}

#[tokio::test]
async fn a_step_that_was_applied_but_not_recorded_is_recorded() {
    for version in 1..=schema::newest() {
        let directory = tempfile::tempdir().unwrap();
        let mut connection = Connection::open(directory.path().join("callpark.db")).unwrap();
        schema::migrate_to(&mut connection, version).unwrap();
        let forget = "DELETE FROM refinery_schema_history WHERE version = ?1";
        assert_eq!(connection.execute(forget, [version]).unwrap(), 1);
        connection.close().unwrap();
        opens(directory.path()).await;
    }
}

/// Opens a store and writes to it.
async fn opens(directory: &Path) {
    let store = SqliteStore::open(&options(directory), Metrics::default()).unwrap();
    let mut log = SessionWriter::stored(&store, 0).await;
    log.put_one(&store, &log.ended(0, 9)).await;
    store.close().await;
}

#[tokio::test]
async fn a_second_server_is_refused_and_the_first_unharmed() {
    let (directory, store) = store();
    let error = SqliteStore::open(&options(directory.path()), Metrics::default()).unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&directory.path().display().to_string()), "{text}");
    assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
    SessionWriter::stored(&store, 0).await;
    store.close().await;
    SqliteStore::open(&options(directory.path()), Metrics::default()).unwrap().close().await;
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_as_it_is() {
    let (directory, store) = store();
    SessionWriter::stored(&store, 0).await;
    store.close().await;
    let database = directory.path().join("callpark.db");
    let newer = Connection::open(&database).unwrap();
    newer.execute_batch(NEWER).unwrap();
    newer.close().unwrap();
    refused_as_newer(directory.path());

    // The same when the newer server crashed before its schema reached the database.
    let crashed = Connection::open(&database).unwrap();
    crashed.execute_batch("DELETE FROM refinery_schema_history WHERE version = 4000").unwrap();
    crashed.pragma_query(None, "wal_checkpoint", |_| Ok(())).unwrap();
    crashed.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    crashed.execute_batch(NEWER).unwrap();
    crashed.close().unwrap();
    let wal = directory.path().join("callpark.db-wal");
    assert!(fs::metadata(&wal).unwrap().len() > 0, "the log holds the newer version");
    refused_as_newer(directory.path());
}

const NEWER: &str = "INSERT INTO refinery_schema_history (version, name, applied_on, checksum)
     VALUES (4000, 'later', '2030-01-01T00:00:00Z', '1')";

fn refused_as_newer(directory: &Path) {
    let without_index = |directory| {
        let mut files = files(directory);
        files.remove(&OsString::from("callpark.db-shm"));
        files
    };
    let before = without_index(directory);
    let error = SqliteStore::open(&options(directory), Metrics::default()).unwrap_err();
    let OpenError::Newer { found, known, .. } = &error else { panic!("{error:?}") };
    assert_eq!((*found, *known), (4000, schema::newest()));
    assert!(error.to_string().contains("callpark.db"), "{error}");
    assert_eq!(without_index(directory), before);
}

#[test]
fn a_foreign_file_is_refused_and_not_changed() {
    let directory = tempfile::tempdir().unwrap();
    let text = directory.path().join("notes.db");
    fs::write(&text, "not a database, but long enough to be read as one".repeat(100)).unwrap();
    let other = directory.path().join("other.db");
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    for path in [text, other] {
        let before = fs::read(&path).unwrap();
        let error = SqliteStore::open(&options(&path), Metrics::default()).unwrap_err();
        assert!(matches!(error, OpenError::Foreign { .. }), "{error:?}");
        assert_eq!(fs::read(&path).unwrap(), before);
    }
}

#[test]
fn a_path_that_cannot_be_written_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let mut paths = vec![(file.join("store"), file.clone()), (file.join("store.db"), file)];
    // Permissions don't stop a superuser.
    let closed = directory.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o500)).unwrap();
    if fs::write(closed.join("probe"), "").is_err() {
        paths.push((closed.clone(), closed));
    }
    for (path, named) in paths {
        let error = SqliteStore::open(&options(&path), Metrics::default()).unwrap_err();
        assert!(matches!(error, OpenError::Unwritable { .. }), "{error:?}");
        assert!(error.to_string().contains(&named.display().to_string()), "{error}");
        assert!(!path.exists() || fs::read_dir(&path).unwrap().count() == 0);
    }
}

#[tokio::test]
async fn files_are_for_their_owner_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("deep").join("store");
    let store = SqliteStore::open(&options(&path), Metrics::default()).unwrap();
    SessionWriter::stored(&store, 0).await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    let names = files(&path).into_keys();
    let modes: BTreeMap<_, _> = names.map(|name| (name.clone(), mode(&path.join(name)))).collect();
    assert_eq!(modes.len(), 5, "{modes:?}");
    assert!(modes.values().all(|mode| *mode == 0o600), "{modes:?}");
    store.close().await;
}

#[tokio::test]
async fn a_path_that_ends_in_db_is_the_database() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("with space, ä and %41?x=1#.db");
    for _ in 0..2 {
        let store = SqliteStore::open(&options(&path), Metrics::default()).unwrap();
        SessionWriter::stored(&store, 0).await;
        store.close().await;
    }
    assert!(path.is_file());
}

#[test]
fn the_schema_knows_the_number_of_closed() {
    let (_directory, store) = store();
    let schema = include_str!("../migrations/V1__initial.sql");
    let number = SessionState::Closed.number();
    assert!(schema.contains(&format!("WHERE calls = 0 AND (state = {number} OR implicit = 1)")));
    drop(store);
}
