//! Redaction of secrets in text that people and models read later: logs, errors, the audit log,
//! descriptions and notes.
//!
//! A secret is found by the name of its value ([`name`]), by its form ([`shape`]), or because the
//! configuration has it ([`known`]). Text that holds JSON is read as JSON and keeps its shape ([`json`]).
//! Text without secrets is left as it is, byte for byte; text that is too long is cut, and says so. What cannot
//! be searched is hidden as a whole.

mod json;
mod known;
mod name;
mod pairs;
mod shape;
#[cfg(test)]
mod tests;

use std::ops::Range;

pub use known::remember;
pub use name::is_secret;

/// The replacement of a secret.
pub const HIDDEN: &str = "[redacted]";

/// The longest text that is searched, in bytes. More of it is cut off.
const TEXT_BYTES_MAX: usize = 256 << 10;

/// The longest word at the end of a text that is cut off with it, in bytes: it may be part of a secret.
const LAST_WORD_BYTES_MAX: usize = 8 << 10;

/// The end of a text that was cut.
const CUT: &str = "… [cut off]";

/// Returns the text, which may be JSON, with everything that looks like a secret, and every secret of the
/// configuration, replaced.
pub fn redacted(text: &str) -> String {
    let whole = bounded(text);
    let shown = json::redacted(whole, 0).or_else(|| redacted_words(whole));
    // A secret is hidden also where it is in JSON.
    let shown = shown.and_then(|shown| known::redacted(&shown));
    // Nothing is shown that was not searched.
    let mut shown = shown.unwrap_or_else(|| HIDDEN.to_owned());
    if whole.len() < text.len() {
        shown.push_str(CUT);
    }
    shown
}

/// Returns the text of a value of this name: a replacement if the name makes it a secret.
pub fn redacted_value(name: &str, text: &str) -> String {
    if is_secret(name) { HIDDEN.to_owned() } else { redacted(text) }
}

/// Returns the part of a text that is searched.
fn bounded(text: &str) -> &str {
    if text.len() <= TEXT_BYTES_MAX {
        return text;
    }
    let end = text.floor_char_boundary(TEXT_BYTES_MAX);
    let least = text.floor_char_boundary(end - LAST_WORD_BYTES_MAX);
    let word = text[least..end].rfind(char::is_whitespace);
    &text[..word.map_or(least, |at| least + at)]
}

/// Returns a text that is not JSON with its secrets replaced, or `None` if it cannot be searched.
fn redacted_words(text: &str) -> Option<String> {
    let mut found = shape::find(text)?;
    found.extend(pairs::find(text)?);
    Some(replaced(text, found))
}

/// Replaces parts of a text, which may overlap.
fn replaced(text: &str, mut found: Vec<Range<usize>>) -> String {
    found.sort_by_key(|range| range.start);
    let mut shown = String::with_capacity(text.len());
    let mut end = 0;
    let mut parts = found.into_iter().filter(|range| !range.is_empty()).peekable();
    while let Some(mut part) = parts.next() {
        while let Some(next) = parts.next_if(|next| next.start <= part.end) {
            part.end = part.end.max(next.end);
        }
        shown.push_str(text.get(end..part.start).unwrap_or_default());
        shown.push_str(HIDDEN);
        end = part.end;
    }
    shown.push_str(text.get(end..).unwrap_or_default());
    shown
}
