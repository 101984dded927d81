//! Keys that sign tokens, as an identity provider does.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{
    self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair, RsaPublicKeyComponents,
};
use serde_json::{Value, json};

/// A key that signs.
pub struct Signer {
    pub id: &'static str,
    /// The name of its algorithm.
    pub algorithm: &'static str,
    key: Key,
}

enum Key {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl Signer {
    /// A key for `RS…` and `PS…`: always the same, as ring makes none.
    pub fn rsa(id: &'static str, algorithm: &'static str) -> Self {
        let text = include_str!("rsa-key.pkcs8.base64").replace('\n', "");
        let der = STANDARD.decode(text).expect("base64");
        Self { id, algorithm, key: Key::Rsa(RsaKeyPair::from_pkcs8(&der).expect("a key")) }
    }

    /// A new key for `ES256` or `ES384`.
    pub fn ec(id: &'static str, algorithm: &'static str) -> Self {
        let parameters = match algorithm {
            "ES256" => &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
            _ => &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
        };
        let random = SystemRandom::new();
        let der = EcdsaKeyPair::generate_pkcs8(parameters, &random).expect("a key");
        let key = EcdsaKeyPair::from_pkcs8(parameters, der.as_ref(), &random).expect("a key");
        Self { id, algorithm, key: Key::Ec(key) }
    }

    /// A new key for `EdDSA`.
    pub fn ed(id: &'static str) -> Self {
        let der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        let key = Ed25519KeyPair::from_pkcs8(der.as_ref()).expect("a key");
        Self { id, algorithm: "EdDSA", key: Key::Ed(key) }
    }

    /// The public key, as a key set has it.
    pub fn jwk(&self) -> Value {
        let mut jwk = match &self.key {
            Key::Rsa(key) => {
                let public = RsaPublicKeyComponents::<Vec<u8>>::from(key.public_key());
                json!({ "kty": "RSA", "n": encode(public.n), "e": encode(public.e) })
            }
            Key::Ec(key) => {
                let (x, y) = key.public_key().as_ref()[1..].split_at(self.public().len() / 2);
                let curve = if self.algorithm == "ES256" { "P-256" } else { "P-384" };
                json!({ "kty": "EC", "crv": curve, "x": encode(x), "y": encode(y) })
            }
            Key::Ed(key) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": encode(key.public_key()) })
            }
        };
        jwk["kid"] = self.id.into();
        jwk["use"] = "sig".into();
        jwk
    }

    /// The bytes of its public key.
    pub fn public(&self) -> &[u8] {
        match &self.key {
            Key::Rsa(key) => key.public_key().as_ref(),
            Key::Ec(key) => key.public_key().as_ref(),
            Key::Ed(key) => key.public_key().as_ref(),
        }
    }

    /// The header of its tokens.
    pub fn header(&self) -> Value {
        json!({ "typ": "at+jwt", "alg": self.algorithm, "kid": self.id })
    }

    /// A token with these claims.
    pub fn token(&self, claims: &Value) -> String {
        self.token_with(&self.header(), claims)
    }

    /// A token with this header and these claims, signed with its own algorithm.
    pub fn token_with(&self, header: &Value, claims: &Value) -> String {
        let message = message(header, claims);
        let signature = self.sign(message.as_bytes());
        format!("{message}.{}", encode(signature))
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.key {
            Key::Rsa(key) => {
                let padding: &dyn signature::RsaEncoding = match self.algorithm {
                    "PS256" => &signature::RSA_PSS_SHA256,
                    "RS512" => &signature::RSA_PKCS1_SHA512,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(padding, &random, message, &mut signature).expect("signed");
                signature
            }
            Key::Ec(key) => key.sign(&random, message).expect("signed").as_ref().to_vec(),
            Key::Ed(key) => key.sign(message).as_ref().to_vec(),
        }
    }
}

/// The part of a token that is signed.
pub fn message(header: &Value, claims: &Value) -> String {
    format!("{}.{}", encode(header.to_string()), encode(claims.to_string()))
}

pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
