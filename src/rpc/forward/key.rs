//! The key by which replicas know each other, and the headers that it authenticates.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::auth::AuthError;
use crate::model::{Principal, Scope, Tenant, Timestamp};

/// The header with the principal of a forwarded request: JSON in base64.
const PRINCIPAL: &str = "callpark-principal";

/// The header with the code that authenticates the principal and the method.
const CODE: &str = "callpark-forwarded";

/// The longest time between the forwarding of a request and its arrival. Replicas know the time of their store
/// to a few milliseconds, and a new connection takes a second at most.
const AGE_MAX: Duration = Duration::from_secs(30);

/// The purpose of the codes, in front of what they authenticate: the key may have other uses.
const PURPOSE: &[u8] = b"callpark forwarded request\0";

/// The key that authenticates forwarded requests.
pub(super) struct ForwardKey(Hmac<Sha256>);

#[derive(Serialize, Deserialize)]
struct Sender {
    tenant: Tenant,
    name: Arc<str>,
    /// The scopes. A replica of another version may name none, or others.
    #[serde(default)]
    scopes: Vec<Cow<'static, str>>,
    /// The time of the store, in microseconds.
    time: i64,
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

    /// Adds the headers of a request from `principal` for the method at `path`, at this time of the store.
    pub(super) fn sign(
        &self,
        headers: &mut HeaderMap,
        path: &str,
        principal: &Principal,
        now: Timestamp,
    ) {
        let Principal { tenant, name, scopes } = principal;
        let time = now.as_micros();
        let scopes = scopes.iter().map(|scope| scope.as_str().into()).collect();
        let sender = Sender { tenant: tenant.clone(), name: name.clone(), scopes, time };
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

    /// Returns the principal of a request that arrives at this time of the store, or `None` if it has no code.
    /// Compares in constant time.
    pub(super) fn verify(
        &self,
        headers: &HeaderMap,
        path: &str,
        now: Timestamp,
    ) -> Option<Result<Principal, AuthError>> {
        let code = headers.get(CODE)?;
        let verified = || {
            let code = BASE64.decode(code).ok()?;
            let sender = headers.get(PRINCIPAL)?.to_str().ok()?;
            self.code(path, sender).verify_slice(&code).ok()?;
            let Sender { tenant, name, scopes, time } =
                serde_json::from_slice(&BASE64.decode(sender).ok()?).ok()?;
            let scopes = scopes.iter().filter_map(|scope| scope.parse::<Scope>().ok()).collect();
            let is_recent = now.as_micros().abs_diff(time) <= AGE_MAX.as_micros() as u64;
            is_recent.then_some(Principal { tenant, name, scopes })
        };
        Some(verified().ok_or(AuthError::Invalid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Scopes;

    const PATH: &str = "/callpark.v1.ToolRunner/RunTool";

    const NOW: Timestamp = Timestamp::from_micros(1_000_000_000);

    fn signed() -> (HeaderMap, Principal) {
        let principal = Principal {
            tenant: Tenant::new("Müller & Söhne"),
            name: "ü\n".into(),
            scopes: Scopes::ALL,
        };
        let mut headers = HeaderMap::new();
        ForwardKey::new(&[7; 32]).sign(&mut headers, PATH, &principal, NOW);
        (headers, principal)
    }

    #[test]
    fn a_principal_is_good_for_its_key_method_and_time_only() {
        let (headers, principal) = signed();
        let verify = |key, path, micros| {
            let now = Timestamp::from_micros(NOW.as_micros() + micros);
            ForwardKey::new(&[key; 32]).verify(&headers, path, now)
        };
        assert_eq!(verify(7, PATH, 0), Some(Ok(principal.clone())));
        assert_eq!(verify(8, PATH, 0), Some(Err(AuthError::Invalid)));
        let other = "/callpark.v1.ToolRunner/RunTurn";
        assert_eq!(verify(7, other, 0), Some(Err(AuthError::Invalid)));
        for (micros, expected) in
            [(30_000_000, Ok(principal)), (30_000_001, Err(AuthError::Invalid))]
        {
            assert_eq!(verify(7, PATH, micros), Some(expected.clone()), "later by {micros}");
            assert_eq!(verify(7, PATH, -micros), Some(expected), "earlier by {micros}");
        }
        assert_eq!(ForwardKey::new(&[7; 32]).verify(&HeaderMap::new(), PATH, NOW), None);
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
                    assert_eq!(
                        key.verify(&headers, PATH, NOW),
                        Some(Err(AuthError::Invalid)),
                        "{text}"
                    );
                }
            }
            let mut headers = headers.clone();
            headers.remove(name);
            assert!(!matches!(key.verify(&headers, PATH, NOW), Some(Ok(_))), "{name}");
        }
    }
}
