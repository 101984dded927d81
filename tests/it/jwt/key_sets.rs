//! The keys of an issuer, as they change.

use std::time::Duration;

use serde_json::{Value, json};

use super::provider::Provider;
use super::{Issued, Signer, caller, claims, table, write_keys};
use crate::support::{TestServer, advance, soon};

const INVALID: &str = "CREDENTIALS_INVALID";

/// Longer than the pause between two fetches.
const PAUSE: Duration = Duration::from_secs(31);

async fn server_of(provider: &Provider) -> TestServer {
    let place = format!("jwks_url = {:?}\ntenant_claim = \"tenant\"", provider.url());
    TestServer::with_config(&table(&place), &[]).await
}

/// Waits until the token is accepted.
async fn accepted(server: &TestServer, token: &str) {
    let accepted = async {
        while caller(server, token).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon("the token", accepted).await;
}

/// Waits until the provider was asked this often.
async fn requests(provider: &Provider, count: usize) {
    let asked = async {
        while provider.requests() < count {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon("a request for the keys", asked).await;
}

#[tokio::test]
async fn a_server_starts_without_its_provider_and_accepts_tokens_once_it_is_there() {
    let key = Signer::ec("a", "ES256");
    let provider = Provider::start(&[]).await;
    provider.answer("503 Service Unavailable", "");
    let server = server_of(&provider).await;
    requests(&provider, 1).await;
    let token = key.token(&claims());
    assert_eq!(caller(&server, &token).await, Err(INVALID.to_owned()));
    provider.show(&[&key]);
    advance(PAUSE).await;
    accepted(&server, &token).await;
}

#[tokio::test]
async fn an_unknown_key_is_looked_for_and_many_of_them_are_looked_for_once() {
    let (key, new) = (Signer::ec("a", "ES256"), Signer::ec("b", "ES256"));
    let provider = Provider::start(&[&key]).await;
    let server = server_of(&provider).await;
    accepted(&server, &key.token(&claims())).await;
    // A token that came before the first keys had asked for them.
    advance(PAUSE).await;
    accepted(&server, &key.token(&claims())).await;
    let before = provider.requests();
    provider.show(&[&key, &new]);
    for _ in 0..20 {
        assert_eq!(caller(&server, &new.token(&claims())).await, Err(INVALID.to_owned()));
    }
    advance(PAUSE).await;
    accepted(&server, &new.token(&claims())).await;
    let after = provider.requests();
    assert!(after <= before + 2, "{before} requests became {after}");
    // Keys that are known cost no request.
    advance(PAUSE).await;
    accepted(&server, &key.token(&claims())).await;
    assert_eq!(provider.requests(), after);
}

#[tokio::test]
async fn the_last_good_keys_stay_when_the_provider_fails() {
    let (key, unknown) = (Signer::ec("a", "ES256"), Signer::ec("b", "ES256"));
    let provider = Provider::start(&[&key]).await;
    let server = server_of(&provider).await;
    accepted(&server, &key.token(&claims())).await;
    let long = format!("{{\"keys\": [], \"x\": \"{}\"}}", "y".repeat(1 << 20));
    let failures =
        [("500 Oops", "{}"), ("200 OK", "<html>"), ("200 OK", "{\"keys\": 7}"), ("200 OK", &*long)];
    for (status, body) in failures {
        let before = provider.requests();
        provider.answer(status, body);
        let _ = caller(&server, &unknown.token(&claims())).await;
        advance(PAUSE).await;
        requests(&provider, before + 1).await;
        // The answer may still be on its way, and is again when it has come.
        advance(PAUSE).await;
        requests(&provider, before + 2).await;
        assert!(caller(&server, &key.token(&claims())).await.is_ok(), "{status} {body:.20}");
    }
}

#[tokio::test]
async fn keys_in_a_file_are_read_again_when_it_changes() {
    let (key, new) = (Signer::ec("a", "ES256"), Signer::ec("b", "ES256"));
    let issued = Issued::new(&[&key], r#"tenant_claim = "tenant""#).await;
    let (token, of_new) = (key.token(&claims()), new.token(&claims()));
    assert!(issued.caller(&token).await.is_ok());
    assert_eq!(issued.caller(&of_new).await, Err(INVALID.to_owned()));
    write_keys(issued.folder.path(), vec![new.jwk()]);
    accepted(&issued.server, &of_new).await;
    assert_eq!(issued.caller(&token).await, Err(INVALID.to_owned()), "the key was removed");
}

#[tokio::test]
async fn a_bad_key_costs_no_other() {
    let key = Signer::rsa("a", "RS256");
    let issued = Issued::new(&[], r#"tenant_claim = "tenant""#).await;
    let change = |field: &str, value: Value| {
        let mut jwk = key.jwk();
        jwk[field] = value;
        jwk
    };
    let bad = vec![
        json!(7),
        json!({}),
        change("n", json!("!")),
        change("n", json!("AQAB")),
        change("kty", json!("oct")),
        change("use", json!("enc")),
        change("alg", json!("ES256")),
        change("alg", json!("HS256")),
        change("key_ops", json!(["sign"])),
    ];
    write_keys(issued.folder.path(), bad.iter().cloned().chain([key.jwk()]).collect());
    accepted(&issued.server, &key.token(&claims())).await;
    // None of them is the key by itself.
    write_keys(issued.folder.path(), bad);
    let refused = async {
        while issued.caller(&key.token(&claims())).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon("the end of the key", refused).await;
}
