//! The errors of SQLite, sorted by their consequences.

use rusqlite::{ErrorCode, ffi};

use crate::store::StoreError;

/// An error of a read or an append inside a transaction.
#[derive(Debug)]
pub(super) enum SqliteError {
    /// The operation was refused, or a record is unreadable. The transaction is sound.
    Store(StoreError),
    /// SQLite failed.
    Sql(rusqlite::Error),
}

impl From<StoreError> for SqliteError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<rusqlite::Error> for SqliteError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

/// Converts an error for the caller of a read.
pub(super) fn for_reader(error: SqliteError) -> StoreError {
    let error = match error {
        SqliteError::Store(error) => return error,
        SqliteError::Sql(error) => error,
    };
    use rusqlite::Error as Sql;
    match (&error, error.sqlite_error_code()) {
        (_, Some(ErrorCode::OperationInterrupted)) => {
            StoreError::Unavailable("the query took too long: narrow its filter".to_owned())
        }
        (_, Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
        | (Sql::FromSqlConversionFailure(..) | Sql::InvalidColumnType(..), _) => {
            StoreError::Corrupt(error.to_string())
        }
        _ => StoreError::Unavailable(error.to_string()),
    }
}

/// Returns `None` for a record that cannot be read back.
pub(super) fn readable<T>(read: Result<T, SqliteError>) -> Result<Option<T>, StoreError> {
    match read.map_err(for_reader) {
        Ok(record) => Ok(Some(record)),
        Err(StoreError::Corrupt(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A transaction that failed, by the consequences for its appends and for later ones.
#[derive(Debug)]
pub(super) enum TransactionError {
    /// The disk is full: these appends fail, later ones are tried.
    Full(String),
    /// The disk cannot be trusted: nothing is written any more.
    Broken(String),
    /// Nothing was written, and no append is the cause.
    Busy(String),
    /// One of the appends may be the cause: each is retried in a transaction of its own.
    Rejected(String),
}

/// Classifies the error of a statement before the commit.
pub(super) fn at_statement(error: &rusqlite::Error) -> TransactionError {
    let text = error.to_string();
    match error.sqlite_error_code() {
        _ if is_full(error) => TransactionError::Full(text),
        Some(
            ErrorCode::SystemIoFailure
            | ErrorCode::DatabaseCorrupt
            | ErrorCode::NotADatabase
            | ErrorCode::CannotOpen
            | ErrorCode::ReadOnly
            | ErrorCode::PermissionDenied
            | ErrorCode::FileLockingProtocolFailed,
        ) => TransactionError::Broken(text),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => TransactionError::Busy(text),
        _ => TransactionError::Rejected(text),
    }
}

/// Classifies the error of a commit. It is unknown whether the pages reached the disk, and a second
/// sync would report success without having written them. So every error but a full disk is final.
pub(super) fn at_commit(error: &rusqlite::Error) -> TransactionError {
    match is_full(error) {
        true => TransactionError::Full(error.to_string()),
        false => TransactionError::Broken(error.to_string()),
    }
}

/// Returns whether there is no space for data, or for the shared index of the write-ahead log,
/// which SQLite reports as an I/O error although it holds nothing durable.
fn is_full(error: &rusqlite::Error) -> bool {
    let extended = error.sqlite_error().map(|error| error.extended_code);
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
        || extended == Some(ffi::SQLITE_IOERR_SHMSIZE)
}
