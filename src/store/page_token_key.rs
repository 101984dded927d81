//! The key that authenticates page tokens.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// The length of an authentication code, in bytes: half of HMAC-SHA-256.
const CODE_LENGTH: usize = 16;

/// The key of a store that authenticates page tokens, so that callers cannot make them up. It stays
/// the same for as long as the store exists: a token outlives a restart of the server.
#[derive(Clone)]
pub struct PageTokenKey(Hmac<Sha256>);

impl PageTokenKey {
    /// Creates the key with these random bytes.
    pub fn new(bytes: &[u8; 32]) -> Self {
        // SHA-256 has blocks of 64 bytes: a shorter key is padded with zeros.
        let mut block = [0; 64];
        block[..bytes.len()].copy_from_slice(bytes);
        Self(Hmac::new(&block.into()))
    }

    /// Creates a new random key.
    pub fn random() -> Self {
        Self::new(&rand::random())
    }

    /// Returns the authentication code of a token that is bound to `context`.
    pub fn authenticate(&self, context: &[u8; 32], token: &[u8]) -> [u8; CODE_LENGTH] {
        let code = self.0.clone().chain_update(context).chain_update(token).finalize().into_bytes();
        let mut half = [0; CODE_LENGTH];
        half.copy_from_slice(&code[..CODE_LENGTH]);
        half
    }

    /// Returns the token behind its authentication code, or `None` if the code is another one.
    /// Compares in constant time.
    pub fn verify<'a>(&self, context: &[u8; 32], authenticated: &'a [u8]) -> Option<&'a [u8]> {
        let (code, token) = authenticated.split_at_checked(CODE_LENGTH)?;
        let mac = self.0.clone().chain_update(context).chain_update(token);
        mac.verify_truncated_left(code).ok().map(|()| token)
    }
}

impl fmt::Debug for PageTokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PageTokenKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_its_key_and_context_only() {
        let key = PageTokenKey::new(&[7; 32]);
        let mut sealed = key.authenticate(&[1; 32], b"here").to_vec();
        sealed.extend(b"here");
        assert_eq!(key.verify(&[1; 32], &sealed), Some(&b"here"[..]));
        assert_eq!(key.verify(&[2; 32], &sealed), None);
        assert_eq!(PageTokenKey::new(&[8; 32]).verify(&[1; 32], &sealed), None);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(key.verify(&[1; 32], &changed), None, "byte {at}");
            assert_eq!(key.verify(&[1; 32], &sealed[..at]), None, "cut at {at}");
        }
    }
}
