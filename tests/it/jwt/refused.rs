//! Tokens that are refused, as an attacker would make them.

use ring::hmac;
use serde_json::{Value, json};

use super::signer::{encode, message};
use super::{Issued, Signer, claims, claims_with, now};

const TENANT: &str = r#"tenant_claim = "tenant""#;
const INVALID: &str = "CREDENTIALS_INVALID";

/// Checks that each of these tokens is refused in the same way.
async fn check_all(issued: &Issued, tokens: Vec<(&str, String)>) {
    let mut accepted = Vec::new();
    for (what, token) in tokens {
        let answer = issued.caller(&token).await;
        if answer.as_ref().err().map(String::as_str) != Some(INVALID) {
            accepted.push(format!("{what}: {answer:?}"));
        }
    }
    assert!(accepted.is_empty(), "{}", accepted.join("\n"));
}

#[tokio::test]
async fn a_token_without_the_signature_of_the_key_is_refused() {
    let (rsa, ec, other) =
        (Signer::rsa("rsa", "RS256"), Signer::ec("ec", "ES256"), Signer::ec("ec", "ES256"));
    let issued = Issued::new(&[&rsa, &ec], TENANT).await;
    let right = ec.token(&claims());
    assert!(
        issued.caller(&right).await.is_ok() && issued.caller(&rsa.token(&claims())).await.is_ok()
    );
    let parts: Vec<&str> = right.split('.').collect();
    let [header, payload, signature] = parts[..] else { panic!("{right}") };
    let tampered = encode(claims_with(json!({ "tenant": "other" })).to_string());
    let header_of = |alg: &str, kid: &str| json!({ "typ": "JWT", "alg": alg, "kid": kid });
    let hs256 = |secret: &[u8], kid: &str| {
        let message = message(&header_of("HS256", kid), &claims());
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
        format!("{message}.{}", encode(tag))
    };
    let unsigned = |alg: &str| message(&header_of(alg, "ec"), &claims());
    let coordinates = &ec.public()[1..];
    let tokens = vec![
        ("a payload of its own", format!("{header}.{tampered}.{signature}")),
        ("no signature", format!("{header}.{payload}.")),
        ("a zero signature", format!("{header}.{payload}.{}", encode([0; 64]))),
        ("a shortened signature", format!("{header}.{payload}.{}", &signature[..40])),
        ("a signature with more behind it", format!("{right}.{signature}")),
        ("alg none", format!("{}.", unsigned("none"))),
        ("alg nOnE", format!("{}.", unsigned("nOnE"))),
        ("alg none, signed", format!("{}.{signature}", unsigned("none"))),
        ("no alg", ec.token_with(&json!({ "kid": "ec" }), &claims())),
        ("RSA key as a secret", hs256(rsa.public(), "rsa")),
        ("RSA key set as a secret", hs256(rsa.jwk().to_string().as_bytes(), "rsa")),
        ("EC key as a secret", hs256(ec.public(), "ec")),
        ("EC coordinates as a secret", hs256(coordinates, "ec")),
        ("the key of somebody else", other.token(&claims())),
        ("the alg of another key", ec.token_with(&header_of("RS256", "ec"), &claims())),
        ("the id of another key", ec.token_with(&header_of("ES256", "rsa"), &claims())),
        ("an alg that is not one of the issuer", {
            let rs512 = Signer::rsa("rsa", "RS512");
            rs512.token(&claims())
        }),
    ];
    check_all(&issued, tokens).await;
}

