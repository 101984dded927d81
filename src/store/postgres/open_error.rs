//! Errors of the opening of a database.

use std::path::PathBuf;

use crate::store::ReplicaId;

/// An error of the opening of a store. The message says what to do, and does not have the password.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL cannot be used.
    #[error("the URL of the database is not valid: {cause}; write postgres://USER@HOST/DATABASE")]
    Address {
        /// The error of the parser.
        cause: String,
    },
    /// The file with root certificates cannot be used.
    #[error("cannot read the root certificates in {path}: {cause}; name a PEM file")]
    Certificates {
        /// The file.
        path: PathBuf,
        /// The error.
        cause: String,
    },
    /// Another server has it open.
    #[error(
        "the database {name} is used by another server{holder}: stop that one, give this one a \
         database of its own, or set `advertise` for both, so that they share it"
    )]
    Locked {
        /// The host, the port and the database.
        name: String,
        /// The holder of the lock, as ` (at 10.0.0.1, process 123 of the database)`.
        holder: String,
    },
    /// Another replica has the address of this one.
    #[error(
        "the database {name} has a replica {other} with the address {address}: give each replica an \
         address of its own with `advertise`"
    )]
    AddressTaken {
        /// The host, the port and the database.
        name: String,
        /// The address of this replica.
        address: String,
        /// The id of the other replica.
        other: ReplicaId,
    },
    /// A newer server has written it. It is not changed.
    #[error(
        "the database {name} has schema {found}, and this server knows none newer than {known}: \
         start the newer server again, or choose another database"
    )]
    Newer {
        /// The host, the port and the database.
        name: String,
        /// The schema version of the database.
        found: i32,
        /// The newest version that this build knows.
        known: i32,
    },
    /// The database has not been reached within the time that is set.
    #[error(
        "the database {name} cannot be reached: {cause}; start it, or correct the address of the store"
    )]
    Unreachable {
        /// The host, the port and the database.
        name: String,
        /// The error of the connection.
        cause: String,
    },
    /// The database does not do what it should.
    #[error("cannot open the database {name}: {cause}")]
    Unusable {
        /// The host, the port and the database.
        name: String,
        /// The error of the database, and what to do.
        cause: String,
    },
}

impl OpenError {
    /// Returns whether the store may be opened soon: another server has it, or it cannot be reached.
    pub fn is_in_use(&self) -> bool {
        matches!(self, Self::Locked { .. } | Self::AddressTaken { .. } | Self::Unreachable { .. })
    }
}
