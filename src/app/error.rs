//! Errors of a server as a whole.

use std::path::PathBuf;

use crate::app::config::{ConfigError, SettingError};
use crate::app::listener::BindError;
use crate::app::tls::TlsError;
use crate::audit::AuditError;
use crate::auth::keys::KeyFileError;
use crate::auth::{OwnershipError, TokenError};
use crate::exec::{ProcError, ShimError};
use crate::store::OpenError;
use crate::tool::RegistryError;

/// The reason why a server cannot be built, or has stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An address.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The address of a listener.
    #[error("cannot read the address of a listener: {0}")]
    Address(std::io::Error),
    /// The folder of command tools.
    #[error(
        "working-directory {0} is not a folder that can be entered: create it, or name another"
    )]
    WorkingDirectory(PathBuf),
    /// The processes of this machine.
    #[error(transparent)]
    Proc(#[from] ProcError),
    /// The files of TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A folder that other users could change.
    #[error(transparent)]
    Ownership(#[from] OwnershipError),
    /// The token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The API keys.
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    /// The audit log.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The store.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database of PostgreSQL.
    #[cfg(feature = "postgres")]
    #[error(transparent)]
    OpenPostgres(#[from] crate::store::PostgresOpenError),
    /// The program cannot use PostgreSQL.
    #[error(
        "this program was built without the feature `postgres`: build it with that, or set store to \
         `sqlite`"
    )]
    NoPostgres,
    /// The running calls of an earlier server, or those of this one.
    #[error(transparent)]
    Shim(#[from] ShimError),
    /// A tool.
    #[error(transparent)]
    Tools(#[from] RegistryError),
    /// The models.
    #[error("the models cannot be used together: {0}")]
    Models(String),
    /// The calls of an earlier server.
    #[error("cannot recover the calls of an earlier server: {0}")]
    Recover(#[from] crate::engine::Error),
    /// The schema for reflection.
    #[error("cannot serve the schema: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The transport.
    #[error("serving failed: {0}")]
    Serve(#[from] tonic::transport::Error),
}

impl Error {
    /// Creates the error of a setting whose value cannot be used.
    pub(super) fn unusable(setting: &'static str, value: &str, reason: String) -> Self {
        Self::Config(SettingError::in_program(setting, value.to_owned(), reason).into())
    }

    /// Returns whether the server may start soon: another process uses an address or the store, or the
    /// database cannot be reached.
    pub fn is_in_use(&self) -> bool {
        match self {
            Self::Bind(error) => error.is_in_use(),
            Self::Audit(error) => matches!(error, AuditError::Locked { .. }),
            Self::Open(OpenError::Locked { .. } | OpenError::FolderLocked { .. }) => true,
            #[cfg(feature = "postgres")]
            Self::OpenPostgres(error) => error.is_in_use(),
            Self::Shim(error) => matches!(error, ShimError::Unreachable { .. }),
            _ => false,
        }
    }
}
