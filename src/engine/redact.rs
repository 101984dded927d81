//! Redaction of secrets in text that people and models read later.

use serde_json::Value;

/// The replacement of a secret.
const HIDDEN: &str = "[redacted]";

/// Words that make the value of a name a secret, wherever they stand in the name.
const SECRET_WORDS: &[&str] = &[
    "authorization",
    "credential",
    "credentials",
    "passphrase",
    "passwd",
    "password",
    "pwd",
    "secret",
    "secrets",
];

/// Words that make the value of a name a secret if they end the name: `access_token` does, and
/// `token_count` does not.
const SECRET_ENDS: &[&str] = &["auth", "apikey", "token"];

/// Words before `key` that make it a secret.
const KEYS: &[&str] = &["access", "account", "api", "client", "encryption", "private", "signing"];

/// Returns the text, which may be JSON, with everything that looks like a secret replaced. JSON keeps
/// its shape.
pub(super) fn redacted(text: &str) -> String {
    match serde_json::from_str::<Value>(text) {
        Ok(value) => hide(value).to_string(),
        Err(_) => hide_words(text),
    }
}

/// Returns the text of an argument: a replacement if its name makes it a secret.
pub(super) fn redacted_value(name: &str, text: &str) -> String {
    if is_secret(name) { HIDDEN.to_owned() } else { redacted(text) }
}

fn hide(value: Value) -> Value {
    match value {
        Value::Object(members) => members
            .into_iter()
            .map(|(name, value)| match (is_secret(&name), &value) {
                (true, Value::Null | Value::Bool(_)) => (name, value),
                (true, _) => (name, HIDDEN.into()),
                (false, _) => (name, hide(value)),
            })
            .collect(),
        Value::Array(items) => items.into_iter().map(hide).collect(),
        // A string may itself hold JSON.
        Value::String(text) if text.trim_start().starts_with(['{', '[']) => redacted(&text).into(),
        Value::String(text) => hide_words(&text).into(),
        other => other,
    }
}

/// Returns whether a value of this name is a secret, in any notation: `api_key`, `apiKey`, `API-KEY`.
fn is_secret(name: &str) -> bool {
    let words = words(name);
    let has = |secret: &[&str]| words.iter().any(|word| secret.contains(&word.as_str()));
    let ends = words.last().is_some_and(|last| SECRET_ENDS.contains(&last.as_str()));
    let is_key = words
        .windows(2)
        .any(|pair| KEYS.contains(&pair[0].as_str()) && matches!(pair[1].as_str(), "key" | "keys"));
    has(SECRET_WORDS) || ends || is_key
}

fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_lower = false;
    for letter in name.chars() {
        if !letter.is_alphanumeric() || (letter.is_uppercase() && was_lower) {
            words.push(String::new());
        }
        was_lower = letter.is_lowercase();
        if let Some(word) = words.last_mut().filter(|_| letter.is_alphanumeric()) {
            word.extend(letter.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Replaces the words of a text that look like secrets: `password=x`, `--token x`, `Bearer x`.
fn hide_words(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut is_next = false;
    for word in text.split_inclusive(char::is_whitespace) {
        let bare = word.trim_end();
        let space = &word[bare.len()..];
        let (name, value) = match bare.split_once(['=', ':']) {
            Some((name, value)) => (name, Some(value)),
            None => (bare, None),
        };
        let quotes = |c: char| matches!(c, '"' | '\'' | '(' | '{' | '[' | ',' | ';');
        let opens =
            matches!(bare.trim_matches(quotes).to_ascii_lowercase().as_str(), "bearer" | "basic");
        let names_secret = is_secret(name.trim_matches(quotes));
        if is_next && !bare.is_empty() && !opens {
            shown.push_str(HIDDEN);
        } else if names_secret && value.is_some_and(|value| !value.is_empty()) {
            shown.push_str(&bare[..=name.len()]);
            shown.push_str(HIDDEN);
        } else {
            shown.push_str(bare);
        }
        shown.push_str(space);
        // `Authorization: Bearer x`, `--password x`, `Bearer x`.
        let leads = names_secret && value.is_none() && name.starts_with('-');
        let leads = leads || (names_secret && value == Some(""));
        is_next = opens || leads || (is_next && bare.is_empty());
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_replaced_in_json_and_in_text() {
        for (text, shown) in [
            (r#"{"api_key":"x","n":1}"#, r#"{"api_key":"[redacted]","n":1}"#),
            (r#"{"a":[{"clientSecret":["x"]}]}"#, r#"{"a":[{"clientSecret":"[redacted]"}]}"#),
            (r#"{"body":"{\"password\":\"x\"}"}"#, r#"{"body":"{\"password\":\"[redacted]\"}"}"#),
            (
                r#"{"headers":"Authorization: Bearer x"}"#,
                r#"{"headers":"Authorization: Bearer [redacted]"}"#,
            ),
            ("curl -H 'Authorization: Bearer abc'", "curl -H 'Authorization: Bearer [redacted]"),
            ("run --password=x --token y z", "run --password=[redacted] --token [redacted] z"),
            ("AWS_SECRET_ACCESS_KEY=x make", "AWS_SECRET_ACCESS_KEY=[redacted] make"),
        ] {
            assert_eq!(redacted(text), shown);
        }
    }

    #[test]
    fn words_that_only_resemble_secrets_are_kept() {
        for text in [
            r#"{"author":"a","max_tokens":5,"token_count":7}"#,
            r#"{"key":"a","keyboard":"b","secretary":"c"}"#,
            "git commit --author=me -m 'the token count: 5'",
            "no secret here",
        ] {
            assert_eq!(redacted(text), text);
        }
    }
}
