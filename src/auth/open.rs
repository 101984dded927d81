//! Access without credentials.

use std::sync::Arc;

use super::{AuthError, Credentials, Verifier};
use crate::model::{Principal, Tenant};

/// Accepts every caller as the tenant `local`. It is for addresses that only this machine reaches.
#[derive(Debug, Clone)]
pub struct OpenVerifier {
    principal: Principal,
}

impl Default for OpenVerifier {
    fn default() -> Self {
        let name: Arc<str> = "local".into();
        Self { principal: Principal { tenant: Tenant::new("local"), name } }
    }
}

impl Verifier for OpenVerifier {
    fn verify(&self, _credentials: &Credentials<'_>) -> Result<Principal, AuthError> {
        Ok(self.principal.clone())
    }
}
