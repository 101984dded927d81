//! The port to credentials: who is calling.

mod open;
mod token;

use crate::model::Principal;

pub use open::OpenVerifier;
pub use token::{TokenError, TokenFile, TokenVerifier};

/// Why a caller isn't let in. It never says which part of a credential was wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// There is no credential.
    #[error(
        "no credentials: send metadata `authorization: Bearer <token>`; the server wrote its \
         token to the file that `callpark config` names as token_file"
    )]
    Missing,
    /// It is not one that this server knows.
    #[error("these credentials are not valid here: check the token")]
    Invalid,
}

/// Turns credentials into a principal.
pub trait Verifier: Send + Sync + 'static {
    /// Who sends this `authorization` value.
    fn verify(&self, authorization: Option<&str>) -> Result<Principal, AuthError>;
}
