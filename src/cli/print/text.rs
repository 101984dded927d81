//! Short texts for people.

use std::fmt::Display;

/// Replaces control characters except line breaks, so that text from elsewhere cannot control the
/// terminal.
pub(crate) fn sanitize(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// Returns the first line of a text, truncated to `characters_max`.
pub(crate) fn first_line(text: &str, characters_max: usize) -> String {
    let line = text.lines().next().unwrap_or_default();
    if line.len() == text.len() && line.chars().count() <= characters_max {
        return line.to_owned();
    }
    let mut truncated: String = line.chars().take(characters_max.saturating_sub(1)).collect();
    truncated.push('…');
    truncated
}

/// Returns a number with its noun: `1 task`, `2 tasks`.
pub(crate) fn count<N: Display + PartialEq + From<u8>>(number: N, noun: &str) -> String {
    let plural = if number == N::from(1) { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// Returns the beginning of an id, for lines in which the whole id would take too much room.
pub(crate) fn short_id(id: &str) -> String {
    /// Enough to distinguish the ids of one session.
    const DIGITS: usize = 8;
    match id.split_once('-') {
        Some((kind, digits)) => {
            format!("{kind}-{}", digits.chars().take(DIGITS).collect::<String>())
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
    fn counts_agree_in_number() {
        assert_eq!(count(1_usize, "task"), "1 task");
        assert_eq!(count(0_i32, "request"), "0 requests");
        assert_eq!(count(2_i64, "byte"), "2 bytes");
    }

    #[test]
    fn a_short_id_keeps_its_kind() {
        assert_eq!(short_id("call-0123456789abcdef"), "call-01234567");
        assert_eq!(short_id("odd"), "odd");
    }
}
