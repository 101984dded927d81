//! Names that make their value a secret.

/// Words that make the value of a name a secret, wherever they stand in the name.
const SECRET_WORDS: &[&str] = &[
    "authorization",
    "cookie",
    "cookies",
    "credential",
    "credentials",
    "passcode",
    "passphrase",
    "passwd",
    "password",
    "passwords",
    "pgpassword",
    "pwd",
    "secret",
    "secrets",
];

/// Words that make the value of a name a secret if they end the name: `access_token` does, and
/// `token_count` does not.
const SECRET_ENDS: &[&str] = &["apikey", "auth", "bearer", "jwt", "pass", "token"];

/// Words before `key` that make it a secret.
const KEYS: &[&str] = &[
    "access",
    "account",
    "api",
    "auth",
    "client",
    "encryption",
    "license",
    "master",
    "private",
    "service",
    "signing",
    "subscription",
];

/// Parts of which every name of a secret has one. Most words have none, and are not looked at further.
const PARTS: &[&str] =
    &["auth", "pass", "pwd", "secret", "token", "cred", "key", "cookie", "jwt", "bearer"];

/// The longest name that is looked at, in bytes. Of a longer one it is the end.
const NAME_BYTES_MAX: usize = 256;

/// Returns whether a value of this name is a secret, in any notation: `api_key`, `apiKey`, `API-KEY`,
/// `APIKey2`.
pub fn is_secret(name: &str) -> bool {
    let name = &name[name.ceil_char_boundary(name.len().saturating_sub(NAME_BYTES_MAX))..];
    let lower = name.to_lowercase();
    if !PARTS.iter().any(|part| lower.contains(part)) {
        return false;
    }
    let words = words(name);
    let has = |secret: &[&str]| words.iter().any(|word| secret.contains(&word.as_str()));
    let ends = words.last().is_some_and(|last| SECRET_ENDS.contains(&last.as_str()));
    let is_key = words
        .windows(2)
        .any(|pair| KEYS.contains(&pair[0].as_str()) && matches!(pair[1].as_str(), "key" | "keys"));
    has(SECRET_WORDS) || ends || is_key
}

/// Returns the words of a name in lower case. They end at a change of case, at digits, and at everything that
/// is not a letter.
pub(super) fn words(name: &str) -> Vec<String> {
    let letters: Vec<char> = name.chars().collect();
    let mut words = vec![String::new()];
    for (index, letter) in letters.iter().enumerate() {
        if !letter.is_alphabetic() {
            words.push(String::new());
            continue;
        }
        let before = index.checked_sub(1).and_then(|index| letters.get(index));
        let after = letters.get(index + 1);
        let was_lower = before.is_some_and(|letter| letter.is_lowercase());
        // The last capital of several begins a word: `APIKey` is `api`, `key`.
        let begins = before.is_some_and(|letter| letter.is_uppercase())
            && after.is_some_and(|letter| letter.is_lowercase());
        if letter.is_uppercase() && (was_lower || begins) {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            word.extend(letter.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}
