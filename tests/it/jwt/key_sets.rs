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

/// Lets pauses between fetches pass until this is true.
async fn after_pauses(what: &str, mut is_true: impl AsyncFnMut() -> bool) {
    for _ in 0..100 {
        if is_true().await {
            return;
        }
        advance(PAUSE).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{what}: not after a hundred pauses");
}

#[tokio::test]
async fn a_server_starts_without_its_provider_and_accepts_tokens_once_it_is_there() {
    let key = Signer::ec("a", "ES256");
    let provider = Provider::start(&[]).await;
    provider.answer("503 Service Unavailable", "");
    let server = server_of(&provider).await;
    let token = key.token(&claims());
    after_pauses("a fetch", async || provider.requests() > 1).await;
    assert_eq!(caller(&server, &token).await, Err(INVALID.to_owned()));
    provider.show(&[&key]);
    after_pauses("the token", async || caller(&server, &token).await.is_ok()).await;
}

#[tokio::test]
async fn an_unknown_key_is_looked_for_and_many_of_them_are_looked_for_once() {
    let [key, new, unknown] = ["a", "b", "c"].map(|id| Signer::ec(id, "ES256"));
    let provider = Provider::start(&[&key]).await;
    let server = server_of(&provider).await;
    accepted(&server, &key.token(&claims())).await;
    let before = provider.requests();
    provider.show(&[&key, &new]);
    for _ in 0..30 {
        let answer = caller(&server, &unknown.token(&claims())).await;
        assert_eq!(answer, Err(INVALID.to_owned()));
    }
    advance(PAUSE).await;
    accepted(&server, &new.token(&claims())).await;
    let count = provider.requests() - before;
    assert!((1..=3).contains(&count), "{count} requests");
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
        provider.answer(status, body);
        let before = provider.requests();
        let _ = caller(&server, &unknown.token(&claims())).await;
        // The first of them may have begun before; the answer to the second one has come.
        after_pauses("fetches", async || provider.requests() > before + 2).await;
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
