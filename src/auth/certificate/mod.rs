//! Certificates of clients, which TLS has verified.

mod config;
mod verifier;

use sha2::{Digest as _, Sha256};
use x509_parser::error::X509Error;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::model::Timestamp;

pub use config::ClientCertificateConfig;
pub use verifier::CertificateVerifier;

/// The tag of a URI among the names of a certificate (RFC 5280, section 4.2.1.6).
const URI_TAG: u32 = 6;

/// The number of bytes of a fingerprint that stand in the id of a certificate.
const FINGERPRINT_BYTES: usize = 8;

/// The names in a certificate of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The URI names, such as a SPIFFE id. `None`: one that cannot be read.
    uris: Vec<Option<String>>,
    /// The DNS names.
    dns_names: Vec<String>,
    /// The common names of the subject. `None`: one that cannot be read.
    common_names: Vec<Option<String>>,
    /// The time from which it is not valid.
    expire_time: Timestamp,
    /// `cert_` and the beginning of the SHA-256 of the certificate.
    id: String,
}

impl ClientCertificate {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    ///
    /// The certificate has another form. It may still be one that TLS accepts.
    pub fn parse(der: &[u8]) -> Result<Self, X509Error> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|error| match error {
            x509_parser::nom::Err::Error(error) | x509_parser::nom::Err::Failure(error) => error,
            x509_parser::nom::Err::Incomplete(_) => X509Error::InvalidCertificate,
        })?;
        let (mut uris, mut dns_names) = (Vec::new(), Vec::new());
        let names = certificate.subject_alternative_name()?;
        for name in names.iter().flat_map(|extension| &extension.value.general_names) {
            match name {
                GeneralName::URI(uri) => uris.push(Some((*uri).to_owned())),
                GeneralName::Invalid(tag, _) if tag.0 == URI_TAG => uris.push(None),
                GeneralName::DNSName(name) => dns_names.push((*name).to_owned()),
                _ => {}
            }
        }
        let common_names = certificate.subject().iter_common_name();
        let common_names = common_names.map(|name| name.as_str().ok().map(str::to_owned));
        let seconds = certificate.validity().not_after.timestamp();
        let fingerprint = Sha256::digest(der);
        let digits = fingerprint.iter().take(FINGERPRINT_BYTES).map(|byte| format!("{byte:02x}"));
        Ok(Self {
            uris,
            dns_names,
            common_names: common_names.collect(),
            expire_time: Timestamp::from_micros(seconds.saturating_mul(1_000_000)),
            id: format!("cert_{}", digits.collect::<String>()),
        })
    }
}
