//! The copy of a whole store from SQLite to PostgreSQL.
//!
//! A thread reads the tables of the source, row by row, checks each row, and passes batches on. One
//! transaction writes them to the target. What it holds is then read back and compared with what was
//! read from the source.

mod batch;
mod error;
mod table;
mod value;

use std::path::{Path, PathBuf};

use tokio::sync::mpsc;

use super::PostgresOptions;
use super::postgres::{Import, ImportTransaction};
use super::sqlite::Source;

pub(in crate::store) use self::batch::Batch;
pub use self::error::MigrateError;
pub(in crate::store) use self::table::{
    CALLS, EVENTS, FOLLOW_UP_TASKS, FOLLOW_UPS, MESSAGES, OUTPUTS, REQUESTS, SESSION_BODIES,
    SESSIONS,
};
pub(in crate::store) use self::table::{ColumnType, TABLES, Table};
pub use self::value::TableContents;
pub(in crate::store) use self::value::Value;

/// The batches between the reader of the source and the writer. When there are so many, reading waits.
const BATCHES_MAX: usize = 2;

/// The result of the copy of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationReport {
    /// The tables, in the order in which they were copied.
    pub tables: Vec<TableReport>,
}

impl MigrationReport {
    /// Returns the number of rows that were copied.
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.target.rows).sum()
    }
}

/// The copy of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableReport {
    /// The name of the table.
    pub table: &'static str,
    /// The content that was read from the source.
    pub source: TableContents,
    /// The content that was read back from the target before the commit. It is the same.
    pub target: TableContents,
}

/// The parts of a store that are not in the rows of its tables.
pub(in crate::store) struct Metadata {
    /// The newest change number.
    pub(in crate::store) change: i64,
    pub(in crate::store) page_token_key: [u8; 32],
}

/// Copies the store in the SQLite database `from`, a file that ends in `.db` or the folder of
/// `callpark.db`, to the empty database `to`.
///
/// No server may be using either: both are locked until the end. The source is not changed. All rows are
/// written in one transaction, so that a copy that fails leaves an empty target, where it can be made
/// again. Before the commit, the target is read back, and the number of rows and a checksum of each table
/// are compared with those of the source. The memory that the copy takes does not depend on the size of
/// the store.
///
/// The copy is the same store at another place: what clients hold stays valid. Positions of readers do,
/// because the copy has every event under its sequence and every session under its stream epoch; the
/// store is refused if its files do not prove that it has what its readers have seen, since a start
/// would change the epochs. Positions of those who watch tasks do, because change numbers are copied,
/// and page tokens do, because their key is copied. Request ids stay taken. Running calls and leases are
/// copied as they are: a server that starts on the copy treats them as at any start. So only one of the
/// two stores may be used from then on.
///
/// # Errors
///
/// Fails if the source is in use, has another schema, is damaged, or may lack what its readers have
/// seen; if the target is in use or not empty; or if reading or writing fails. The target is then empty,
/// except after [`MigrateError::Unknown`].
pub async fn migrate_store(
    from: &Path,
    to: &PostgresOptions,
) -> Result<MigrationReport, MigrateError> {
    let from = from.to_owned();
    let source = blocking(&from, |from| Source::open(&from)).await?;
    let mut target = Import::open(to).await?;
    let transaction = target.begin().await?;
    let (source, read) = copy(source, &from, &transaction).await?;
    let written = transaction.finish(&source.metadata).await?;
    let tables = TABLES.iter().zip(read.into_iter().zip(written));
    let tables: Vec<_> = tables
        .map(|(table, (source, target))| TableReport { table: table.name, source, target })
        .collect();
    if let Some(report) = tables.iter().find(|report| report.source != report.target) {
        return Err(MigrateError::Difference {
            table: report.table,
            source_contents: report.source,
            target_contents: report.target,
        });
    }
    transaction.commit().await?;
    // No server can start on the source before the copy is complete.
    drop(source);
    Ok(MigrationReport { tables })
}

/// Copies the rows of all tables, and returns the source with their contents.
async fn copy(
    source: Source,
    path: &Path,
    transaction: &ImportTransaction<'_>,
) -> Result<(Source, Vec<TableContents>), MigrateError> {
    let (sender, mut batches) = mpsc::channel(BATCHES_MAX);
    let reading = blocking(path, move |_| {
        let read = source.export(|batch| sender.blocking_send(batch).is_ok());
        read.map(|read| (source, read))
    });
    let writing = async {
        while let Some(batch) = batches.recv().await {
            if let Err(error) = transaction.put(&batch).await {
                // The reader then stops at its next batch.
                batches.close();
                return Err(error);
            }
        }
        Ok(())
    };
    let (read, written) = tokio::join!(reading, writing);
    written?;
    read
}

/// Runs an operation on the source on a blocking thread.
async fn blocking<T: Send + 'static>(
    path: &Path,
    run: impl FnOnce(PathBuf) -> Result<T, MigrateError> + Send + 'static,
) -> Result<T, MigrateError> {
    let owned = path.to_owned();
    let result = tokio::task::spawn_blocking(move || run(owned)).await;
    result.unwrap_or_else(|cause| {
        Err(MigrateError::Unreadable { path: path.to_owned(), cause: cause.to_string() })
    })
}
