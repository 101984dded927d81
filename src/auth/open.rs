//! Access without credentials.

use super::{AuthError, Caller, Credentials, Verifier};
use crate::model::{Principal, Scopes, Tenant};

/// Accepts every caller as the tenant `local`. It is for addresses that only this machine reaches.
#[derive(Debug, Clone)]
pub struct OpenVerifier {
    principal: Principal,
}

impl Default for OpenVerifier {
    fn default() -> Self {
        let (tenant, name) = (Tenant::new("local"), "local".into());
        Self { principal: Principal { tenant, name, scopes: Scopes::ALL } }
    }
}

impl Verifier for OpenVerifier {
    fn verify(&self, _credentials: &Credentials<'_>) -> Option<Result<Caller, AuthError>> {
        Some(Ok(Caller::unlimited(self.principal.clone())))
    }
}
