//! The port that verifies the credentials of callers.

mod open;
mod ownership;
mod peer;
mod socket_user;
mod token;

use crate::model::Principal;

pub use open::OpenVerifier;
pub use ownership::{GuardedFile, OwnershipError};
pub use peer::Peer;
pub use socket_user::SocketUserVerifier;
pub use token::{TokenError, TokenFile, TokenVerifier};

/// The reason why credentials are refused. The message never names the part that is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The request has no credentials.
    #[error(
        "no credentials: send metadata `authorization: Bearer <token>`; the server wrote its \
         token to the file that `callpark config` names as token_file"
    )]
    Missing,
    /// The credentials are unknown to this server.
    #[error("these credentials are not valid here: check the token")]
    Invalid,
}

impl AuthError {
    /// Returns the name of the reason in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Invalid => "invalid",
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
}

/// A verifier of credentials.
pub trait Verifier: Send + Sync + 'static {
    /// Returns the principal of a request with these credentials.
    ///
    /// # Errors
    ///
    /// Returns an error if the credentials are missing or invalid.
    fn verify(&self, credentials: &Credentials<'_>) -> Result<Principal, AuthError>;
}
