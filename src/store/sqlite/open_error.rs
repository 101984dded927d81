//! Errors of the opening of a store.

use std::io;
use std::path::{Path, PathBuf};

/// An error of the opening of a store. The message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error(
        "the store {path} is used by another server{holder}: stop that one, or give this one a \
         store of its own"
    )]
    Locked {
        /// The store.
        path: PathBuf,
        /// The holder of the lock, as ` (process 123)`, or nothing if it is not known.
        holder: String,
    },
    /// Another server uses the data folder.
    #[error(
        "the data folder {path} is used by another server{holder}: stop that one, or name another \
         folder with data-dir"
    )]
    FolderLocked {
        /// The folder.
        path: PathBuf,
        /// The holder of the lock, as ` (process 123)`, or nothing if it is not known.
        holder: String,
    },
    /// A newer server has written it. It is not changed.
    #[error(
        "the store {path} has schema {found}, and this server knows none newer than {known}: start \
         the newer server again, or choose another store"
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// The schema version of the database.
        found: u32,
        /// The newest version that this build knows.
        known: u32,
    },
    /// The file is not a store. It is not changed.
    #[error("{path} is not a store of this server: choose another path")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The path cannot be written to.
    #[error(
        "cannot write the store at {path}: {cause}; make the path writable for this user, or \
         choose another"
    )]
    Unwritable {
        /// The file or folder that could not be created or written.
        path: PathBuf,
        /// The error of the system.
        cause: String,
    },
    /// The database was copied while its server ran, without the write-ahead log. It is not changed.
    #[error(
        "the store {path} is a copy that was made while its server ran, and the file {path}-wal \
         with the newest records is missing: copy that one as well, or accept that they are lost \
         and put the copy in with `callpark restore`; `callpark backup` makes whole copies"
    )]
    Incomplete {
        /// The database.
        path: PathBuf,
    },
    /// The database is damaged, or cannot be migrated to the schema of this build.
    #[error("cannot open the store {path}: {cause}; restore it from a backup, or choose another")]
    Unusable {
        /// The database.
        path: PathBuf,
        /// The error of the database.
        cause: String,
    },
}

pub(super) fn unwritable(path: &Path, cause: &io::Error) -> OpenError {
    OpenError::Unwritable { path: path.to_owned(), cause: cause.to_string() }
}
