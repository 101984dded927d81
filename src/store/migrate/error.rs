//! The errors of a copy.

use std::path::PathBuf;

use super::value::TableContents;
use crate::store::{OpenError, PostgresOpenError};

/// An error of the copy of a store. Unless it says otherwise, the target holds nothing, and the copy can
/// be made again.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// There is no store.
    #[error("there is no store at {path}: name the folder of the store, or its file callpark.db")]
    Missing {
        /// The database that was looked for.
        path: PathBuf,
    },
    /// A server uses the store.
    #[error(
        "the store {path} is in use{holder}: stop its server first, so that nothing is written while \
         it is copied"
    )]
    InUse {
        /// The database.
        path: PathBuf,
        /// The holder of the lock, as ` (process 123)`, or nothing if it is not known.
        holder: String,
    },
    /// The schema of the store is an older one.
    #[error(
        "the store {path} has schema {found}, and this program copies schema {known}: start the \
         server of this version on it once, which brings it up to date, and stop it again"
    )]
    Older {
        /// The database.
        path: PathBuf,
        /// The schema version of the database.
        found: u32,
        /// The version of this build.
        known: u32,
    },
    /// The store may not be what its readers have seen of it.
    #[error(
        "the store {path} may not be what clients have seen of it: {cause}; start the server on it \
         once, which gives its streams new epochs, and stop it again"
    )]
    Discontinuous {
        /// The database.
        path: PathBuf,
        /// The contradiction.
        cause: String,
    },
    /// The store cannot be opened.
    #[error(transparent)]
    Source(#[from] OpenError),
    /// The store cannot be read.
    #[error("cannot read the store {path}: {cause}")]
    Unreadable {
        /// The database.
        path: PathBuf,
        /// The error of SQLite.
        cause: String,
    },
    /// The store is damaged.
    #[error(
        "the store {path} is damaged: table {table}, {key}: {cause}; restore it from a backup, and \
         copy that"
    )]
    Damaged {
        /// The database.
        path: PathBuf,
        /// The table.
        table: &'static str,
        /// The row, by the ids in it.
        key: String,
        /// The damage.
        cause: String,
    },
    /// The database for the copy cannot be opened, or a server uses it.
    #[error(transparent)]
    Target(#[from] PostgresOpenError),
    /// The database for the copy has a store with records.
    #[error(
        "the database {name} has a store with rows in {tables}: name an empty database, or drop the \
         schema callpark of this one if its store is not needed"
    )]
    NotEmpty {
        /// The host, the port and the database.
        name: String,
        /// The tables with rows.
        tables: String,
    },
    /// The copy cannot be written.
    #[error("cannot write the copy to the database {name}: {cause}; nothing of it is kept")]
    Write {
        /// The host, the port and the database.
        name: String,
        /// The error of the database, and what to do.
        cause: String,
    },
    /// The connection was lost while the copy was committed.
    #[error(
        "the connection to the database {name} was lost while the copy was committed: {cause}; copy \
         again: a database that is not empty then has the whole copy"
    )]
    Unknown {
        /// The host, the port and the database.
        name: String,
        /// The error of the connection.
        cause: String,
    },
    /// The database does not hold what was written.
    #[error(
        "the copy is not the same: table {table} has {source_contents} in the store, and \
         {target_contents} in the database; nothing of it is kept"
    )]
    Difference {
        /// The table.
        table: &'static str,
        /// The content of the store.
        source_contents: TableContents,
        /// The content of the database.
        target_contents: TableContents,
    },
}
