//! Short texts for people.

use std::fmt::Display;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// The digits of a short id: enough to distinguish the ids of one list.
const SHORT_ID_DIGITS: usize = 8;

/// Replaces control characters except line breaks, so that text from elsewhere cannot control the
/// terminal.
pub(crate) fn sanitize(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
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
