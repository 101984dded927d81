//! The key by which replicas know each other, and the headers that it authenticates.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::auth::AuthError;
use crate::model::{Principal, Tenant};

/// The header with the principal of a forwarded request: JSON in base64.
const PRINCIPAL: &str = "callpark-principal";

/// The header with the code that authenticates the principal and the method.
const CODE: &str = "callpark-forwarded";

/// The purpose of the codes, in front of what they authenticate: the key may have other uses.
const PURPOSE: &[u8] = b"callpark forwarded request\0";

/// The key that authenticates forwarded requests.
pub(super) struct ForwardKey(Hmac<Sha256>);

#[derive(Serialize, Deserialize)]
struct Sender {
    tenant: Tenant,
    name: Arc<str>,
}

impl ForwardKey {
    /// Creates the key with these random bytes.
    pub(super) fn new(bytes: &[u8; 32]) -> Self {
        // SHA-256 has blocks of 64 bytes: a shorter key is padded with zeros.
        let mut block = [0; 64];
        block[..bytes.len()].copy_from_slice(bytes);
        Self(Hmac::new(&block.into()))
    }

    fn code(&self, path: &str, sender: &str) -> Hmac<Sha256> {
        // The length keeps the two texts apart.
        let length = (path.len() as u64).to_be_bytes();
        self.0
            .clone()
            .chain_update(PURPOSE)
            .chain_update(length)
            .chain_update(path)
            .chain_update(sender)
    }

    /// Adds the headers of a request from `principal` for the method at `path`.
    pub(super) fn sign(&self, headers: &mut HeaderMap, path: &str, principal: &Principal) {
        let Principal { tenant, name } = principal;
        let sender = Sender { tenant: tenant.clone(), name: name.clone() };
        let sender = BASE64.encode(serde_json::to_vec(&sender).unwrap_or_default());
        let code = BASE64.encode(self.code(path, &sender).finalize().into_bytes());
        for (name, text) in [(PRINCIPAL, sender), (CODE, code)] {
            // Base64 is always a header value.
            headers.extend(
                HeaderValue::try_from(text)
                    .ok()
                    .map(|value| (http::HeaderName::from_static(name), value)),
            );
        }
    }

    /// Returns the principal of a request, or `None` if it has no code. Compares in constant time.
    pub(super) fn verify(
        &self,
        headers: &HeaderMap,
        path: &str,
    ) -> Option<Result<Principal, AuthError>> {
        let code = headers.get(CODE)?;
        let verified = || {
            let code = BASE64.decode(code).ok()?;
            let sender = headers.get(PRINCIPAL)?.to_str().ok()?;
            self.code(path, sender).verify_slice(&code).ok()?;
            let Sender { tenant, name } =
                serde_json::from_slice(&BASE64.decode(sender).ok()?).ok()?;
            Some(Principal { tenant, name })
        };
        Some(verified().ok_or(AuthError::Invalid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/callpark.v1.ToolRunner/RunTool";

    fn signed() -> (HeaderMap, Principal) {
        let principal = Principal { tenant: Tenant::new("Müller & Söhne"), name: "ü\n".into() };
        let mut headers = HeaderMap::new();
        ForwardKey::new(&[7; 32]).sign(&mut headers, PATH, &principal);
        (headers, principal)
    }

    #[test]
    fn a_principal_is_good_for_its_key_and_method_only() {
        let (headers, principal) = signed();
        let verify = |key, path| ForwardKey::new(&[key; 32]).verify(&headers, path);
        assert_eq!(verify(7, PATH), Some(Ok(principal)));
        assert_eq!(verify(8, PATH), Some(Err(AuthError::Invalid)));
        assert_eq!(verify(7, "/callpark.v1.ToolRunner/RunTurn"), Some(Err(AuthError::Invalid)));
        assert_eq!(ForwardKey::new(&[7; 32]).verify(&HeaderMap::new(), PATH), None);
    }

    #[test]
    fn every_change_of_a_header_is_noticed() {
        let (headers, _) = signed();
        let key = ForwardKey::new(&[7; 32]);
        for name in [PRINCIPAL, CODE] {
            let value = headers.get(name).expect("a header").to_str().expect("text");
            for at in 0..value.len() {
                let other = if value.as_bytes()[at] == b'A' { "B" } else { "A" };
                let changed = format!("{}{other}{}", &value[..at], &value[at + 1..]);
                for text in [changed.as_str(), &value[..at]] {
                    let mut headers = headers.clone();
                    headers.insert(name, HeaderValue::try_from(text).expect("a value"));
                    assert_eq!(key.verify(&headers, PATH), Some(Err(AuthError::Invalid)), "{text}");
                }
            }
            let mut headers = headers.clone();
            headers.remove(name);
            assert!(!matches!(key.verify(&headers, PATH), Some(Ok(_))), "{name}");
        }
    }
}
