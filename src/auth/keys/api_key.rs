//! API keys: their text, and what is kept of them.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use sha2::{Digest as _, Sha256};

use crate::auth::random::{RandomError, random_hex};

/// The beginning of every key, by which people and secret scanners recognize one.
pub(in crate::auth) const KEY_PREFIX: &str = "cpk_";

/// The number of random bytes in the public part of a key, its id.
const ID_RANDOM_BYTES: usize = 6;

/// The length of an id.
const ID_BYTES: usize = KEY_PREFIX.len() + 2 * ID_RANDOM_BYTES;

/// The number of random bytes in the secret part of a key: 256 bits.
const SECRET_RANDOM_BYTES: usize = 32;

/// The id of a key, such as `cpk_4be0643f1d98`: the public beginning of its text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(String);

/// The error of a text that is no id of a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not the id of a key: it must be {KEY_PREFIX} and {digits} hexadecimal digits, as \
     `callpark keys list` shows it",
    digits = 2 * ID_RANDOM_BYTES
)]
pub struct KeyIdError(String);

impl KeyId {
    /// Returns the id and the text of a random key.
    ///
    /// # Errors
    ///
    /// The operating system provides no random numbers.
    pub(super) fn random() -> Result<(Self, String), RandomError> {
        let id = format!("{KEY_PREFIX}{}", random_hex::<ID_RANDOM_BYTES>()?);
        let text = format!("{id}_{}", random_hex::<SECRET_RANDOM_BYTES>()?);
        Ok((Self(id), text))
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for KeyId {
    type Err = KeyIdError;

    fn from_str(text: &str) -> Result<Self, KeyIdError> {
        // A whole key names itself, too.
        let id = match text.split_at_checked(ID_BYTES) {
            Some((id, rest)) if rest.is_empty() || rest.starts_with('_') => id,
            _ => "",
        };
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if id.strip_prefix(KEY_PREFIX).is_some_and(|digits| digits.bytes().all(is_digit)) {
            return Ok(Self(id.to_owned()));
        }
        // The token, or a secret without its id, is not for a message.
        Err(KeyIdError(text.chars().take(ID_BYTES).collect()))
    }
}

/// A SHA-256 of the text of a key, which is all that is kept of the text. A slow hash would protect no better: the text has 256 random
/// bits, which cannot be guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct KeyHash([u8; 32]);

impl KeyHash {
    /// Returns the hash of the text of a key.
    pub(super) fn of(text: &str) -> Self {
        Self(Sha256::digest(text).into())
    }

    /// Returns the hash that [`Display`](fmt::Display) has shown as `text`, or `None` if it is not one.
    pub(super) fn parse(text: &str) -> Option<Self> {
        BASE64.decode(text).ok()?.try_into().ok().map(Self)
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_begins_with_its_id_and_its_hash_is_that_of_its_text() {
        let (id, text) = KeyId::random().unwrap();
        assert!(text.starts_with(&format!("{id}_")), "{text}");
        assert_eq!(text.len(), id.as_str().len() + 1 + 64);
        // A person may give the whole key.
        assert_eq!((id.as_str().parse(), text.parse()), (Ok(id.clone()), Ok(id.clone())));
        let hash = KeyHash::of(&text);
        assert_eq!(KeyHash::parse(&hash.to_string()), Some(hash));
        let (other_id, other) = KeyId::random().unwrap();
        assert!(other_id != id && KeyHash::of(&other) != hash);
    }

    #[test]
    fn a_text_that_is_no_id_is_refused_and_repeated_in_part_only() {
        for text in ["", "cpk_", "4be0643f1d98", "cpk_4BE0643F1D98", "cpk_4be0643f1d9", "bg-1"] {
            assert!(text.parse::<KeyId>().is_err(), "{text}");
        }
        let secret = "0123456789abcdef0123456789abcdef";
        let error = secret.parse::<KeyId>().unwrap_err().to_string();
        assert!(!error.contains(secret) && error.contains("0123"), "{error}");
        assert_eq!(KeyHash::parse("AAAA"), None);
    }
}
