//! Output of tools on a terminal: its text and its colours, and nothing else that controls the terminal.

use std::mem;

const ESCAPE: char = '\u{1b}';
const BELL: char = '\u{7}';

/// The longest control sequence that is kept, in characters. Colours need far fewer.
const SEQUENCE_CHARACTERS_MAX: usize = 64;

/// The longest title, link or other string that is left out as a whole, in characters. What follows of a
/// longer one is shown as text, so that a string without an end hides nothing.
const STRING_CHARACTERS_MAX: usize = 4096;

/// A filter for the output of one stream, which arrives in pieces of any size.
///
/// Text, line breaks, tabs, carriage returns and backspaces pass, and so do the sequences that set
/// colours (`CSI … m`). Other controls are left out and counted: movements of the cursor, titles, links,
/// the clipboard, modes, and marks that change the direction of text. Bytes that are not UTF-8 become
/// U+FFFD.
#[derive(Debug, Default)]
pub(crate) struct TerminalFilter {
    state: FilterState,
    /// The beginning of a character whose rest has not arrived.
    unfinished: Vec<u8>,
    /// The number of controls that were left out.
    left_out: u64,
    /// The last colour that was set has not been reset.
    is_coloured: bool,
}

/// The part of the output that the next character belongs to.
#[derive(Debug, Default)]
enum FilterState {
    #[default]
    Text,
    /// Behind an escape character.
    Escape,
    /// In an escape sequence that ends with the first letter or digit.
    EscapeSequence,
    /// In a control sequence with these parameters.
    ControlSequence(String),
    /// In a title, a link or another string: the number of its characters, and whether the last one is
    /// an escape character, which may belong to its end.
    String { characters: usize, after_escape: bool },
}

impl TerminalFilter {
    /// Returns what a terminal may be sent of this piece.
    pub(crate) fn pass(&mut self, piece: &[u8]) -> String {
        let mut bytes = mem::take(&mut self.unfinished);
        bytes.extend_from_slice(piece);
        let mut shown = String::with_capacity(bytes.len());
        let mut chunks = bytes.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            chunk.valid().chars().for_each(|c| self.take(c, &mut shown));
            let invalid = chunk.invalid();
            let is_cut = chunks.peek().is_none()
                && std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none());
            match (invalid, is_cut) {
                ([], _) => {}
                (cut, true) => self.unfinished = cut.to_vec(),
                (_, false) => self.take(char::REPLACEMENT_CHARACTER, &mut shown),
            }
        }
        shown
    }

    /// Returns what a terminal is sent after the last piece, and the number of controls that were left
    /// out. The filter begins anew.
    pub(crate) fn finish(&mut self) -> (String, u64) {
        let mut shown = String::new();
        if !mem::take(&mut self.unfinished).is_empty() {
            self.take(char::REPLACEMENT_CHARACTER, &mut shown);
        }
        let ended = mem::take(self);
        if ended.is_coloured {
            shown.push_str("\x1b[0m");
        }
        let is_open = !matches!(ended.state, FilterState::Text);
        (shown, ended.left_out + u64::from(is_open))
    }

    fn take(&mut self, c: char, shown: &mut String) {
        self.state = match (mem::take(&mut self.state), c) {
            (FilterState::String { after_escape: true, .. }, '\\') => self.leave_out(),
            (FilterState::String { after_escape: true, .. }, c) => {
                self.left_out += 1;
                self.after_escape(c, shown)
            }
            (FilterState::String { .. }, BELL | '\u{9c}' | '\u{18}' | '\u{1a}') => self.leave_out(),
            (FilterState::String { characters, .. }, _) if characters == STRING_CHARACTERS_MAX => {
                self.left_out += 1;
                self.text(c, shown)
            }
            (FilterState::String { characters, .. }, c) => {
                FilterState::String { characters: characters + 1, after_escape: c == ESCAPE }
            }
            (FilterState::Text, c) => self.text(c, shown),
            (_, ESCAPE) => {
                self.left_out += 1;
                FilterState::Escape
            }
            (FilterState::Escape, c) => self.after_escape(c, shown),
            (FilterState::EscapeSequence, ' '..='/') => FilterState::EscapeSequence,
            (FilterState::EscapeSequence, '0'..='~') => self.leave_out(),
            (FilterState::ControlSequence(parameters), 'm') if is_colour(&parameters) => {
                self.is_coloured = !matches!(parameters.as_str(), "" | "0");
                shown.extend([ESCAPE, '[']);
                shown.push_str(&parameters);
                shown.push('m');
                FilterState::Text
            }
            (FilterState::ControlSequence(mut parameters), c @ ' '..='?') => {
                // A sequence that is too long is left out: no colour has so many parameters.
                if parameters.len() < SEQUENCE_CHARACTERS_MAX {
                    parameters.push(c);
                }
                FilterState::ControlSequence(parameters)
            }
            (FilterState::ControlSequence(_), '@'..='~') => self.leave_out(),
            // A sequence that is broken off.
            (FilterState::EscapeSequence | FilterState::ControlSequence(_), c) => {
                self.left_out += 1;
                self.text(c, shown)
            }
        };
    }

    /// Takes a character outside of sequences.
    fn text(&mut self, c: char, shown: &mut String) -> FilterState {
        match c {
            ESCAPE => FilterState::Escape,
            '\u{9b}' => FilterState::ControlSequence(String::new()),
            '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}' => STRING,
            '\n' | '\r' | '\t' | '\u{8}' | BELL => {
                shown.push(c);
                FilterState::Text
            }
            c if c.is_control() || changes_direction(c) => self.leave_out(),
            c => {
                shown.push(c);
                FilterState::Text
            }
        }
    }

    fn after_escape(&mut self, c: char, shown: &mut String) -> FilterState {
        match c {
            '[' => FilterState::ControlSequence(String::new()),
            ']' | 'P' | 'X' | '^' | '_' => STRING,
            ESCAPE => {
                self.left_out += 1;
                FilterState::Escape
            }
            ' '..='/' => FilterState::EscapeSequence,
            '0'..='~' => self.leave_out(),
            c => {
                self.left_out += 1;
                self.text(c, shown)
            }
        }
    }

    fn leave_out(&mut self) -> FilterState {
        self.left_out += 1;
        FilterState::Text
    }
}

