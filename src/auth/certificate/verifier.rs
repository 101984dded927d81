//! Access with certificates of clients.

use super::{ClientCertificate, ClientCertificateConfig};
use crate::auth::{AuthError, Caller, Credentials, Verifier};
use crate::model::{Principal, Tenant, Timestamp};

/// Accepts callers by the certificate of their connection, if they send no other credentials.
pub struct CertificateVerifier {
    tables: Vec<(ClientCertificateConfig, Principal)>,
}

impl CertificateVerifier {
    /// Accepts the certificates of these tables.
    pub fn new(tables: &[ClientCertificateConfig]) -> Self {
        let principal = |table: &ClientCertificateConfig| Principal {
            tenant: Tenant::new(&table.tenant),
            name: table.name.as_str().into(),
            scopes: table.scopes.iter().copied().collect(),
        };
        Self { tables: tables.iter().map(|table| (table.clone(), principal(table))).collect() }
    }

    fn caller(
        &self,
        certificate: &ClientCertificate,
        now: Timestamp,
    ) -> Option<Result<Caller, AuthError>> {
        let (_, principal) = self.tables.iter().find(|(table, _)| table.fits(certificate))?;
        // TLS has looked at the time when the connection began.
        if certificate.expire_time <= now {
            return Some(Err(AuthError::Expired));
        }
        Some(Ok(Caller {
            principal: principal.clone(),
            credential_id: Some(certificate.id.as_str().into()),
            expire_time: Some(certificate.expire_time),
            ended: None,
        }))
    }
}

impl Verifier for CertificateVerifier {
    fn verify(&self, credentials: &Credentials<'_>) -> Option<Result<Caller, AuthError>> {
        let Credentials { authorization: None, certificate: Some(certificate), time, .. } =
            *credentials
        else {
            return None;
        };
        self.caller(certificate, time)
    }
}
