//! JSON Web Tokens (RFC 7519) of identity providers as credentials, such as the access tokens of OpenID
//! Connect.
//!
//! A token is verified with the key set (RFC 7517) of its issuer, which a task keeps up to date: the
//! verification itself reads memory only.

mod claims;
mod config;
mod fetch;
mod issuer;
mod key_set;
mod provider;
mod verifier;

pub use config::{JwtAlgorithm, JwtIssuerConfig};
pub use verifier::JwtVerifier;

#[cfg(test)]
mod tests;
