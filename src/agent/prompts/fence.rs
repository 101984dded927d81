//! The border between callpark's own words and those of others in a text for a model.
//!
//! Tools, MCP servers, models and callers write foreign text. It stands in a fence, two lines with the
//! mark of the text; a foreign word within a sentence of callpark is quoted, in one line. A text that is
//! foreign as a whole, such as the output of a call without a note of callpark, needs neither.
//!
//! The mark is a digest of the whole text, so foreign text cannot contain the mark of the text that it
//! becomes a part of: it would have to contain its own digest. The same text has the same mark whenever
//! it is made, and requests to a model begin with the same bytes. Whatever looks like the line of a
//! fence in a foreign text is changed all the same.

use std::borrow::Cow;
use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use crate::model::visible::{in_one_line, is_hidden, push_visible};

/// The name in the lines of a fence.
pub(super) const FENCE_NAME: &str = "callpark-data";

/// The bytes of the digest in a mark, each of which is two digits.
const MARK_BYTES: usize = 10;

/// The longest text that [`quoted`] shows, in bytes with its escapes.
const QUOTED_BYTES_MAX: usize = 400;

/// The longest name that stands without quotes.
const PLAIN_NAME_BYTES_MAX: usize = 128;

/// The bytes that the lines of a fence add to a text.
pub(super) const FENCE_BYTES: usize = 2 * (FENCE_NAME.len() + 2 * MARK_BYTES + 4) + 2;

/// A text for a model, made of callpark's own words and foreign text.
#[derive(Debug, Default)]
pub(super) struct FencedText {
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Own { words: String, begins_line: bool },
    Mark,
    Foreign(String),
}

impl FencedText {
    /// Adds words of callpark. What they contain of others is [`quoted`].
    pub(super) fn own(&mut self, words: impl Into<String>) {
        self.parts.push(Part::Own { words: words.into(), begins_line: false });
    }

    /// Adds words of callpark that begin a line.
    pub(super) fn own_line(&mut self, words: impl Into<String>) {
        self.parts.push(Part::Own { words: words.into(), begins_line: true });
    }

    /// Adds the mark, to name it in a sentence.
    pub(super) fn mark(&mut self) {
        self.parts.push(Part::Mark);
    }

    /// Adds foreign text, in a fence of its own. The part that follows begins with a new line.
    pub(super) fn foreign(&mut self, text: &str) {
        self.parts.push(Part::Foreign(harmless(text).into_owned()));
    }

    /// Returns the whole text.
    pub(super) fn finish(self) -> String {
        let mark = self.digest();
        let mut text = String::new();
        let mut begins_line = false;
        for part in &self.parts {
            begins_line |= matches!(part, Part::Foreign(_) | Part::Own { begins_line: true, .. });
            if begins_line && !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            match part {
                Part::Own { words, .. } => text.push_str(words),
                Part::Mark => text.push_str(&mark),
                Part::Foreign(foreign) => {
                    let line_end = if foreign.ends_with('\n') { "" } else { "\n" };
                    // Writing to a String can't fail.
                    let _ = write!(
                        text,
                        "<{FENCE_NAME} {mark}>\n{foreign}{line_end}</{FENCE_NAME} {mark}>"
                    );
                }
            }
            begins_line = matches!(part, Part::Foreign(_));
        }
        text
    }

    /// Returns the first digits of a digest over all parts.
    fn digest(&self) -> String {
        let mut digest = Sha256::new();
        for part in &self.parts {
            let (kind, text): (u8, &str) = match part {
                Part::Own { words, .. } => (0, words),
                Part::Mark => (1, ""),
                Part::Foreign(text) => (2, text),
            };
            digest.update([kind]);
            digest.update((text.len() as u64).to_be_bytes());
            digest.update(text.as_bytes());
        }
        digest.finalize().iter().take(MARK_BYTES).fold(String::new(), |mut mark, byte| {
            let _ = write!(mark, "{byte:02x}");
            mark
        })
    }
}

/// Returns foreign text that cannot be taken for the line of a fence: `<` in front of the name of fences,
/// however it is spelled, becomes `&lt;`.
pub(super) fn harmless(text: &str) -> Cow<'_, str> {
    let is_bracket = |c: char| matches!(c, '<' | '\u{ff1c}' | '\u{fe64}' | '\u{2039}');
    let mut changed = String::new();
    let mut copied = 0;
    for (start, bracket) in text.match_indices(is_bracket) {
        let end = start + bracket.len();
        if begins_with_fence_name(&text[end..]) {
            changed.push_str(&text[copied..start]);
            changed.push_str("&lt;");
            copied = end;
        }
    }
    match copied {
        0 => Cow::Borrowed(text),
        _ => Cow::Owned(changed + &text[copied..]),
    }
}

/// Returns whether a text begins with the name of fences, in any case, with hidden characters, spaces or
/// slashes before and within it.
fn begins_with_fence_name(text: &str) -> bool {
    let is_ignored = |c: &char| c.is_whitespace() || is_hidden(*c) || matches!(c, '/' | '\\');
    let mut characters = text.chars().filter(|c| !is_ignored(c));
    let (first_word, _) = FENCE_NAME.split_once('-').unwrap_or((FENCE_NAME, ""));
    first_word
        .chars()
        .all(|letter| characters.next().is_some_and(|c| c.to_ascii_lowercase() == letter))
}

/// Returns foreign text in double quotes, in one line: hidden characters are escaped. Of a long text the
/// quotes hold the beginning, and the number of characters that are missing stands behind them.
pub(super) fn quoted(text: &str) -> String {
    quoted_to(text, QUOTED_BYTES_MAX)
}

/// Returns foreign text as [`quoted`] does, at most so many bytes of it.
pub(super) fn quoted_to(text: &str, bytes_max: usize) -> String {
    let text = harmless(text);
    let mut line = String::from("\"");
    let mut characters = text.chars();
    while let Some(c) = characters.clone().next() {
        let before = line.len();
        match c {
            '"' | '\\' => line.extend(['\\', c]),
            c => push_visible(c, &mut line),
        }
        if line.len() > bytes_max {
            line.truncate(before);
            break;
        }
        characters.next();
    }
    line.push('"');
    let missing = characters.count();
    if missing > 0 {
        let _ = write!(line, "… ({missing} more characters)");
    }
    line
}

/// Returns a name as it is if it has only characters of plain names, such as those of tools, and quoted
/// otherwise.
pub(super) fn name(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./+[]".contains(c);
    let fits = !text.is_empty() && text.len() <= PLAIN_NAME_BYTES_MAX;
    match fits && text.chars().all(is_plain) {
        true => Cow::Borrowed(text),
        false => Cow::Owned(quoted(text)),
    }
}

/// Returns a name as [`name`] does, in backticks in place of none.
pub(super) fn code(text: &str) -> String {
    match name(text) {
        Cow::Borrowed(plain) => format!("`{plain}`"),
        Cow::Owned(quoted) => quoted,
    }
}

/// Returns foreign text in one line without quotes, for the end of a sentence that is an error.
pub(super) fn harmless_line(text: &str) -> String {
    in_one_line(&harmless(text)).into_owned()
}
