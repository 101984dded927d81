//! Output as a terminal would show it at its end.
//!
//! A progress bar writes the same line again and again, with carriage returns, backspaces and
//! escape sequences in between. People see the last state of it; the log holds every byte.

use std::borrow::Cow;

const ESCAPE: u8 = 0x1b;

/// The longest title or link that is searched for its end, in bytes.
const STRING_BYTES_MAX: usize = 2048;

/// Returns the output with each line as a terminal shows it when the line ends: what was
/// overwritten or erased is left out, and so are colours. Lines without such controls stay as they
/// are, and so do line ends.
///
/// Only movements within a line are followed, and every character counts as one column wide. Takes
/// linear time, and no more memory than a small multiple of the longest line.
pub fn as_shown(output: &[u8]) -> Cow<'_, [u8]> {
    if !output.iter().any(|byte| is_control(*byte)) {
        return Cow::Borrowed(output);
    }
    let mut shown = Vec::with_capacity(output.len());
    for line in output.split_inclusive(|byte| *byte == b'\n') {
        let end = line.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n'));
        let (body, end) = line.split_at(end.map_or(0, |last| last + 1));
        if body.iter().any(|byte| is_control(*byte)) {
            TerminalLine::of(body).write(body, &mut shown);
        } else {
            shown.extend_from_slice(body);
        }
        shown.extend_from_slice(end);
    }
    Cow::Owned(shown)
}

/// Returns a text as [`as_shown`] does.
pub fn text_as_shown(text: &str) -> Cow<'_, str> {
    match as_shown(text.as_bytes()) {
        Cow::Borrowed(_) => Cow::Borrowed(text),
        // Whole characters are left out, so it is still UTF-8.
        Cow::Owned(shown) => Cow::Owned(String::from_utf8_lossy(&shown).into_owned()),
    }
}

/// Returns whether a byte may change what is shown of the line around it.
fn is_control(byte: u8) -> bool {
    matches!(byte, b'\r' | 0x08 | ESCAPE)
}

/// One line of a terminal.
#[derive(Default)]
struct TerminalLine {
    cells: Vec<Cell>,
    /// The column of the next character, at most the number of cells.
    column: usize,
    /// The erasures that still matter: the later ones end further left. Erasing only notes the
    /// columns, or a line that is erased a million times would take a million times its length.
    erasures: Vec<Erasure>,
    erasures_total: usize,
}

/// A character, by its position in the line that was written.
struct Cell {
    start: usize,
    /// The number of erasures before it was written.
    erasures_before: usize,
}

/// The erasure of all columns before one.
struct Erasure {
    number: usize,
    before: usize,
}

impl TerminalLine {
    fn of(written: &[u8]) -> Self {
        let mut line = Self::default();
        let mut at = 0;
        while let Some(byte) = written.get(at).copied() {
            at += match byte {
                ESCAPE => line.escape(&written[at..]),
                b'\r' => {
                    line.column = 0;
                    1
                }
                0x08 => {
                    line.column = line.column.saturating_sub(1);
                    1
                }
                // Other controls, such as a bell, have no column.
                0..=0x08 | 0x0b..=0x1f | 0x7f => 1,
                _ => {
                    line.put(at);
                    character_length(&written[at..])
                }
            };
        }
        line
    }

    fn put(&mut self, start: usize) {
        let cell = Cell { start, erasures_before: self.erasures_total };
        match self.cells.get_mut(self.column) {
            Some(old) => *old = cell,
            None => self.cells.push(cell),
        }
        self.column += 1;
    }

    /// Follows an escape sequence, and returns its length.
    fn escape(&mut self, written: &[u8]) -> usize {
        match written.get(1) {
            Some(b'[') => self.control_sequence(written),
            // A title or a link, up to a bell or ESC \.
            Some(b']' | b'P' | b'_' | b'^' | b'X') => {
                let string = &written[2..written.len().min(STRING_BYTES_MAX)];
                let end = string.iter().position(|byte| matches!(*byte, 0x07 | ESCAPE));
                match end.map(|end| (end, &string[end..])) {
                    Some((end, [ESCAPE, b'\\', ..])) => 2 + end + 2,
                    Some((end, [0x07, ..])) => 2 + end + 1,
                    // It has no end: only its first characters are left out.
                    _ => 2,
                }
            }
            Some(0x20..=0x2f) => 3.min(written.len()),
            Some(0x30..=0x7e) => 2,
            _ => 1,
        }
    }

