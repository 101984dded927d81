//! The copy of a whole store from SQLite.

mod copies;
mod dump;
mod failures;
mod fill;
mod memory;
mod refusals;

use std::path::{Path, PathBuf};
use std::time::Duration;

use callpark::internals::telemetry::Metrics;
use callpark::store::{
    MigrateError, MigrationReport, PostgresOptions, SqliteOptions, SqliteStore, Synchronous,
    migrate_store,
};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::cluster::{Cluster, shared};

/// A store in SQLite, in a folder of its own.
pub(crate) struct Source {
    folder: TempDir,
}

impl Source {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.folder.path().join("callpark.db")
    }

    /// Opens the store.
    pub(crate) fn open(&self) -> SqliteStore {
        let synchronous = Synchronous::Normal;
        let options = SqliteOptions { path: self.folder.path().to_owned(), synchronous };
        SqliteStore::open(&options, Metrics::default()).expect("a store")
    }

    /// Runs SQL in the database, and returns the number of rows that it changes.
    pub(crate) fn sql(&self, sql: &str) -> usize {
        let database = Connection::open(self.database()).expect("a database");
        let changed = database.execute(sql, []).expect(sql);
        database.close().expect("closed");
        changed
    }

    /// Copies the store to a database.
    pub(crate) async fn copy(
        &self,
        cluster: &Cluster,
        database: &str,
    ) -> Result<MigrationReport, MigrateError> {
        self.copy_to(&cluster.local_url(database)).await
    }

    pub(crate) async fn copy_to(&self, url: &str) -> Result<MigrationReport, MigrateError> {
        let options =
            PostgresOptions { wait: Duration::from_secs(20), ..PostgresOptions::new(url) };
        migrate_store(self.path(), &options).await
    }

    /// Fails to copy the store, and returns the error.
    pub(crate) async fn refuse(&self, cluster: &Cluster, database: &str) -> MigrateError {
        self.copy(cluster, database).await.expect_err("an error")
    }
}

/// The tables with records.
pub(crate) const TABLES: [&str; 9] = [
    "session_bodies",
    "sessions",
    "events",
    "outputs",
    "calls",
    "requests",
    "messages",
    "follow_ups",
    "follow_up_tasks",
];

/// Returns the number of rows that a database has in all tables. A database without a store has none.
pub(crate) fn rows(database: &str) -> u64 {
    let cluster = shared();
    let exists = "SELECT to_regclass('callpark.sessions') IS NOT NULL";
    if cluster.sql(database, exists) == "f" {
        return 0;
    }
    let counts = TABLES.map(|table| format!("(SELECT count(*) FROM callpark.{table})"));
    let total = cluster.sql(database, &format!("SELECT {}", counts.join(" + ")));
    total.parse().expect("a number")
}

/// Removes the store in a database.
pub(crate) fn clear(database: &str) {
    shared().sql(database, "DROP SCHEMA IF EXISTS callpark CASCADE");
}
