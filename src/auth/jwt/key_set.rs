//! The keys of an issuer: a JSON Web Key Set (RFC 7517).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde_json::{Map, Value};

use super::config::JwtAlgorithm;

/// The sizes of RSA keys that are accepted, in bytes: 2048 to 8192 bits.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// Public keys of an issuer.
#[derive(Debug, Default)]
pub(super) struct KeySet {
    keys: Vec<Key>,
    /// The keys that are of no use here, each with its position, from 1, and the reason.
    pub(super) unusable: Vec<(usize, String)>,
}

/// A public key for signatures.
#[derive(Debug)]
struct Key {
    id: Option<String>,
    kind: KeyKind,
    /// The only algorithm that it may be used with, or `None` for each one of its kind.
    algorithm: Option<JwtAlgorithm>,
    key: DecodingKey,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyKind {
    Rsa,
    P256,
    P384,
    Ed25519,
}

impl KeySet {
    /// Parses a key set. A key that cannot be used costs no other key.
    ///
    /// # Errors
    ///
    /// The text is not a key set. The error says why.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        let document: Value =
            serde_json::from_slice(text).map_err(|error| format!("it is not JSON: {error}"))?;
        let keys = document.get("keys").and_then(Value::as_array);
        let keys = keys.ok_or("it is not a JSON Web Key Set: it has no list `keys`")?;
        let mut set = Self::default();
        for (index, key) in keys.iter().enumerate() {
            match Key::parse(key) {
                Ok(key) => set.keys.push(key),
                Err(reason) => set.unusable.push((index + 1, reason)),
            }
        }
        Ok(set)
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Returns the key of a token, or `None` if it is unknown or there are several. Without ids, the only
    /// key for the algorithm is the one.
    pub(super) fn find(&self, id: Option<&str>, algorithm: JwtAlgorithm) -> Option<&DecodingKey> {
        let has_ids = self.keys.iter().any(|key| key.id.is_some());
        let id = id.filter(|_| has_ids);
        let is_right =
            |key: &&Key| key.fits(algorithm) && id.is_none_or(|id| key.id.as_deref() == Some(id));
        let mut fitting = self.keys.iter().filter(is_right);
        let key = fitting.next()?;
        fitting.next().is_none().then_some(&key.key)
    }
}

impl Key {
    fn parse(value: &Value) -> Result<Self, String> {
        let fields = value.as_object().ok_or("it is not an object")?;
        let id = text(fields, "kid")?.map(str::to_owned);
        if let Some(other) = text(fields, "use")?.filter(|purpose| *purpose != "sig") {
            return Err(format!("it is for another use, `{other}`"));
        }
        let operations = fields.get("key_ops").map(|list| list.as_array().into_iter().flatten());
        if operations.is_some_and(|mut all| !all.any(|operation| operation == "verify")) {
            return Err("`key_ops` does not have `verify`".to_owned());
        }
        let (kind, key) = public_key(fields)?;
        let algorithm = match text(fields, "alg")? {
            None => None,
            Some(name) => Some(
                JwtAlgorithm::from_label(name)
                    .filter(|algorithm| kind.fits(*algorithm))
                    .ok_or_else(|| format!("`alg` is `{name}`, which is not one for this key"))?,
            ),
        };
        Ok(Self { id, kind, algorithm, key })
    }

    fn fits(&self, algorithm: JwtAlgorithm) -> bool {
        self.kind.fits(algorithm) && self.algorithm.is_none_or(|only| only == algorithm)
    }
}

impl KeyKind {
    fn fits(self, algorithm: JwtAlgorithm) -> bool {
        let kind = match algorithm {
            JwtAlgorithm::Rs256
            | JwtAlgorithm::Rs384
            | JwtAlgorithm::Rs512
            | JwtAlgorithm::Ps256
            | JwtAlgorithm::Ps384
            | JwtAlgorithm::Ps512 => Self::Rsa,
            JwtAlgorithm::Es256 => Self::P256,
            JwtAlgorithm::Es384 => Self::P384,
            JwtAlgorithm::EdDsa => Self::Ed25519,
        };
        self == kind
    }
}

/// Returns the key in the fields of a JSON Web Key. Certificates, and URLs of them, are not looked at.
fn public_key(fields: &Map<String, Value>) -> Result<(KeyKind, DecodingKey), String> {
    let curve = text(fields, "crv")?.unwrap_or_default();
    match text(fields, "kty")?.unwrap_or_default() {
        "RSA" => {
            let (modulus, exponent) = (number(fields, "n")?, number(fields, "e")?);
            if !RSA_BYTES.contains(&modulus.len()) {
                let bits = modulus.len() * 8;
                return Err(format!("it has {bits} bits, and an RSA key must have 2048 to 8192"));
            }
            Ok((KeyKind::Rsa, DecodingKey::from_rsa_raw_components(&modulus, &exponent)))
        }
        "EC" if curve == "P-256" => Ok((KeyKind::P256, point(fields, 32)?)),
        "EC" if curve == "P-384" => Ok((KeyKind::P384, point(fields, 48)?)),
        "OKP" if curve == "Ed25519" => {
            Ok((KeyKind::Ed25519, DecodingKey::from_ed_der(&bytes(fields, "x", Some(32))?)))
        }
        "oct" => Err("it is a shared secret, not a public key".to_owned()),
        other => Err(format!("its type `{other}` `{curve}` is not supported")),
    }
}

/// Returns the key of a point on a curve, whose coordinates have this number of bytes.
fn point(fields: &Map<String, Value>, size: usize) -> Result<DecodingKey, String> {
    // Uncompressed, as SEC 1 has it.
    let mut point = vec![0x04];
    point.extend(bytes(fields, "x", Some(size))?);
    point.extend(bytes(fields, "y", Some(size))?);
    Ok(DecodingKey::from_ec_der(&point))
}

/// Returns the bytes of a number without leading zeros.
fn number(fields: &Map<String, Value>, name: &str) -> Result<Vec<u8>, String> {
    let bytes = bytes(fields, name, None)?;
    let number: Vec<u8> = bytes.into_iter().skip_while(|byte| *byte == 0).collect();
    if number.is_empty() { Err(format!("`{name}` is 0")) } else { Ok(number) }
}

fn bytes(fields: &Map<String, Value>, name: &str, size: Option<usize>) -> Result<Vec<u8>, String> {
    let text = text(fields, name)?.ok_or_else(|| format!("it has no `{name}`"))?;
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| format!("`{name}` is not base64url"))?;
    match size {
        Some(size) if bytes.len() != size => Err(format!("`{name}` does not have {size} bytes")),
        _ => Ok(bytes),
    }
}

fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, String> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("`{name}` is not a text")),
    }
}
