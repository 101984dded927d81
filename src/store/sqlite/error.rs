//! What can go wrong in SQLite, sorted by what follows from it.

use rusqlite::{ErrorCode, ffi};

use crate::store::StoreError;

/// Why a read or an append inside a transaction ended.
#[derive(Debug)]
pub(super) enum SqliteError {
    /// It was refused or found something unreadable; the transaction is sound.
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

/// A record whose JSON can't be read back.
pub(super) fn corrupt(what: &str, cause: &serde_json::Error) -> SqliteError {
    SqliteError::Store(StoreError::Corrupt(format!("{what}: {cause}")))
}

/// What a reader is told.
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

/// What a failed transaction means for the appends in it and for those to come.
#[derive(Debug)]
pub(super) enum TransactionError {
    /// No space: these appends fail, later ones are tried.
    Full(String),
    /// The disk can't be trusted: nothing is written any more.
    Broken(String),
    /// Nothing was tried, and none of them is to blame.
    Busy(String),
    /// One of the appends may be to blame: each is worth a transaction of its own.
    Rejected(String),
}

/// Judges a statement that failed before the commit.
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

/// Judges a commit that failed. Whether its pages reached the disk is unknown, and a second
/// sync would report success without having written them: so anything but a full disk is final.
pub(super) fn at_commit(error: &rusqlite::Error) -> TransactionError {
    match is_full(error) {
        true => TransactionError::Full(error.to_string()),
        false => TransactionError::Broken(error.to_string()),
    }
}

/// No space for data, or for the shared index of the write-ahead log, which SQLite reports as an
/// I/O error although nothing durable is at stake.
fn is_full(error: &rusqlite::Error) -> bool {
    let extended = error.sqlite_error().map(|error| error.extended_code);
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
        || extended == Some(ffi::SQLITE_IOERR_SHMSIZE)
}
