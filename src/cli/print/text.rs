//! Short texts for people.

use std::fmt::{Display, Write as _};

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::model::visible::is_hidden;

/// The digits of a short id: enough to distinguish the ids of one list.
const SHORT_ID_DIGITS: usize = 8;

/// Replaces [hidden characters](is_hidden) except line breaks, so that text from elsewhere can neither
/// control the terminal nor be shown as something else than it is. Everything that people are shown
/// passes here, except the output of tools.
pub(crate) fn sanitize(text: &str) -> String {
    text.chars().map(|c| if is_hidden(c) && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// Returns JSON with escapes such as `\u202e` in place of hidden characters, which can stand in its
/// strings only. Line breaks stay.
pub(crate) fn with_json_escapes(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        if c == '\n' || !is_hidden(c) {
            escaped.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to a String can't fail.
            let _ = write!(escaped, "\\u{unit:04x}");
        }
    }
    escaped
}

/// Returns the columns of a terminal that a text without control characters takes.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// Returns the first line of a text, truncated to `columns_max` columns of a terminal.
pub(crate) fn first_line(text: &str, columns_max: usize) -> String {
    let line = text.lines().next().unwrap_or_default();
    if line.len() == text.len() && width(line) <= columns_max {
        return line.to_owned();
    }
    let mut left = columns_max.saturating_sub(1);
    let fits = |c: &char| {
        let width = c.width().unwrap_or(0);
        let fits = width <= left;
        left = left.saturating_sub(width);
        fits
    };
    let mut truncated: String = line.chars().take_while(fits).collect();
    truncated.push('…');
    truncated
}

/// Returns a number with its noun: `1 task`, `2 tasks`.
pub(crate) fn count<N: Display + PartialEq + From<u8>>(number: N, noun: &str) -> String {
    let plural = if number == N::from(1) { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// Returns the beginning of an id, for lines in which the whole id would take too much room. The
/// commands accept it in place of the id.
pub(crate) fn short_id(id: &str) -> String {
    short_id_of(id, SHORT_ID_DIGITS)
}

/// Returns the beginning of an id with this number of digits, or with that of a short id if it is
/// larger.
pub(crate) fn short_id_of(id: &str, digits_min: usize) -> String {
    match id.split_once('-') {
        Some((kind, digits)) => {
            let count = digits_min.max(SHORT_ID_DIGITS);
            format!("{kind}-{}", digits.chars().take(count).collect::<String>())
        }
        None => id.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_replaced() {
        assert_eq!(sanitize("a\x1b[2Jb\r\n\tc"), "a\u{fffd}[2Jb\u{fffd}\n\u{fffd}c");
        let hidden = "\u{9b}\u{202e}\u{2066}\u{2069}\u{200b}\u{200f}\u{2028}\u{2029}\u{feff}";
        assert_eq!(sanitize(hidden), "\u{fffd}".repeat(9));
    }

    #[test]
    fn json_is_the_same_with_escapes() {
        let value = serde_json::json!({ "a\u{202e}": ["\u{9b}2J", "\u{e0041}", "é\u{7f}"] });
        for json in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
            let escaped = with_json_escapes(&json);
            assert!(escaped.contains("\\u202e") && escaped.contains("\\udb40\\udc41"), "{escaped}");
            assert!(!escaped.chars().any(|c| is_hidden(c) && c != '\n'), "{escaped}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), value);
        }
    }

    #[test]
    fn a_short_line_is_not_truncated() {
        assert_eq!(first_line("abc", 3), "abc");
        assert_eq!(first_line("", 3), "");
        assert_eq!(first_line("abcd", 3), "ab…");
    }

    #[test]
    fn a_wide_character_takes_two_columns() {
        assert_eq!(first_line("日本語", 6), "日本語");
        assert_eq!(first_line("日本語", 5), "日本…");
        assert_eq!(first_line("日本語", 4), "日…");
    }

    #[test]
    fn counts_agree_in_number() {
        assert_eq!(count(1_usize, "task"), "1 task");
        assert_eq!(count(0_i32, "request"), "0 requests");
        assert_eq!(count(2_i64, "byte"), "2 bytes");
    }

    #[test]
    fn a_short_id_keeps_its_kind() {
        assert_eq!(short_id("call-0123456789abcdef"), "call-01234567");
        assert_eq!(short_id_of("bg-0123456789abcdef", 10), "bg-0123456789");
        assert_eq!(short_id("odd"), "odd");
    }
}
