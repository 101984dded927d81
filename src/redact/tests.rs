//! Tests of what is hidden, and of what stays.

use proptest::prelude::*;
use serde_json::Value;

use super::{CUT, HIDDEN, TEXT_BYTES_MAX, is_secret, redacted, remember};

#[test]
fn secrets_are_replaced_in_json_and_in_text() {
    for (text, shown) in [
        (r#"{"api_key":"x","n":1}"#, r#"{"api_key":"[redacted]","n":1}"#),
        (
            r#"{"z":1,"a":[{"clientSecret":["x"]}]}"#,
            r#"{"z":1,"a":[{"clientSecret":"[redacted]"}]}"#,
        ),
        (r#"{"password":"x","password":null}"#, r#"{"password":"[redacted]","password":null}"#),
        (r#"{"body":"{\"password\":\"x\"}"}"#, r#"{"body":"{\"password\":\"[redacted]\"}"}"#),
        (r#"{"headers":"Authorization: Bearer x"}"#, r#"{"headers":"Authorization: [redacted]"}"#),
        (r#"["curl","--token","x","y"]"#, r#"["curl","--token","[redacted]","y"]"#),
        (r#"{"pin":"a","x-api-key":5}"#, r#"{"pin":"a","x-api-key":"[redacted]"}"#),
        ("curl -H 'Authorization: Bearer abc' x", "curl -H 'Authorization: [redacted]' x"),
        ("sent Bearer abc, and", "sent Bearer [redacted], and"),
        ("Basic dXNlcjpwYXNz", "Basic [redacted]"),
        ("run --password=x --token y z", "run --password=[redacted] --token [redacted] z"),
        ("run --password 'my long one' z", "run --password '[redacted]' z"),
        ("AWS_SECRET_ACCESS_KEY=x make", "AWS_SECRET_ACCESS_KEY=[redacted] make"),
        ("GET /x?api_key=abc", "GET /x?api_key=[redacted]"),
        (r#"broken {"password": "a b", "x": 1"#, r#"broken {"password": "[redacted]", "x": 1"#),
        (r#"escaped {\"token\":\"a b\",\"x\":1"#, r#"escaped {\"token\":\"[redacted]\",\"x\":1"#),
        ("password: hunter", "password: [redacted]"),
        ("token: a1b2c3", "token: [redacted]"),
        ("Cookie: a=b; c=d\nx: y", "Cookie: [redacted]\nx: y"),
        ("postgres://me:p%40ss@db/x", "postgres://[redacted]@db/x"),
        ("https://abc@host/", "https://[redacted]@host/"),
        ("key cpk_4be0643f1d98_aBcDeFgHiJk is", "key cpk_4be0643f1d98[redacted] is"),
        ("a eyJhbGciOi.eyJzdWIi.c2ln b", "a [redacted] b"),
        (
            "x\n-----BEGIN EC PRIVATE KEY-----\nabc\n-----END EC PRIVATE KEY-----\ny",
            "x\n[redacted]\ny",
        ),
        ("-----BEGIN PRIVATE KEY-----\nabc", "[redacted]"),
        (
            "use sk-proj-abcdefghijklmnop1 or ghp_abcdefghijklmnopqrst1",
            "use [redacted] or [redacted]",
        ),
        ("AKIAIOSFODNN7EXAMPLE", "[redacted]"),
    ] {
        assert_eq!(redacted(text), shown);
        assert_eq!(redacted(shown), shown, "what was redacted stays");
    }
}

#[test]
fn words_that_only_resemble_secrets_are_kept() {
    for text in [
        r#"{"author":"a","max_tokens":5,"token_count":7}"#,
        r#"{ "b": 1.50, "a": "x" , "b": 12345678901234567890123 }"#,
        r#"{"key":"a","keyboard":"b","secretary":"c"}"#,
        r#"{"password":null,"has_secret":true}"#,
        "git commit --author=me -m 'the token count: 5'",
        "no credentials: send metadata `authorization: Bearer <token>` with an API key",
        "basic authentication, and a bearer token",
        "export TOKEN=$MY_TOKEN; echo ${PASSWORD}",
        "http://localhost:4873/@scope/package and me@example.com",
        "the key cpk_4be0643f1d98 was revoked",
        "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----",
        "task-abcdefghijklmnopqrstuvwx",
        "no secret here",
        "the system could not start `get-token`: No such file",
        "auth: 401 Unauthorized",
        "INFO callpark::auth::keys::watch: the keys were read again",
        "password: must be at least 8 characters",
        "authorization: token lacks scope repo",
        "",
    ] {
        assert_eq!(redacted(text), text);
    }
}

#[test]
fn names_are_compared_as_words() {
    for name in [
        "password",
        "PASSWORD2",
        "dbPassword",
        "db-password",
        "APIKey",
        "api_key",
        "X-Api-Key",
        "accessToken",
        "oauth2Token",
        "clientSecret1",
        "AUTH_TOKEN",
        "PGPASSWORD",
        "signing.key",
        "private-keys",
        "SetCookie",
        "HTTPAuthorization",
    ] {
        assert!(is_secret(name), "{name}");
    }
    for name in [
        "author",
        "authority",
        "tokens",
        "token_count",
        "tokenizer",
        "key",
        "keys",
        "monkey",
        "passage",
        "bypass",
        "compass",
        "secretary",
        "public_key",
        "keyboard",
        "cookiecutter",
        "",
        "2",
        "--",
    ] {
        assert!(!is_secret(name), "{name}");
    }
}

#[test]
fn secrets_of_the_configuration_are_hidden_wherever_they_stand() {
    remember("canary \"one\"/two");
    remember("short");
    for text in [
        "xcanary \"one\"/twoy",
        r#"{"canary \"one\"/two":["a canary \"one\"/two b"]}"#,
        r#"a torn {"x":"canary \"one\"/two"#,
        "?q=canary%20%22one%22%2Ftwo&x",
    ] {
        let shown = redacted(text);
        assert!(!shown.contains("one") && shown.contains(HIDDEN), "{shown}");
    }
    assert_eq!(redacted("too short to hide"), "too short to hide");
}

/// A value is searched once, however many names stand in it.
#[test]
fn names_within_a_value_are_hidden_with_it() {
    for name in ["pwd=", "pwd:", "cookie: pwd=", "--pwd="] {
        let text = name.repeat(TEXT_BYTES_MAX / name.len());
        let shown = redacted(&text);
        assert_eq!(shown.matches(HIDDEN).count(), 1, "{name}");
        assert!(shown.len() < 100, "{name}: {} bytes", shown.len());
    }
}

#[test]
fn a_long_text_is_cut_and_says_so() {
    remember("configured-secret-at-the-end");
    for (before, secret) in
        [(" ", "configured-secret-at-the-end"), (" ", "ghp_abcdefghijklmnopqrst1")]
    {
        for shift in (0..secret.len() + 2).step_by(9) {
            let length = TEXT_BYTES_MAX - shift;
            let text = format!("{}{before}{secret} and more", "x ".repeat(length / 2));
            let shown = redacted(&text);
            assert!(shown.len() <= TEXT_BYTES_MAX + CUT.len());
            assert!(!shown.contains(&secret[..8]), "{shift}");
        }
    }
    let long = "x".repeat(3 * TEXT_BYTES_MAX);
    assert!(redacted(&long).ends_with(CUT));
    let document = format!(r#"{{"a":"{long}","password":"abc"}}"#);
    assert!(redacted(&document).ends_with(CUT));
    // Many names cost no more than their length.
    let names = "password= ".repeat(TEXT_BYTES_MAX / 10);
    assert!(redacted(&names).len() <= 3 * TEXT_BYTES_MAX);
    let nested = (0..12).fold("x".to_owned(), |inner, _| format!("[{inner:?}]"));
    assert!(redacted(&nested).len() <= 4 * nested.len());
}

/// A secret, in the form in which a text has it: what must not be seen, and the form.
fn shaped() -> impl Strategy<Value = (String, String)> {
    let value = "[A-Za-z0-9]{12}7Zq[A-Za-z0-9]{5}";
    let name = prop::sample::select(vec![
        "password",
        "API_KEY",
        "clientSecret",
        "x-auth-token",
        "DB_PASSWORD2",
        "accessToken",
    ]);
    (value, name, 0..11_usize).prop_map(|(value, name, form)| {
        let text = match form {
            0 => format!("Bearer {value}"),
            1 => format!("authorization: Basic {value}=="),
            2 => format!("eyJhbGciOiJub25lIn0.{value}.{value}"),
            3 => format!("-----BEGIN RSA PRIVATE KEY-----\n{value}\n-----END RSA PRIVATE KEY-----"),
            4 => format!("ghp_{value}"),
            5 => format!("https://user:{value}@example.com/x"),
            6 => format!("--{name}={value}"),
            7 => format!("--{name} {value}"),
            8 => format!("{name}={value}"),
            9 => format!(r#"{{"{name}":"{value}"}}"#),
            _ => format!("export {name}=\"{value} {value}\""),
        };
        (value, text)
    })
}

/// Text around a secret: anything that does not continue a word of it.
fn around() -> impl Strategy<Value = String> {
    "(.{0,20}[ \n(,;])?"
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn a_secret_of_a_known_form_is_never_shown(
        (value, text) in shaped(), before in around(), after in "([ \n].{0,20})?", levels in 0..4_usize,
    ) {
        let mut text = format!("{before}{text}{after}");
        for level in 0..levels {
            text = match level % 2 {
                0 => serde_json::json!({ "note": text, "n": [1, null] }).to_string(),
                _ => serde_json::json!([text, "x"]).to_string(),
            };
        }
        let shown = redacted(&text);
        prop_assert!(!shown.contains(&value), "{text:?} became {shown:?}");
        prop_assert!(shown.len() <= 4 * text.len() + HIDDEN.len());
        if levels > 0 {
            let (before, after) = (serde_json::from_str(&text), serde_json::from_str(&shown));
            let (before, after): (Value, Value) = (before.unwrap(), after.unwrap());
            prop_assert!(have_one_shape(&before, &after), "{text:?} became {shown:?}");
        }
    }

    #[test]
    fn text_without_secrets_is_unchanged(words in prop::collection::vec("[b-j]{1,9}[.,;!?]?", 0..30)) {
        let text = words.join(" ");
        prop_assert_eq!(redacted(&text), text.clone());
        let document = serde_json::to_string_pretty(&words).unwrap();
        prop_assert_eq!(redacted(&document), document);
    }

    #[test]
    fn any_text_is_searched_and_what_was_redacted_stays(text in ".{0,200}") {
        let shown = redacted(&text);
        prop_assert!(shown.len() <= 11 * text.len() + HIDDEN.len());
    }
}

/// Returns whether two documents have the same members and lengths of lists.
fn have_one_shape(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(name, value)| {
                    other.get(name).is_some_and(|other| have_one_shape(value, other))
                })
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(a, b)| have_one_shape(a, b))
        }
        (one, other) => one == other || other.is_string(),
    }
}
