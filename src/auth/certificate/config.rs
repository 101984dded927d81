//! The configuration of the callers that certificates stand for.

use serde::{Deserialize, Serialize};

use super::ClientCertificate;
use crate::auth::names::check_name;
use crate::model::{Pattern, Scope};

/// One `[[client_certificates]]` table: the certificates with some name, and who shows them. The first table
/// that a certificate fits decides.
///
/// ```toml
/// [[client_certificates]]
/// name = "billing"
/// uri = "spiffe://example.org/ns/billing/*"
/// tenant = "billing"
/// scopes = ["read", "run"]
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientCertificateConfig {
    /// The name of the callers, for records such as "cancelled by".
    pub name: String,
    /// The URI of the certificate, such as a SPIFFE id, in which `*` stands for any text. It must be the
    /// only URI of the certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<Pattern>,
    /// A DNS name of the certificate, in which `*` stands for any text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_name: Option<Pattern>,
    /// The common name of the certificate's subject, in which `*` stands for any text. It must be the only
    /// one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub common_name: Option<Pattern>,
    /// The tenant of the callers.
    pub tenant: String,
    /// The scopes of the callers. Default: all but `admin`.
    #[serde(default = "default_scopes")]
    pub scopes: Vec<Scope>,
}

fn default_scopes() -> Vec<Scope> {
    Scope::ALL.iter().copied().filter(|scope| *scope != Scope::Admin).collect()
}

impl ClientCertificateConfig {
    /// Validates the values that the types don't constrain.
    ///
    /// # Errors
    ///
    /// Fails with a description of the first invalid value.
    pub fn check(&self) -> Result<(), String> {
        check_name("name", &self.name)?;
        check_name("tenant", &self.tenant)?;
        let patterns: Vec<&Pattern> =
            [&self.uri, &self.dns_name, &self.common_name].into_iter().flatten().collect();
        if patterns.is_empty() {
            return Err(
                "set at least one of uri, dns_name and common_name: otherwise every certificate \
                        of the authority would fit"
                    .to_owned(),
            );
        }
        if patterns.iter().any(|pattern| pattern.as_str().is_empty()) {
            return Err("uri, dns_name and common_name must not be empty".to_owned());
        }
        if self.scopes.is_empty() {
            return Err("scopes must name at least one scope, such as \"read\"".to_owned());
        }
        Ok(())
    }

    /// Returns whether the table is for this certificate: all names that it gives must fit.
    pub(super) fn fits(&self, certificate: &ClientCertificate) -> bool {
        let only = |pattern: &Option<Pattern>, names: &[Option<String>]| match (pattern, names) {
            (None, _) => true,
            (Some(pattern), [Some(name)]) => pattern.matches(name),
            (Some(_), _) => false,
        };
        let any = |pattern: &Option<Pattern>, names: &[String]| {
            pattern.as_ref().is_none_or(|pattern| names.iter().any(|name| pattern.matches(name)))
        };
        only(&self.uri, &certificate.uris)
            && any(&self.dns_name, &certificate.dns_names)
            && only(&self.common_name, &certificate.common_names)
    }
}
