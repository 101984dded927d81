//! JSON Web Tokens: which are accepted, who their callers are, where keys come from, and how they end.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::support::program::Clients;
use crate::support::wire::only_reason;
use crate::support::{TestServer, soon, v1};
use signer::Signer;

mod accepted;
mod ending;
mod key_sets;
mod provider;
mod refused;
mod signer;

const ISSUER: &str = "https://login.example.com/";
const ALGORITHMS: &str = r#"["RS256", "PS256", "ES256", "ES384", "EdDSA"]"#;

/// A server that accepts the tokens of an issuer, whose keys are in a file.
struct Issued {
    server: TestServer,
    folder: tempfile::TempDir,
}

impl Issued {
    /// With these keys, and these lines in the table of the issuer.
    async fn new(keys: &[&Signer], lines: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        write_keys(folder.path(), keys.iter().map(|key| key.jwk()).collect());
        let place = format!("jwks_file = {:?}", folder.path().join("jwks.json"));
        let toml = table(&format!("{place}\nalgorithms = {ALGORITHMS}\n{lines}"));
        let server = TestServer::with_config(&toml, &[("max-header-list", "256KiB")]).await;
        Self { server, folder }
    }

    async fn caller(&self, token: &str) -> Result<v1::Caller, String> {
        caller(&self.server, token).await
    }
}

/// The table of the issuer.
fn table(lines: &str) -> String {
    format!(
        "[[jwt_issuers]]\nname = \"test\"\nissuer = \"{ISSUER}\"\naudience = [\"callpark\"]\n{lines}\n"
    )
}

fn write_keys(folder: &Path, keys: Vec<Value>) {
    let draft = folder.join("draft");
    std::fs::write(&draft, json!({ "keys": keys }).to_string()).expect("written");
    std::fs::rename(draft, folder.join("jwks.json")).expect("renamed");
}

/// The caller with a token, or the reason why it is refused.
async fn caller(server: &TestServer, token: &str) -> Result<v1::Caller, String> {
    let mut tools = Clients::new(&server.endpoint, token).tools;
    let answer = soon("an answer", tools.get_server_info(v1::GetServerInfoRequest {})).await;
    match answer {
        Ok(info) => Ok(info.into_inner().caller.expect("a caller")),
        Err(status) => Err(only_reason(&status).unwrap_or_else(|| panic!("{status:?}"))),
    }
}

/// The time in seconds.
#[expect(clippy::disallowed_methods, reason = "tokens have times of the wall clock")]
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_secs()
}

/// The claims of a token that is right.
fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": "callpark", "sub": "agent-7", "tenant": "acme",
        "scope": "openid read run", "iat": now(), "nbf": now(), "exp": now() + 3600,
    })
}

/// The same with some of them changed, or removed for `null`.
fn claims_with(changes: Value) -> Value {
    let mut claims = claims();
    for (name, value) in changes.as_object().expect("claims") {
        match value {
            Value::Null => drop(claims.as_object_mut().expect("claims").remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    claims
}
