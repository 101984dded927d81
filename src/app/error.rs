//! Why a server can't start, or stopped.

use std::path::PathBuf;

use crate::app::config::ConfigError;
use crate::app::listener::BindError;
use crate::app::tls::TlsError;
use crate::auth::TokenError;
use crate::store::OpenError;
use crate::tool::RegistryError;

/// Why a server can't start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An address.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// An address that was taken can't be told.
    #[error("the address of a listener can't be read: {0}")]
    Address(std::io::Error),
    /// The folder of command tools.
    #[error("working-directory {0} is no folder that can be entered: make it, or name another")]
    WorkingDirectory(PathBuf),
    /// The files of TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The store.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A tool.
    #[error(transparent)]
    Tools(#[from] RegistryError),
    /// The models.
    #[error("the models can't be used together: {0}")]
    Models(String),
    /// What an older server left.
    #[error("what an older server left could not be put in order: {0}")]
    Recover(#[from] crate::engine::Error),
    /// The schema for reflection.
    #[error("the schema can't be served: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The transport.
    #[error("serving failed: {0}")]
    Serve(#[from] tonic::transport::Error),
}
