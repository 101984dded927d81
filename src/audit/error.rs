//! Errors of an audit log that cannot be opened.

use std::io;
use std::path::PathBuf;

use crate::auth::OwnershipError;

/// The error of an audit log that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// A file could not be opened, read or written.
    #[error("the audit log {} cannot be opened: {cause}; mend that, or name another file in audit-file", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        cause: io::Error,
    },
    /// Another server writes the log.
    #[error(
        "the audit log {} is in use by another server: name another file in audit-file",
        path.display()
    )]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The file has other content.
    #[error(
        "{} is not an audit log, or its end is damaged: move it away, or name another file in audit-file",
        path.display()
    )]
    NotAnAuditLog {
        /// The file.
        path: PathBuf,
    },
    /// Others could read or change the file.
    #[error(transparent)]
    Ownership(#[from] OwnershipError),
}
