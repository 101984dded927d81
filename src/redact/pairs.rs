//! Values behind names in text that is not JSON: `NAME=value`, `name: value`, `--flag value`.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use super::name::{is_secret, words};

/// A name.
static NAME: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"[A-Za-z_][A-Za-z0-9_.\-]*").ok());

/// Words whose value is a secret also where a sentence has a colon behind them.
const PLAIN: &[&str] =
    &["authorization", "cookie", "passphrase", "passwd", "password", "pgpassword", "pwd"];

/// The number of plain words by which a sentence is known.
const SENTENCE_WORDS: usize = 3;

/// The most digits of a number that is no secret.
const SHORT_NUMBER_DIGITS: usize = 3;

/// Words whose value goes to the end of its line.
const HEADERS: &[&str] = &["authorization", "cookie", "cookies"];

/// The space between a name and its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Separator {
    Equals,
    /// A colon, with the space behind it.
    Colon {
        is_spaced: bool,
        is_quoted: bool,
    },
    /// Only space: for flags.
    Space,
}

/// Returns the secrets in a text, or `None` if it cannot be searched.
pub(super) fn find(text: &str) -> Option<Vec<Range<usize>>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    for name in NAME.as_ref()?.find_iter(text) {
        // Names inside of a value are hidden with it, and not looked at: each of them may be long.
        let is_in_value = found.last().is_some_and(|value| name.start() < value.end);
        if !is_in_value && is_secret(name.as_str()) {
            found.extend(value_of(text, name.range()));
        }
    }
    Some(found)
}

/// Returns the value behind a name, or `None` if it has none.
fn value_of(text: &str, name: Range<usize>) -> Option<Range<usize>> {
    let (before, rest) = (&text[..name.start], &text[name.end..]);
    let is_flag = before.ends_with('-');
    let unquoted = rest.trim_start_matches(['\\', '"', '\'', '`']);
    // As in JSON. A sentence has other quotes around a name.
    let is_quoted = rest[..rest.len() - unquoted.len()].ends_with(['"', '\'']);
    let spaced = unquoted.trim_start_matches([' ', '\t']);
    let (separator, value) = match spaced.as_bytes().first() {
        Some(b'=') => (Separator::Equals, spaced.trim_start_matches(['=', '>', '~'])),
        // A path in a program, such as the place of a line of the log.
        Some(b':') if spaced.starts_with("::") => return None,
        Some(b':') => {
            let value = spaced.trim_start_matches([':', '=']);
            let is_spaced = value.starts_with(char::is_whitespace);
            (Separator::Colon { is_spaced, is_quoted }, value)
        }
        // An argument of a command line, also as a list of JSON has it.
        _ if is_flag => (Separator::Space, unquoted.trim_start_matches([' ', '\t', ','])),
        _ => return None,
    };
    let value = value.trim_start_matches([' ', '\t']);
    let begin = text.len() - value.len();
    let words = words(&text[name]);
    let has = |list: &[&str]| words.iter().any(|word| list.contains(&word.as_str()));
    let end = begin + length(value, has(HEADERS) && separator != Separator::Space);
    let range = trimmed(text, begin..end);
    let value = &text[range.clone()];
    let is_shown = value.is_empty()
        || is_placeholder(value)
        || match separator {
            Separator::Equals => false,
            Separator::Space => value.starts_with('-'),
            // A sentence, unless the value looks like no word of one.
            Separator::Colon { is_spaced: true, is_quoted: false } if has(PLAIN) => {
                is_sentence(&text[range.start..])
            }
            Separator::Colon { is_spaced: true, is_quoted: false } => {
                let digits = value.bytes().filter(u8::is_ascii_digit).count();
                // A short number is a status or a count.
                digits == 0 || (digits == value.len() && digits <= SHORT_NUMBER_DIGITS)
            }
            Separator::Colon { .. } => false,
        };
    (!is_shown).then_some(range)
}

/// Returns whether a text begins with several plain words, which no credential does.
fn is_sentence(text: &str) -> bool {
    let line = text.lines().next().unwrap_or_default();
    let is_word = |word: &str| word.bytes().all(|byte| byte.is_ascii_lowercase());
    let mut words = line.split(' ').take(SENTENCE_WORDS);
    words.clone().count() == SENTENCE_WORDS && words.all(|word| !word.is_empty() && is_word(word))
}

/// Returns the length of a value: a text in quotes, the rest of a line, or a word.
fn length(value: &str, is_header: bool) -> usize {
    let bare = value.trim_start_matches('\\');
    let escapes = value.len() - bare.len();
    if let Some(quote) = bare.chars().next().filter(|quote| matches!(quote, '"' | '\'' | '`')) {
        // A quote behind as many backslashes ends what such a one began.
        let end = format!("{}{quote}", &value[..escapes]);
        let begin = escapes + 1;
        let mut at = begin;
        while let Some(found) = value[at..].find(&end) {
            let place = at + found;
            let is_escaped =
                value[begin..place].bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 1;
            if !is_escaped {
                return place + end.len();
            }
            at = place + end.len();
        }
        return value.len();
    }
    let ends = |c: char| match is_header {
        true => matches!(c, '\n' | '\r' | '"' | '\'' | '`'),
        false => c.is_whitespace() || matches!(c, '"' | '\'' | '`'),
    };
    value.find(ends).unwrap_or(value.len())
}

/// Leaves the quotes around a value where they are.
fn trimmed(text: &str, range: Range<usize>) -> Range<usize> {
    let quotes = ['\\', '"', '\'', '`'];
    let value = &text[range.clone()];
    let inner = value.trim_start_matches(quotes);
    let begin = range.end - inner.len();
    let is_quoted = inner.len() < value.len();
    let end = if is_quoted { begin + inner.trim_end_matches(quotes).len() } else { range.end };
    begin..end.max(begin)
}

/// Returns whether a value stands for another one: `<token>`, `$TOKEN`, or what was redacted before.
fn is_placeholder(value: &str) -> bool {
    let value = value.strip_prefix("Bearer ").unwrap_or(value).trim_end_matches([';', ',', ')']);
    let name = value.strip_prefix('$').map(|name| name.trim_matches(['{', '}']));
    let is_variable = name.is_some_and(|name| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
    });
    is_variable
        || value.starts_with(super::HIDDEN)
        || (value.starts_with('<') && value.find('>').is_some_and(|end| end + 1 == value.len()))
        || matches!(value, "…" | "..." | "null" | "None" | "true" | "false")
}
