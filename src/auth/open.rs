//! Access without credentials.

use super::{AuthError, Caller, Credentials, Verifier};
use crate::model::{Principal, Tenant};

/// Accepts every caller as the tenant `local`. It is for addresses that only this machine reaches.
#[derive(Debug, Clone)]
pub struct OpenVerifier {
    principal: Principal,
}

impl Default for OpenVerifier {
    fn default() -> Self {
        Self { principal: Principal { tenant: Tenant::new("local"), name: "local".into() } }
    }
}

impl Verifier for OpenVerifier {
    fn verify(&self, _credentials: &Credentials<'_>) -> Option<Result<Caller, AuthError>> {
        Some(Ok(Caller::with_all_scopes(self.principal.clone())))
    }
}