const STRING: FilterState = FilterState::String { characters: 0, after_escape: false };

/// Returns whether a control sequence with these parameters and the end `m` sets colours. With others,
/// such as `>4`, it sets modes of the keyboard.
fn is_colour(parameters: &str) -> bool {
    parameters.len() < SEQUENCE_CHARACTERS_MAX
        && parameters.chars().all(|c| c.is_ascii_digit() || matches!(c, ';' | ':'))
}

/// Returns whether a character changes the direction of the text that follows it.
fn changes_direction(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns what passes and how much does not, whatever the pieces are in which the output arrives.
    fn filtered(output: &[u8]) -> (String, u64) {
        let whole = {
            let mut filter = TerminalFilter::default();
            let shown = filter.pass(output);
            let (end, left_out) = filter.finish();
            (shown + &end, left_out)
        };
        for length in [1, 2, 3, 7] {
            let mut filter = TerminalFilter::default();
            let mut shown = String::new();
            output.chunks(length).for_each(|piece| shown.push_str(&filter.pass(piece)));
            let (end, left_out) = filter.finish();
            assert_eq!((shown + &end, left_out), whole, "in pieces of {length}");
        }
        whole
    }

    #[test]
    fn text_and_colours_pass() {
        let output =
            "a\tb\r\n日本 \u{1b}[1;31mred\u{1b}[0m \u{1b}[38:5:9mx\u{1b}[m 👍🏽 a\u{200d}b\u{8}\u{7}";
        assert_eq!(filtered(output.as_bytes()), (output.to_owned(), 0));
    }

    #[test]
    fn a_colour_that_is_left_on_is_reset() {
        assert_eq!(filtered(b"\x1b[31mred"), ("\u{1b}[31mred\u{1b}[0m".to_owned(), 0));
    }

    #[test]
    fn other_controls_are_left_out_and_counted() {
        for control in [
            "\u{1b}[2J",
            "\u{1b}[1;1H",
            "\u{1b}[?1049h",
            "\u{1b}[>4;2m",
            "\u{1b}[6n",
            "\u{1b}[0 q",
            "\u{1b}]0;title\u{7}",
            "\u{1b}]52;c;aGk=\u{1b}\\",
            "\u{1b}]8;;http://a\u{1b}\\",
            "\u{1b}Pq#0\u{1b}\\",
            "\u{1b}_apc\u{1b}\\",
            "\u{1b}^pm\u{9c}",
            "\u{1b}Xsos\u{1b}\\",
            "\u{1b}c",
            "\u{1b}7",
            "\u{1b}(0",
            "\u{1b}#8",
            "\u{9b}2J",
            "\u{9d}0;title\u{9c}",
            "\u{90}q\u{9c}",
            "\u{85}",
            "\u{202e}",
            "\u{2066}",
            "\u{e}",
            "\u{0}",
            "\u{7f}",
        ] {
            let output = format!("a{control}b");
            assert_eq!(filtered(output.as_bytes()), ("ab".to_owned(), 1), "{control:?}");
        }
    }

    #[test]
    fn broken_sequences_hide_nothing_that_follows() {
        assert_eq!(filtered(b"a\x1b[2\nb"), ("a\nb".to_owned(), 1));
        assert_eq!(filtered(b"a\x1b[2\x1b[31mb\x1b[0m"), ("a\u{1b}[31mb\u{1b}[0m".to_owned(), 1));
        assert_eq!(filtered(b"a\x1b[2"), ("a".to_owned(), 1));
        assert_eq!(filtered(b"a\x1b"), ("a".to_owned(), 1));
        assert_eq!(filtered(b"a\x1b]0;b\x1b[31mc\x1b[0m"), ("a\u{1b}[31mc\u{1b}[0m".to_owned(), 1));
        let endless = format!("a\u{1b}]{}end", "x".repeat(STRING_CHARACTERS_MAX));
        assert_eq!(filtered(endless.as_bytes()), ("aend".to_owned(), 1));
    }

    #[test]
    fn bytes_that_are_not_text_are_marked() {
        assert_eq!(
            filtered(b"a\xffb\x9b2J\xe6\x97"),
            ("a\u{fffd}b\u{fffd}2J\u{fffd}".to_owned(), 0)
        );
    }
}
