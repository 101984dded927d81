//! Messages over several lines. The protocol has one line for each message, but some servers print their
//! JSON with indentation.

use std::time::Duration;

use serde::de::IgnoredAny;
use tokio::time::Instant;

use crate::exec::LINE_BYTES_MAX;

/// The lines of a message that are joined.
const LINES_MAX: usize = 100_000;
/// The time for which the next line of a message is waited for: a call must not hang because its answer
/// was cut.
const NEXT_LINE_TIMEOUT: Duration = Duration::from_secs(5);

/// Joins the lines of a message. Every other line passes through.
#[derive(Default)]
pub(super) struct LineJoiner {
    /// The lines of a message so far, or nothing.
    text: Vec<u8>,
    lines: usize,
    nesting: Nesting,
    /// The time until which the next line of the message is waited for.
    deadline: Option<Instant>,
}

impl LineJoiner {
    /// Takes a line with its end. Returns the texts that are to be read now.
    pub(super) fn push(&mut self, line: Vec<u8>) -> impl Iterator<Item = Vec<u8>> {
        let is_inside = !self.text.is_empty() && !is_message(&line);
        let abandoned = if is_inside { None } else { self.flush() };
        let complete = match is_inside {
            true => self.extend(&line),
            false => self.begin(line),
        };
        abandoned.into_iter().chain(complete)
    }

    /// Returns the lines of a message that is not complete, which then ends.
    pub(super) fn flush(&mut self) -> Option<Vec<u8>> {
        let Self { text, .. } = std::mem::take(self);
        (!text.is_empty()).then_some(text)
    }

    /// Returns the time at which the message is to be flushed unless another line comes.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Takes the first line of a message. Returns it if no other line belongs to it.
    fn begin(&mut self, line: Vec<u8>) -> Option<Vec<u8>> {
        let mut nesting = Nesting::default();
        nesting.read(&line);
        let trimmed = line.trim_ascii();
        let is_beginning = trimmed.starts_with(b"{") || trimmed == b"[";
        // What ends at another place was cut.
        let goes_on = matches!(trimmed.last(), Some(b'{' | b'[' | b',')) && !nesting.is_in_string;
        if !is_beginning || !goes_on || nesting.depth == 0 {
            return Some(line);
        }
        let deadline = Some(Instant::now() + NEXT_LINE_TIMEOUT);
        *self = Self { text: line, lines: 1, nesting, deadline };
        None
    }

    /// Takes a further line of a message. Returns the message if it is complete or too long.
    fn extend(&mut self, line: &[u8]) -> Option<Vec<u8>> {
        self.text.extend_from_slice(line);
        self.lines += 1;
        self.nesting.read(line);
        self.deadline = Some(Instant::now() + NEXT_LINE_TIMEOUT);
        let is_full = self.lines >= LINES_MAX || self.text.len() >= LINE_BYTES_MAX;
        if self.nesting.is_complete() || is_full { self.flush() } else { None }
    }
}

/// Returns `true` if a line is a message of its own. The parts of one that is printed with indentation
/// are indented, or end with other lines.
fn is_message(line: &[u8]) -> bool {
    let is_object = line.starts_with(b"{") && !line.starts_with(b"{}");
    is_object && serde_json::from_slice::<IgnoredAny>(line).is_ok()
}

/// The brackets of a JSON text that are open.
#[derive(Default)]
struct Nesting {
    depth: usize,
    is_in_string: bool,
    is_escaped: bool,
}

impl Nesting {
    fn read(&mut self, text: &[u8]) {
        for byte in text {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' => self.is_escaped = self.is_in_string,
                b'"' => self.is_in_string = !self.is_in_string,
                _ if self.is_in_string => {}
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
    }

    fn is_complete(&self) -> bool {
        self.depth == 0 && !self.is_in_string
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn push(joiner: &mut LineJoiner, line: &str) -> Vec<String> {
        let texts = joiner.push(format!("{line}\n").into_bytes());
        texts.map(|text| String::from_utf8(text).expect("UTF-8")).collect()
    }

    /// Returns the texts of these lines, without what is left at their end.
    fn texts(joiner: &mut LineJoiner, lines: &str) -> Vec<String> {
        lines.lines().flat_map(|line| push(joiner, line)).collect()
    }

    #[test]
    fn a_message_that_is_printed_with_indentation_is_one_text() {
        let message = json!({ "jsonrpc": "2.0", "id": 1, "result": {
            "content": [{ "type": "text", "text": "a { \"quoted\" [ \\" }, {}, [[]], null] } });
        let indented = serde_json::to_string_pretty(&message).expect("JSON");
        let flat = indented.lines().map(str::trim_start).collect::<Vec<_>>().join("\n");
        let opened = indented.replacen("{\n", "{ ", 1);
        let batch = format!("[\n{indented}\n]");
        for lines in [indented, flat, opened] {
            let mut joiner = LineJoiner::default();
            let texts = texts(&mut joiner, &lines);
            let [text] = &texts[..] else { panic!("{texts:?}") };
            assert_eq!(serde_json::from_str::<Value>(text).expect("JSON"), message);
            assert_eq!(joiner.deadline(), None);
        }
        let texts = texts(&mut LineJoiner::default(), &batch);
        assert_eq!(texts, [format!("{batch}\n")]);
    }

    #[test]
    fn what_does_not_go_on_passes_through() {
        for line in [
            r#"{"jsonrpc":"2.0","id":1}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"te"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"text":"a,"#,
            r#"{"jsonrpc":"2.0","id":1"#,
            "INFO {",
            "[INFO] ready,",
            "words",
            "",
        ] {
            let mut joiner = LineJoiner::default();
            assert_eq!(push(&mut joiner, line), [format!("{line}\n")], "{line}");
            assert_eq!(joiner.deadline(), None, "{line}");
        }
    }

    #[test]
    fn a_message_of_its_own_ends_one_that_was_cut() {
        let mut joiner = LineJoiner::default();
        assert_eq!(texts(&mut joiner, "{\n  \"id\": 1,\n"), [""; 0]);
        assert!(joiner.deadline().is_some());
        let whole = r#"{"jsonrpc":"2.0","id":2}"#;
        assert_eq!(
            push(&mut joiner, whole),
            ["{\n  \"id\": 1,\n".to_owned(), format!("{whole}\n")]
        );
        assert_eq!((joiner.deadline(), joiner.flush()), (None, None));
    }

    #[test]
    fn a_message_without_end_is_bounded() {
        let mut joiner = LineJoiner::default();
        assert_eq!(push(&mut joiner, "{"), [""; 0]);
        let lines = (0..).find(|_| !push(&mut joiner, "x").is_empty()).expect("a bound");
        assert_eq!(lines, LINES_MAX - 2);
        let long = "x".repeat(LINE_BYTES_MAX / 4);
        assert_eq!(push(&mut joiner, "{"), [""; 0]);
        let lines = (0..).find(|_| !push(&mut joiner, &long).is_empty()).expect("a bound");
        assert_eq!(lines, 3);
    }

    proptest! {
        #[test]
        fn no_byte_is_lost(lines in prop::collection::vec("[ \\[\\]{},:\"\\\\a]{0,6}", 0..20)) {
            let mut joiner = LineJoiner::default();
            let mut all: String = lines.iter().flat_map(|line| push(&mut joiner, line)).collect();
            all.extend(joiner.flush().map(|text| String::from_utf8(text).expect("UTF-8")));
            prop_assert_eq!(all, lines.iter().map(|line| format!("{line}\n")).collect::<String>());
        }
    }
}
