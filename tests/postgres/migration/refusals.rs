//! Copies that are refused: what is wrong is named, and nothing is written.

use callpark::store::{MigrateError, PostgresOpenError, PostgresOptions, Store, migrate_store};
use tempfile::TempDir;

use super::fill::fill;
use super::{Source, rows};
use crate::cluster::shared;
use crate::load::{append, session};

/// Returns a filled store that no server uses.
pub(crate) async fn filled() -> Source {
    let source = Source::new();
    let store = source.open();
    fill(&store).await;
    store.close().await;
    source
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_copy_to_the_same_database_is_refused() {
    let source = filled().await;
    let database = shared().database();
    source.copy(shared(), &database).await.expect("a copy");
    let before = rows(&database);
    let error = source.refuse(shared(), &database).await;
    assert!(matches!(error, MigrateError::NotEmpty { .. }), "{error}");
    let error = error.to_string();
    assert!(error.contains("rows in session_bodies, sessions, events"), "{error}");
    assert!(error.contains(&database) && error.contains("name an empty database"), "{error}");
    assert_eq!(rows(&database), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_with_a_row_in_any_table_is_refused() {
    let source = filled().await;
    let database = shared().database();
    shared().open(&database).await.close().await;
    let messages = "INSERT INTO callpark.messages VALUES (1, 1, 'x')";
    shared().sql(&database, messages);
    let error = source.refuse(shared(), &database).await.to_string();
    assert!(error.contains("has a store with rows in messages:"), "{error}");
    // A store that was opened and has nothing is empty.
    shared().sql(&database, "DELETE FROM callpark.messages");
    source.copy(shared(), &database).await.expect("a copy");
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_in_use_are_refused() {
    let source = Source::new();
    let store = source.open();
    let database = shared().database();
    let error = source.refuse(shared(), &database).await;
    assert!(matches!(error, MigrateError::InUse { .. }), "{error}");
    let expected = format!("is in use (process {}): stop its server", std::process::id());
    assert!(error.to_string().contains(&expected), "{error}");
    store.close().await;
    let server = shared().open(&database).await;
    let options = PostgresOptions::new(&shared().local_url(&database));
    let error = migrate_store(source.path(), &options).await.expect_err("in use");
    assert!(matches!(error, MigrateError::Target(PostgresOpenError::Locked { .. })), "{error}");
    server.append(append(&session(), None)).await.expect("the server goes on");
    server.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_not_there_is_not_made() {
    let folder = TempDir::new().expect("a folder");
    let options = PostgresOptions::new(&shared().local_url("postgres"));
    let error = migrate_store(folder.path(), &options).await.expect_err("nothing");
    assert!(matches!(error, MigrateError::Missing { .. }), "{error}");
    assert_eq!(folder.path().read_dir().expect("a folder").count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_may_lack_what_its_readers_have_seen_is_refused() {
    let source = filled().await;
    std::fs::remove_file(source.path().join("callpark.db.continuity")).expect("removed");
    let database = shared().database();
    let error = source.refuse(shared(), &database).await;
    assert!(matches!(error, MigrateError::Discontinuous { .. }), "{error}");
    let error = error.to_string();
    assert!(error.contains("is missing; start the server on it once"), "{error}");
    assert_eq!(rows(&database), 0);
    source.open().close().await;
    source.copy(shared(), &database).await.expect("a copy");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_or_foreign_database_is_refused() {
    let source = filled().await;
    let newer = "INSERT INTO refinery_schema_history (version, name, applied_on, checksum)
        VALUES (99, 'newer', '2030-01-01T00:00:00Z', '1')";
    source.sql(newer);
    let error = source.refuse(shared(), "postgres").await.to_string();
    assert!(error.contains("has schema 99"), "{error}");
    let foreign = Source::new();
    foreign.sql("CREATE TABLE mine (x INTEGER)");
    let error = foreign.refuse(shared(), "postgres").await.to_string();
    assert!(error.contains("is not a store of this server"), "{error}");
}

/// A damage of each table, with a part of the name of its row.
const DAMAGES: &[(&str, &str, &str)] = &[
    ("sessions", "UPDATE sessions SET state = 99999 WHERE key = 2", "session ses-"),
    (
        "session_bodies",
        "UPDATE session_bodies SET body = replace(body, 'closing', 'opening') WHERE session_key = 2",
        "session ses-",
    ),
    (
        "events",
        "UPDATE events SET bytes = CAST(bytes || x'00' AS BLOB) WHERE key = 7",
        ", event 7: event 7: its",
    ),
    ("events", "DELETE FROM events WHERE key = 7", "should have the events 1 to 30"),
    ("outputs", "UPDATE outputs SET call_id = x'00' WHERE key = 2", "row 2: column call_id"),
    ("calls", "UPDATE calls SET body = substr(body, 1, 90) WHERE key = 3", "call call-"),
    (
        "requests",
        "UPDATE requests SET effect = '{\"x\":1}' WHERE key = 4",
        "of tenant tenant: the record",
    ),
    ("messages", "UPDATE messages SET body = body || ' ' WHERE key = 9", ", message 9: the record"),
    ("follow_ups", "UPDATE follow_ups SET body = 'x' || body WHERE key = 5", "call call-"),
    ("follow_up_tasks", "UPDATE follow_up_tasks SET body = '' WHERE key = 6", "call call-"),
    ("follow_up_tasks", "DELETE FROM follow_ups WHERE key = 6", "its follow-up is missing"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_row_is_named() {
    let database = shared().database();
    for (table, damage, named) in DAMAGES {
        let source = filled().await;
        assert_eq!(source.sql(damage), 1, "{damage}");
        let error = source.refuse(shared(), &database).await;
        assert!(matches!(error, MigrateError::Damaged { .. }), "{damage}: {error}");
        let error = error.to_string();
        assert!(error.contains(&format!("table {table}, ")), "{damage}: {error}");
        assert!(error.contains(named), "{damage}: {error}");
        assert_eq!(rows(&database), 0, "{damage}");
    }
    filled().await.copy(shared(), &database).await.expect("a copy");
}
