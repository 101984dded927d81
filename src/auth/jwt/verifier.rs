//! Access with JSON Web Tokens.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::future::join_all;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::claims::Refusal;
use super::config::{JwtAlgorithm, JwtIssuerConfig};
use super::issuer::Issuer;
use super::provider;
use crate::auth::{AuthError, Caller, Credentials, Verifier};
use crate::model::Timestamp;

/// The longest token that is looked at, in bytes.
const TOKEN_BYTES_MAX: usize = 16 << 10;

/// Accepts callers with a token of one of several issuers.
pub struct JwtVerifier {
    issuers: Vec<Arc<Issuer>>,
}

/// The fields of a token's header that matter. Keys, certificates, and URLs of them are no fields: a
/// token does not choose what it is verified with.
#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    typ: Option<String>,
}

impl Header {
    /// Returns whether the token may be an access token, and not one for a logout, for example.
    fn is_of_access_token(&self) -> bool {
        let typ = self.typ.as_ref().map(|typ| typ.to_ascii_lowercase());
        typ.is_none_or(|typ| {
            matches!(typ.strip_prefix("application/").unwrap_or(&typ), "jwt" | "at+jwt")
        })
    }
}

/// The claim that chooses the issuer. It is verified later, together with the others.
#[derive(Deserialize)]
struct IssuerClaim {
    iss: String,
}

impl JwtVerifier {
    /// Creates a verifier for these issuers, and reads their keys that are in files. Those behind URLs
    /// are fetched by [`JwtVerifier::keep_up`].
    ///
    /// # Errors
    ///
    /// An issuer cannot be used. The error is its name, and the reason.
    pub fn open(configs: &[JwtIssuerConfig]) -> Result<Self, (String, String)> {
        provider::install();
        let open = |config: &JwtIssuerConfig| {
            let issuer = Issuer::open(config.clone()).map(Arc::new);
            issuer.map_err(|reason| (config.name.clone(), reason))
        };
        Ok(Self { issuers: configs.iter().map(open).collect::<Result<_, _>>()? })
    }

    /// Keeps the keys of the issuers up to date until `over` is cancelled.
    pub(crate) async fn keep_up(&self, over: &CancellationToken) {
        join_all(self.issuers.iter().map(|issuer| issuer.clone().keep_up(over.clone()))).await;
    }

    fn caller(&self, token: &Token<'_>, now: Timestamp) -> Result<Caller, Refusal> {
        if !token.header.is_of_access_token() {
            return Err(Refusal::Invalid("its typ is not that of an access token"));
        }
        let algorithm = JwtAlgorithm::from_label(&token.header.alg)
            .ok_or(Refusal::Invalid("its algorithm is not supported"))?;
        let claim: IssuerClaim = decoded(token.payload)
            .ok_or(Refusal::Invalid("its claims have no iss, or are not JSON"))?;
        let mut issuers = self.issuers.iter();
        let issuer = issuers.find(|issuer| issuer.config.issuer == claim.iss);
        let issuer = issuer.ok_or(Refusal::Invalid("its iss is not that of a known issuer"))?;
        issuer.verify(token.text, algorithm, token.header.kid.as_deref(), now)
    }
}

/// A text in the form of a token.
struct Token<'a> {
    text: &'a str,
    header: Header,
    payload: &'a str,
}

impl<'a> Token<'a> {
    /// Returns the token, or `None` if the text is of another form.
    fn parse(text: &'a str) -> Option<Self> {
        let [header, payload, _signature] = parts(text)?;
        Some(Self { text, header: decoded(header)?, payload })
    }
}

fn parts(text: &str) -> Option<[&str; 3]> {
    let mut parts = text.split('.');
    let all = [parts.next()?, parts.next()?, parts.next()?];
    parts.next().is_none().then_some(all)
}

/// Returns the JSON of a part of a token, or `None` if it is not one.
fn decoded<T: for<'de> Deserialize<'de>>(part: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

impl Verifier for JwtVerifier {
    fn verify(&self, credentials: &Credentials<'_>) -> Option<Result<Caller, AuthError>> {
        let text = credentials.bearer()?;
        if text.len() > TOKEN_BYTES_MAX {
            let is_token = parts(text).is_some();
            return is_token.then_some(Err(AuthError::Invalid));
        }
        // Another text with two dots may be the token of the server.
        let token = Token::parse(text)?;
        Some(self.caller(&token, credentials.time).map_err(|refusal| {
            tracing::debug!(?refusal, "a JSON Web Token is refused");
            refusal.into()
        }))
    }
}
