//! The configuration of the issuers of tokens.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use jsonwebtoken::Algorithm;
use reqwest::Url;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::auth::names::check_name;
use crate::model::{Scope, enum_table, span};

/// The default tolerance for clocks that differ.
const LEEWAY_DEFAULT: Duration = Duration::from_secs(30);

/// The largest tolerance for clocks that differ.
const LEEWAY_MAX: Duration = Duration::from_secs(5 * 60);

enum_table! {
    /// An algorithm of signatures. All of them have a public key: with a shared secret this server could
    /// issue tokens itself.
    pub enum JwtAlgorithm {
        /// RSA with PKCS #1 v1.5 and SHA-256.
        Rs256 => "RS256",
        /// RSA with PKCS #1 v1.5 and SHA-384.
        Rs384 => "RS384",
        /// RSA with PKCS #1 v1.5 and SHA-512.
        Rs512 => "RS512",
        /// RSA with PSS and SHA-256.
        Ps256 => "PS256",
        /// RSA with PSS and SHA-384.
        Ps384 => "PS384",
        /// RSA with PSS and SHA-512.
        Ps512 => "PS512",
        /// ECDSA on P-256 with SHA-256.
        Es256 => "ES256",
        /// ECDSA on P-384 with SHA-384.
        Es384 => "ES384",
        /// Ed25519.
        EdDsa => "EdDSA",
    }
}

impl JwtAlgorithm {
    pub(super) fn algorithm(self) -> Algorithm {
        match self {
            Self::Rs256 => Algorithm::RS256,
            Self::Rs384 => Algorithm::RS384,
            Self::Rs512 => Algorithm::RS512,
            Self::Ps256 => Algorithm::PS256,
            Self::Ps384 => Algorithm::PS384,
            Self::Ps512 => Algorithm::PS512,
            Self::Es256 => Algorithm::ES256,
            Self::Es384 => Algorithm::ES384,
            Self::EdDsa => Algorithm::EdDSA,
        }
    }
}

/// One `[[jwt_issuers]]` table: an identity provider, whose tokens are accepted.
///
/// ```toml
/// [[jwt_issuers]]
/// name = "keycloak"
/// issuer = "https://login.example.com/realms/main"
/// audience = "callpark"
/// jwks_url = "https://login.example.com/realms/main/protocol/openid-connect/certs"
/// tenant_claim = "organization"
/// scope_prefix = "callpark:"
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtIssuerConfig {
    /// The name of the issuer in the log.
    pub name: String,
    /// The claim `iss` of its tokens, character by character.
    pub issuer: String,
    /// The values of the claim `aud` that are for this server: one, or a list.
    #[serde(deserialize_with = "one_or_many")]
    pub audience: Vec<String>,
    /// The file with the keys of the issuer, a JSON Web Key Set. It is read again when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_file: Option<PathBuf>,
    /// The URL of the keys of the issuer. They are fetched every ten minutes, and when a token names a
    /// key that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_url: Option<String>,
    /// The algorithms that its tokens may be signed with. Default: RS256 and ES256.
    #[serde(default = "default_algorithms", deserialize_with = "algorithms")]
    pub algorithms: Vec<JwtAlgorithm>,
    /// The tolerance for clocks that differ, at most 5 min. Default: 30 s.
    #[serde(default, with = "span", skip_serializing_if = "Option::is_none")]
    pub leeway: Option<Duration>,
    /// The claim with the tenant of the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_claim: Option<String>,
    /// The tenant of all callers, in place of a claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The claim with the name of the caller. Default: `sub`.
    #[serde(default = "default_name_claim")]
    pub name_claim: String,
    /// The claim with the scopes of the caller: a text with spaces between them, or a list. Default:
    /// `scope`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes_claim: Option<String>,
    /// The beginning of the scopes that are for this server, such as `callpark:`. Others are ignored.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub scope_prefix: String,
    /// The scopes of all callers, in place of a claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<Scope>>,
}

/// The place of a key set.
#[derive(Debug, Clone)]
pub(super) enum KeySetPlace {
    File(PathBuf),
    Url(Url),
}