    /// Follows `ESC [ parameters command`, and returns its length.
    fn control_sequence(&mut self, written: &[u8]) -> usize {
        let rest = &written[2..];
        let length = rest.iter().take_while(|byte| (0x20..=0x3f).contains(*byte)).count();
        let command = rest.get(length).filter(|byte| (0x40..=0x7e).contains(*byte));
        // Another sequence begins, or the output ends.
        let Some(command) = command else { return 2 + length };
        let parameter = std::str::from_utf8(&rest[..length]).unwrap_or_default();
        let number: Option<usize> = parameter.parse().ok();
        let count = number.unwrap_or(1).max(1);
        match (command, number.unwrap_or(0)) {
            (b'K', 0) => self.cells.truncate(self.column),
            (b'K', 1) => self.erase(self.column.saturating_add(1)),
            (b'K', 2) => self.erase(usize::MAX),
            (b'C', _) => self.column = self.column.saturating_add(count).min(self.cells.len()),
            (b'D', _) => self.column = self.column.saturating_sub(count),
            (b'G', _) => self.column = (count - 1).min(self.cells.len()),
            _ => {}
        }
        2 + length + 1
    }

    fn erase(&mut self, before: usize) {
        self.erasures_total += 1;
        while self.erasures.last().is_some_and(|last| last.before <= before) {
            self.erasures.pop();
        }
        self.erasures.push(Erasure { number: self.erasures_total, before });
    }

    /// Writes what is shown at the end. Blanks at the end of the line are not seen.
    fn write(mut self, written: &[u8], shown: &mut Vec<u8>) {
        let start = shown.len();
        for (column, cell) in self.cells.iter().enumerate() {
            while self.erasures.last().is_some_and(|last| last.before <= column) {
                self.erasures.pop();
            }
            let erasure = self.erasures.last().map_or(0, |last| last.number);
            match erasure > cell.erasures_before {
                true => shown.push(b' '),
                false => {
                    let rest = &written[cell.start..];
                    shown.extend_from_slice(&rest[..character_length(rest)]);
                }
            }
        }
        while shown.len() > start && shown.last() == Some(&b' ') {
            shown.pop();
        }
    }
}

/// Returns the length of the character at the beginning. A byte that begins none is one by itself.
fn character_length(text: &[u8]) -> usize {
    let length = match text.first() {
        Some(0xc2..=0xdf) => 2,
        Some(0xe0..=0xef) => 3,
        Some(0xf0..=0xf4) => 4,
        _ => return 1,
    };
    match text.get(..length) {
        Some(character) if std::str::from_utf8(character).is_ok() => length,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn shown(text: &str) -> String {
        text_as_shown(text).into_owned()
    }

    #[test]
    fn a_line_without_controls_stays_as_it_is() {
        for text in ["", "a\tb  \nc", "dos\r\nlines \r\n", "\n\n", "ring\x07 \n"] {
            assert_eq!(shown(text), text);
        }
        assert!(matches!(as_shown(b"plain\n"), Cow::Borrowed(_)));
    }

    #[test]
    fn the_last_state_of_a_line_is_shown() {
        for (written, seen) in [
            ("10 %\r20 %\r100 %\ndone\n", "100 %\ndone\n"),
            ("10 %\r20 %\r", "20 %\r"),
            ("loading...\rok\n", "okading...\n"),
            ("loading...\r\x1b[Kok\n", "ok\n"),
            ("loading...\r\x1b[0Kok\n", "ok\n"),
            ("loading...\x1b[2K\rok\r\n", "ok\r\n"),
            ("\x1b[2K\x1b[1Gone\x1b[2K\x1b[1Gtwo", "two"),
            ("12\x08\x083", "32"),
            ("abc\x1b[2D\x1b[1Kd", " dc"),
            ("abc\x1b[1D\x1b[1K", ""),
            ("über\rÜ", "Über"),
            ("a   \r    \rb", "b"),
        ] {
            assert_eq!(shown(written), seen, "{written:?}");
        }
    }

    #[test]
    fn sequences_that_show_nothing_are_left_out() {
        for (written, seen) in [
            ("\x1b[1;31merror\x1b[0m: x\n", "error: x\n"),
            ("\x1b]8;;https://a.example\x1b\\link\x1b]8;;\x07\n", "link\n"),
            ("\x1b]0;title\x07text\n", "text\n"),
            ("\x1b]no end\nnext", "no end\nnext"),
            ("\x1b(Btext\x1b7\x1b", "text"),
            ("cut\x1b[3", "cut"),
            ("up\x1b[1A\x1b[99999999999999999999C!", "up!"),
        ] {
            assert_eq!(shown(written), seen, "{written:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_kept() {
        assert_eq!(as_shown(b"caf\xe9 1\rcaf\xe9 2\n").as_ref(), b"caf\xe9 2\n");
        assert_eq!(as_shown(b"a\r\xe6\x97").as_ref(), b"\xe6\x97");
    }

    #[test]
    fn the_time_is_linear_in_the_output() {
        let long = "x".repeat(500_000);
        let begin = Instant::now();
        for repeated in [
            "\x1b[2Kx",
            "\x1b[1K",
            "\x1b[999999G\x1b[1K\ry",
            "\r\x1b[Kz",
            "\x1b[K",
            "\x1b]",
            "\x1b[9",
        ] {
            let written = long.clone() + &repeated.repeat(50_000);
            assert!(shown(&written).len() <= written.len());
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    }
}
