//! Configurations of issuers that are refused, and why; and the times of tokens.

use serde_json::json;

use super::claims::{Claims, Refusal};
use super::{JwtAlgorithm, JwtIssuerConfig};
use crate::model::Timestamp;

const RIGHT: &str = r#"
    name = "test"
    issuer = "https://login.example.com/"
    audience = "callpark"
    jwks_url = "https://login.example.com/keys"
    tenant_claim = "tenant"
"#;

/// Returns the table with these lines in place of those of the same keys, or the reason why it is refused.
fn config(lines: &str) -> Result<JwtIssuerConfig, String> {
    let mut table: toml::Table = toml::from_str(RIGHT).unwrap();
    for (key, value) in toml::from_str::<toml::Table>(lines).unwrap() {
        // An empty text leaves the key out.
        match value.as_str() {
            Some("") => drop(table.remove(&key)),
            _ => drop(table.insert(key, value)),
        }
    }
    let config: JwtIssuerConfig =
        table.try_into().map_err(|error: toml::de::Error| error.message().to_owned())?;
    config.check().map(|()| config)
}

#[test]
fn a_table_has_defaults() {
    let config = config("").unwrap();
    assert_eq!(config.audience, ["callpark"]);
    assert_eq!(config.algorithms, [JwtAlgorithm::Rs256, JwtAlgorithm::Es256]);
    assert_eq!((config.leeway().as_secs(), &*config.name_claim), (30, "sub"));
}

#[test]
fn tables_that_would_let_in_others_are_refused_with_the_reason() {
    for (lines, words) in [
        ("algorithms = [\"HS256\"]", "`HS256`, which has a shared secret in place of a public key"),
        ("algorithms = [\"RS256\", \"none\"]", "`none`, which has no signature"),
        ("algorithms = [\"ES257\"]", "name some of RS256, RS384,"),
        ("algorithms = []", "at least one"),
        ("audience = []", "tokens for other services"),
        ("audience = [\"a\", \"\"]", "tokens for other services"),
        ("audience = 7", "a text or a list of texts"),
        ("audience = \"\"", "missing field `audience`"),
        ("issuer = \"\"", "missing field `issuer`"),
        ("name = \"a b\"", "the name must have"),
        ("leeway = \"301s\"", "leeway must be at most 5m"),
        ("jwks_file = \"/x\"", "either jwks_file or jwks_url"),
        ("jwks_url = \"\"", "either jwks_file or jwks_url"),
        ("jwks_url = \"http://login.example.com/keys\"", "must begin with https://"),
        ("jwks_url = \"http://127.0.0.1.example.com/keys\"", "must begin with https://"),
        ("jwks_url = \"file:///keys\"", "must begin with https://"),
        ("jwks_url = \"https://me:secret@example.com/\"", "must not have a user"),
        ("jwks_url = \"keys\"", "not a URL"),
        ("tenant = \"acme\"", "either tenant_claim or tenant"),
        ("tenant_claim = \"\"", "either tenant_claim or tenant"),
        ("tenant_claim = \"\"\ntenant = \"a b\"", "the tenant must have"),
        ("scopes = []", "at least one scope"),
        ("scopes = [\"fly\"]", "`fly`"),
        ("scopes = [\"read\"]\nscopes_claim = \"scp\"", "leave scopes_claim and scope_prefix out"),
        ("key = \"x\"", "unknown field `key`"),
    ] {
        let error = config(lines).err().unwrap_or_default();
        assert!(error.contains(words), "{lines}: {error}");
    }
    for url in ["http://127.0.0.1:1/keys", "http://[::1]:1/", "http://localhost/keys"] {
        assert!(config(&format!("jwks_url = {url:?}")).is_ok(), "{url}");
    }
}

#[test]
fn a_token_is_valid_from_its_begin_to_its_end_with_the_leeway() {
    let config = config("leeway = \"10s\"").unwrap();
    let claims = json!({ "tenant": "acme", "sub": "x", "nbf": 500, "iat": 500.5, "exp": 1000.25 });
    let claims = claims.as_object().unwrap();
    let at = |micros| {
        let caller = Claims { claims, config: &config }.caller(Timestamp::from_micros(micros));
        caller.map(|caller| caller.expire_time.map(Timestamp::as_micros))
    };
    assert_eq!(at(489_999_999), Err(Refusal::Invalid("nbf has not come")));
    assert_eq!(at(490_499_999), Err(Refusal::Invalid("iat has not come")));
    let end = 1_010_250_000;
    assert_eq!((at(490_500_000), at(end - 1)), (Ok(Some(end)), Ok(Some(end))));
    assert_eq!(at(end), Err(Refusal::Expired));
}
