//! The port that verifies the credentials of callers.

mod open;
mod token;

use crate::model::Principal;

pub use open::OpenVerifier;
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

/// A verifier of credentials.
pub trait Verifier: Send + Sync + 'static {
    /// Returns the principal of a request with this `authorization` value.
    ///
    /// # Errors
    ///
    /// Returns an error if the credentials are missing or invalid.
    fn verify(&self, authorization: Option<&str>) -> Result<Principal, AuthError>;
}
