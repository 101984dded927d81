//! Tokens that are accepted, and what their callers may do.

use serde_json::json;
use tonic::Code;

use super::{Issued, Signer, claims, claims_with, now};
use crate::support::program::Clients;
use crate::support::{check_reason, v1};

const TENANT: &str = r#"tenant_claim = "tenant""#;

#[tokio::test]
async fn the_caller_is_who_the_claims_name_with_each_algorithm() {
    let keys = [
        Signer::rsa("rsa", "RS256"),
        Signer::rsa("rsa", "PS256"),
        Signer::ec("p256", "ES256"),
        Signer::ec("p384", "ES384"),
        Signer::ed("ed"),
    ];
    let [rsa, _, p256, p384, ed] = &keys;
    let issued = Issued::new(&[rsa, p256, p384, ed], TENANT).await;
    for key in &keys {
        let exp = now() + 1000;
        let token = key.token(&claims_with(json!({ "exp": exp, "aud": ["other", "callpark"] })));
        let caller = issued.caller(&token).await.expect(key.algorithm);
        let expire_time = prost_types::Timestamp { seconds: exp as i64 + 30, nanos: 0 };
        let expected = v1::Caller {
            tenant: "acme".into(),
            name: "agent-7".into(),
            scopes: vec!["read".into(), "run".into()],
            credential_id: String::new(),
            expire_time: Some(expire_time),
        };
        assert_eq!(caller, expected, "{}", key.algorithm);
    }
    // The other credentials are accepted as ever.
    assert_eq!(issued.caller(issued.server.token()).await.expect("the token").tenant, "local");
}

#[tokio::test]
async fn tenant_name_and_scopes_come_from_where_the_table_says() {
    let key = Signer::ec("a", "ES256");
    let lines = r#"
        tenant = "fixed"
        name_claim = "azp"
        scopes_claim = "permissions"
        scope_prefix = "callpark:"
    "#;
    let issued = Issued::new(&[&key], lines).await;
    let permissions = json!(["callpark:read", "run", "callpark:cancel", "callpark:fly", 7]);
    let token = key.token(&claims_with(json!({ "azp": "shop", "permissions": permissions })));
    let caller = issued.caller(&token).await.expect("a caller");
    assert_eq!((&*caller.tenant, &*caller.name), ("fixed", "shop"));
    assert_eq!(caller.scopes, ["read", "cancel"]);
    let issued = Issued::new(
        &[&key],
        r#"tenant_claim = "org"
        scopes = ["follow_up"]"#,
    )
    .await;
    let token = key.token(&claims_with(json!({ "org": "acme", "tenant": null })));
    assert_eq!(issued.caller(&token).await.expect("a caller").scopes, ["follow_up"]);
}

#[tokio::test]
async fn tokens_of_widespread_providers_are_accepted() {
    let key = Signer::ec("a", "ES256");
    let issued = Issued::new(&[&key], TENANT).await;
    for (changes, tenant, name) in [
        // Keycloak, without and with the ids of organizations.
        (json!({ "tenant": ["acme"] }), "acme", "agent-7"),
        (json!({ "tenant": { "acme": { "id": "7" } } }), "acme", "agent-7"),
        // Auth0, Kubernetes.
        (json!({ "sub": "auth0|5f7c8ec7" }), "acme", "auth0|5f7c8ec7"),
        (json!({ "sub": "system:serviceaccount:a:b" }), "acme", "system:serviceaccount:a:b"),
    ] {
        let caller = issued.caller(&key.token(&claims_with(changes))).await.expect("a caller");
        assert_eq!((&*caller.tenant, &*caller.name), (tenant, name));
    }
    for (typ, is_accepted) in [
        (json!("at+jwt"), true),
        (json!("application/AT+JWT"), true),
        (json!(null), true),
        (json!("logout+jwt"), false),
        (json!("dpop+jwt"), false),
    ] {
        let header = json!({ "alg": "ES256", "kid": "a", "typ": typ });
        let answer = issued.caller(&key.token_with(&header, &claims())).await;
        assert_eq!(answer.is_ok(), is_accepted, "{typ}: {answer:?}");
    }
}

#[tokio::test]
async fn without_scopes_a_caller_may_only_ask_who_it_is() {
    let key = Signer::ec("a", "ES256");
    let issued = Issued::new(&[&key], TENANT).await;
    for scope in [json!(null), json!(""), json!("openid readx"), json!(7)] {
        let token = key.token(&claims_with(json!({ "scope": scope })));
        assert!(issued.caller(&token).await.expect("a caller").scopes.is_empty(), "{scope}");
        let Clients { mut tools, mut tasks, .. } = Clients::new(&issued.server.endpoint, &token);
        let listed = tools.list_tools(v1::ListToolsRequest::default()).await;
        check_reason(&listed.expect_err("refused"), Code::PermissionDenied, "SCOPE_MISSING");
        let started = tasks.start(crate::support::streams::start_of("", "true")).await;
        check_reason(&started.expect_err("refused"), Code::PermissionDenied, "SCOPE_MISSING");
    }
}

#[tokio::test]
async fn clocks_may_differ_by_the_leeway() {
    let key = Signer::ec("a", "ES256");
    let issued = Issued::new(&[&key], &format!("{TENANT}\nleeway = \"2m\"")).await;
    for changes in [
        json!({ "exp": now() - 60 }),
        json!({ "nbf": now() + 60 }),
        json!({ "iat": now() + 60 }),
        json!({ "exp": now() as f64 - 60.5 }),
        json!({ "iat": null, "nbf": null }),
    ] {
        let caller = issued.caller(&key.token(&claims_with(changes.clone()))).await;
        assert!(caller.is_ok(), "{changes}: {caller:?}");
    }
    assert!(issued.caller(&key.token(&claims())).await.is_ok());
}