impl JwtIssuerConfig {
    /// Validates the values that the types don't constrain.
    ///
    /// # Errors
    ///
    /// Fails with a description of the first invalid value.
    pub fn check(&self) -> Result<(), String> {
        check_name("name", &self.name)?;
        if self.issuer.is_empty() {
            return Err("issuer must be the claim `iss` of the tokens".to_owned());
        }
        if self.audience.is_empty() || self.audience.iter().any(String::is_empty) {
            return Err(
                "audience must name at least one value of the claim `aud`: otherwise tokens for \
                        other services would be accepted"
                    .to_owned(),
            );
        }
        if self.algorithms.is_empty() {
            return Err("algorithms must name at least one, such as RS256".to_owned());
        }
        if self.leeway() > LEEWAY_MAX {
            return Err("leeway must be at most 5m".to_owned());
        }
        self.place()?;
        self.check_claims()
    }

    fn check_claims(&self) -> Result<(), String> {
        match (&self.tenant_claim, &self.tenant) {
            (Some(claim), None) if !claim.is_empty() => {}
            (None, Some(tenant)) => check_name("tenant", tenant)?,
            _ => return Err("set either tenant_claim or tenant, and not both".to_owned()),
        }
        if self.name_claim.is_empty() || self.scopes_claim.as_ref().is_some_and(String::is_empty) {
            return Err("name_claim and scopes_claim must not be empty".to_owned());
        }
        let Some(scopes) = &self.scopes else { return Ok(()) };
        if scopes.is_empty() {
            return Err("scopes must name at least one scope, such as \"read\"".to_owned());
        }
        if self.scopes_claim.is_some() || !self.scope_prefix.is_empty() {
            return Err(
                "scopes are those of all callers: leave scopes_claim and scope_prefix out".into()
            );
        }
        Ok(())
    }

    pub(super) fn leeway(&self) -> Duration {
        self.leeway.unwrap_or(LEEWAY_DEFAULT)
    }

    /// Returns the place of the key set.
    pub(super) fn place(&self) -> Result<KeySetPlace, String> {
        match (&self.jwks_file, &self.jwks_url) {
            (Some(file), None) => Ok(KeySetPlace::File(file.clone())),
            (None, Some(url)) => key_set_url(url).map(KeySetPlace::Url),
            _ => Err("set either jwks_file or jwks_url, and not both".to_owned()),
        }
    }
}

/// Returns the URL of a key set. Whoever can change the answer on its way can issue tokens.
fn key_set_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("jwks_url is not a URL: {error}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("jwks_url must not have a user or a password: key sets are public".to_owned());
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        _ => Err(
            "jwks_url must begin with https://, or with http:// and a loopback address such as \
                  127.0.0.1: whoever can change the keys on their way can let anybody in"
                .to_owned(),
        ),
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    address.map_or(host == "localhost", |address| address.to_canonical().is_loopback())
}

fn default_algorithms() -> Vec<JwtAlgorithm> {
    vec![JwtAlgorithm::Rs256, JwtAlgorithm::Es256]
}

fn default_name_claim() -> String {
    "sub".to_owned()
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a text or a list of texts is expected")]
    enum Audience {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Audience::deserialize(deserializer)? {
        Audience::One(audience) => vec![audience],
        Audience::Many(audiences) => audiences,
    })
}

fn algorithms<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<JwtAlgorithm>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    let algorithm = |name: &String| JwtAlgorithm::from_label(name).ok_or_else(|| refusal(name));
    names.iter().map(algorithm).collect::<Result<_, _>>().map_err(D::Error::custom)
}

fn refusal(name: &str) -> String {
    let all: Vec<&str> = JwtAlgorithm::ALL.iter().map(|algorithm| algorithm.as_str()).collect();
    let reason = match name {
        "none" => "has no signature, so that anybody could make a token",
        "HS256" | "HS384" | "HS512" => "has a shared secret in place of a public key",
        _ => "is not known",
    };
    format!("algorithms names `{name}`, which {reason}: name some of {}", all.join(", "))
}
