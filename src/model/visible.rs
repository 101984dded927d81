//! Characters that change how the text around them is shown, instead of being shown.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Returns whether a character is not shown itself, but may change what is shown: the controls (C0,
/// DEL and C1), line and paragraph separators, marks of direction, and characters without width.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// Appends a character, or its escape if it [is hidden](is_hidden): `\n`, `\r`, `\t` or `\u{…}`.
pub fn push_visible(c: char, text: &mut String) {
    match c {
        '\n' => text.push_str("\\n"),
        '\r' => text.push_str("\\r"),
        '\t' => text.push_str("\\t"),
        // Writing to a String can't fail.
        c if is_hidden(c) => {
            let _ = write!(text, "\\u{{{:x}}}", u32::from(c));
        }
        c => text.push(c),
    }
}

/// Returns a text in one line: hidden characters are escaped.
pub fn in_one_line(text: &str) -> Cow<'_, str> {
    escaped(text, |_| false)
}

/// Returns a text with its line breaks and tabs; other hidden characters are escaped.
pub fn in_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| matches!(c, '\n' | '\t'))
}

fn escaped(text: &str, stays: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(|c| is_hidden(c) && !stays(c)) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if stays(c) { shown.push(c) } else { push_visible(c, &mut shown) }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_is_escaped() {
        assert_eq!(in_one_line("a\r\nb\t\u{1b}[2J"), "a\\r\\nb\\t\\u{1b}[2J");
        assert_eq!(in_lines("a\nb\tc\r\u{9b}2J"), "a\nb\tc\\r\\u{9b}2J");
        for c in
            "\u{7f}\u{80}\u{9f}\u{200b}\u{200f}\u{2028}\u{2029}\u{202e}\u{2066}\u{2069}\u{feff}"
                .chars()
        {
            assert_eq!(in_lines(&c.to_string()), format!("\\u{{{:x}}}", u32::from(c)));
        }
    }

    #[test]
    fn other_text_stays() {
        for text in ["", "a b", "日本語 é e\u{301} 👍🏽 ñ"] {
            assert!(matches!(in_one_line(text), Cow::Borrowed(same) if same == text));
        }
    }
}