#[tokio::test]
async fn keys_in_the_header_of_a_token_are_not_used() {
    let (key, attacker) = (Signer::ec("a", "ES256"), Signer::ec("evil", "ES256"));
    let provider = super::provider::Provider::start(&[&attacker]).await;
    let issued = Issued::new(&[&key], TENANT).await;
    let signed = |field: &str, value: Value| {
        let tokens = ["a", "evil"].map(|kid| {
            let mut header = json!({ "alg": "ES256", "kid": kid });
            header[field] = value.clone();
            attacker.token_with(&header, &claims())
        });
        tokens.into_iter()
    };
    let mut tokens = Vec::new();
    for (field, value) in [
        ("jwk", attacker.jwk()),
        ("jku", provider.url().into()),
        ("x5u", provider.url().into()),
        ("x5c", json!([encode(attacker.public())])),
        ("crit", json!(["exp"])),
    ] {
        tokens.extend(signed(field, value).map(|token| (field, token)));
    }
    // What must be understood, and is not, makes a token that is right invalid, too.
    let critical = json!({ "alg": "ES256", "kid": "a", "crit": ["b64"], "b64": false });
    tokens.push(("crit", key.token_with(&critical, &claims())));
    check_all(&issued, tokens).await;
    assert_eq!(provider.requests(), 0, "a token made the server fetch something");
}

#[tokio::test]
async fn a_token_for_others_or_with_the_wrong_claims_is_refused() {
    let key = Signer::ec("a", "ES256");
    let issued = Issued::new(&[&key], TENANT).await;
    assert!(issued.caller(&key.token(&claims())).await.is_ok());
    let wrong = [
        json!({ "aud": "other" }),
        json!({ "aud": ["other", "callpark2"] }),
        json!({ "aud": [] }),
        json!({ "aud": null }),
        json!({ "aud": 7 }),
        json!({ "iss": "https://login.example.com" }),
        json!({ "iss": "https://evil.example.com/" }),
        json!({ "iss": [super::ISSUER] }),
        json!({ "iss": null }),
        json!({ "exp": null }),
        json!({ "exp": "never" }),
        json!({ "exp": 1e300 }),
        json!({ "exp": -1 }),
        json!({ "nbf": now() + 100 }),
        json!({ "nbf": "soon" }),
        json!({ "iat": now() + 1_000_000 }),
        json!({ "iat": true }),
        json!({ "tenant": null }),
        json!({ "tenant": "" }),
        json!({ "tenant": "two words" }),
        json!({ "tenant": "a\nb" }),
        json!({ "tenant": "x".repeat(65) }),
        json!({ "tenant": ["acme", "other"] }),
        json!({ "tenant": { "acme": {}, "other": {} } }),
        json!({ "tenant": ["local"] }),
        // That of the operator.
        json!({ "tenant": "local" }),
        json!({ "sub": null }),
        json!({ "sub": "two words" }),
        json!({ "sub": "x".repeat(256) }),
        json!({ "cnf": { "jkt": "x" } }),
        json!({ "events": {} }),
        // An expired token that is wrong otherwise is no expired token.
        json!({ "exp": now() - 100, "tenant": "two words" }),
        json!({ "exp": now() - 100, "aud": "other" }),
    ];
    let texts: Vec<String> = wrong.iter().map(Value::to_string).collect();
    let token = |changes: &Value| key.token(&claims_with(changes.clone()));
    let tokens = texts.iter().map(String::as_str).zip(wrong.iter().map(token)).collect();
    check_all(&issued, tokens).await;
}

#[tokio::test]
async fn an_expired_token_is_refused_as_such() {
    let key = Signer::ec("a", "ES256");
    let issued = Issued::new(&[&key], TENANT).await;
    let token = key.token(&claims_with(json!({ "exp": now() - 40 })));
    assert_eq!(issued.caller(&token).await, Err("CREDENTIALS_EXPIRED".to_owned()));
    let forged = Signer::ec("a", "ES256").token(&claims_with(json!({ "exp": now() - 40 })));
    assert_eq!(issued.caller(&forged).await, Err(INVALID.to_owned()));
}

#[tokio::test]
async fn a_huge_token_is_refused() {
    let key = Signer::ec("a", "ES256");
    let issued = Issued::new(&[&key], TENANT).await;
    let with_padding = |bytes: usize| key.token(&claims_with(json!({ "x": "y".repeat(bytes) })));
    let large = with_padding(11_500);
    assert!(large.len() < 16 << 10, "{}", large.len());
    assert!(issued.caller(&large).await.is_ok());
    let huge = with_padding(12_500);
    assert!(huge.len() > 16 << 10, "{}", huge.len());
    assert_eq!(issued.caller(&huge).await, Err(INVALID.to_owned()));
}
