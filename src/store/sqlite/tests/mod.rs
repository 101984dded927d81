//! Tests of the errors that only SQLite can make. The rest is in the suite for every adapter.

mod damage;
mod follow_up_lists;
mod opening;
mod reading;
mod writing;

use std::path::Path;

use rusqlite::Connection;
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::writer::WriterCommand;
use super::{SqliteOptions, SqliteStore, Synchronous};
use crate::store::StoreError;
use crate::telemetry::Metrics;

fn options(path: &Path) -> SqliteOptions {
    SqliteOptions { path: path.to_owned(), synchronous: Synchronous::Full }
}

/// Opens a store in a new folder.
fn store() -> (TempDir, SqliteStore) {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&options(directory.path()), Metrics::default()).unwrap();
    (directory, store)
}

/// Runs a function on the writer's connection, in order with the appends.
async fn visit(store: &SqliteStore, visit: impl FnOnce(&mut Connection) + Send + 'static) {
    let (done, wait) = oneshot::channel();
    let visit = |connection: &mut Connection| {
        visit(connection);
        done.send(()).unwrap();
    };
    store.queue.sender().unwrap().send(WriterCommand::Visit(Box::new(visit))).await.unwrap();
    wait.await.unwrap();
}

/// Returns the query plan of a statement.
fn plan(connection: &Connection, sql: &str) -> Vec<String> {
    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let steps = statement.raw_query().mapped(|row| row.get(3));
    steps.collect::<rusqlite::Result<_>>().unwrap()
}

/// Blocks the writer until the result is dropped, so that commands queue up behind it.
async fn hold(store: &SqliteStore) -> std::sync::mpsc::SyncSender<()> {
    let (release, held) = std::sync::mpsc::sync_channel::<()>(0);
    let wait = move |_: &mut Connection| {
        // It fails when the sender is dropped, which ends the wait.
        let _ = held.recv();
    };
    store.queue.sender().unwrap().send(WriterCommand::Visit(Box::new(wait))).await.unwrap();
    release
}

/// Puts an append into the queue without waiting for its answer.
async fn queue(
    store: &SqliteStore,
    append: crate::store::Append,
) -> oneshot::Receiver<Result<(), StoreError>> {
    let (reply, answer) = oneshot::channel();
    let prepared = Box::new(crate::store::prepared::Prepared::new(append).unwrap());
    let command =
        WriterCommand::Append(crate::store::writer_queue::PendingAppend { prepared, reply });
    store.queue.sender().unwrap().send(command).await.unwrap();
    answer
}
