//! The port that verifies the credentials of callers.

mod certificate;
mod file_version;
#[cfg(feature = "jwt")]
pub mod jwt;
pub mod keys;
mod names;
mod open;
mod ownership;
mod peer;
mod random;
mod socket_user;
mod token;
mod verifiers;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::model::{Principal, Timestamp};

pub use certificate::{CertificateVerifier, ClientCertificate, ClientCertificateConfig};
pub(crate) use file_version::FileVersion;
pub use open::OpenVerifier;
pub use ownership::{GuardedFile, OwnershipError};
pub use peer::{Peer, PeerInfo};
pub use random::RandomError;
pub use socket_user::SocketUserVerifier;
pub use token::{TokenError, TokenFile, TokenVerifier};
pub use verifiers::Verifiers;

/// The reason why credentials are refused. The message never names the part that is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The request has no credentials.
    #[error(
        "no credentials: send metadata `authorization: Bearer <token>` with an API key, a JSON Web \
         Token, or the token that the server wrote to the file that `callpark config` names as token_file"
    )]
    Missing,
    /// The credentials are unknown to this server.
    #[error("these credentials are not valid here: check the token or the API key")]
    Invalid,
    /// The credentials were right, and their time is over.
    #[error(
        "these credentials have expired: show a new token, or ask the operator of the server for another key"
    )]
    Expired,
    /// The credentials were right, and were revoked.
    #[error("these credentials were revoked: ask the operator of the server for others")]
    Revoked,
}

impl AuthError {
    /// Returns the name of the reason in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Invalid => "invalid",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

/// The credentials of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Credentials<'a> {
    /// The value of the metadata `authorization`.
    pub authorization: Option<&'a str>,
    /// The peer of the connection, or `None` if it is not known.
    pub peer: Option<Peer>,
    /// The certificate that the client has shown in the handshake, or `None` if it has shown none.
    pub certificate: Option<&'a ClientCertificate>,
    /// The time of the request.
    pub time: Timestamp,
}

impl<'a> Credentials<'a> {
    /// Returns the text behind `Bearer`, or `None` if there are no credentials of this kind. The case of
    /// the scheme is ignored.
    pub fn bearer(&self) -> Option<&'a str> {
        let (scheme, text) = self.authorization?.trim_start().split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| text.trim())
    }
}

/// A caller whose credentials were verified.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The tenant, the name and the scopes of the caller.
    pub principal: Principal,
    /// The public id of the credentials, or `None` if they have none.
    pub credential_id: Option<Arc<str>>,
    /// The time from which the credentials are refused, and at which the requests that are open end, or
    /// `None` if they do not expire.
    pub expire_time: Option<Timestamp>,
    /// Is cancelled when the credentials are revoked, which ends the requests that are open. `None` for
    /// credentials that nothing revokes.
    pub ended: Option<CancellationToken>,
}

impl Caller {
    /// Returns a caller whose credentials have no id and no end.
    pub fn unlimited(principal: Principal) -> Self {
        Self { principal, credential_id: None, expire_time: None, ended: None }
    }
}

/// A verifier of one kind of credentials.
pub trait Verifier: Send + Sync + 'static {
    /// Returns the caller with these credentials, or `None` if they are of another kind.
    ///
    /// # Errors
    ///
    /// The credentials are of this kind, and are refused.
    fn verify(&self, credentials: &Credentials<'_>) -> Option<Result<Caller, AuthError>>;
}
