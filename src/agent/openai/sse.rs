//! The body of an answer: a stream of server-sent events, or a document where a stream was asked for.

use crate::model::limits::{MODEL_ANSWER_BYTES_MAX, MODEL_STREAM_BYTES_MAX};

/// The part of a body without events that is kept for an error, in bytes.
const STRAY_BYTES_MAX: usize = 1024;

/// An event of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SseEvent {
    /// The name, or an empty text for none.
    pub(super) name: String,
    pub(super) data: String,
}

/// The end of a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BodyEnd {
    /// The end of a stream of events, with the last one if its empty line is missing.
    Events(Option<SseEvent>),
    /// A document.
    Document(String),
    /// A body without events: the beginning of its text.
    Stray(String),
}

/// The size of a body, or of a part of it, exceeds its limit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BodyTooLarge;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Kind {
    /// Nothing but empty lines so far.
    #[default]
    Unknown,
    Events,
    Document,
}

/// A decoder of bodies. It takes every form of server-sent events, and beyond them an `error` field,
/// errors on a line of their own, and text that is not UTF-8.
#[derive(Debug, Default)]
pub(super) struct BodyDecoder {
    kind: Kind,
    /// A line that is incomplete.
    line: Vec<u8>,
    /// `true` if the last byte was a carriage return, which a line feed may follow.
    is_after_return: bool,
    name: String,
    data: Option<String>,
    has_events: bool,
    document: Vec<u8>,
    stray: Vec<u8>,
    bytes: usize,
}

impl BodyDecoder {
    /// Adds bytes, and appends the events that they complete to `events`.
    pub(super) fn push(
        &mut self,
        mut bytes: &[u8],
        events: &mut Vec<SseEvent>,
    ) -> Result<(), BodyTooLarge> {
        self.bytes = self.bytes.saturating_add(bytes.len());
        if self.bytes > MODEL_STREAM_BYTES_MAX {
            return Err(BodyTooLarge);
        }
        while let Some((first, rest)) = bytes.split_first() {
            if std::mem::take(&mut self.is_after_return) && *first == b'\n' {
                bytes = rest;
                continue;
            }
            let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            self.line.extend_from_slice(&bytes[..end.unwrap_or(bytes.len())]);
            let data = self.data.as_ref().map_or(0, String::len);
            if self.line.len() + data + self.document.len() > MODEL_ANSWER_BYTES_MAX {
                return Err(BodyTooLarge);
            }
            let Some(end) = end else { break };
            self.is_after_return = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            let line = std::mem::take(&mut self.line);
            events.extend(self.take_line(&line));
        }
        Ok(())
    }

    /// Ends the body.
    pub(super) fn finish(mut self) -> BodyEnd {
        let line = std::mem::take(&mut self.line);
        let last = self.take_line(&line).or_else(|| self.take_event());
        match self.kind {
            Kind::Document => BodyEnd::Document(text_of(&self.document)),
            _ if self.has_events => BodyEnd::Events(last),
            _ => BodyEnd::Stray(text_of(&self.stray)),
        }
    }

    fn take_line(&mut self, line: &[u8]) -> Option<SseEvent> {
        let line = match self.kind {
            Kind::Unknown => line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line),
            Kind::Events | Kind::Document => line,
        };
        if self.kind == Kind::Unknown {
            self.kind = match line.trim_ascii_start().first() {
                None => Kind::Unknown,
                Some(b'{' | b'[' | b'<' | b'"') => Kind::Document,
                Some(_) => Kind::Events,
            };
        }
        if self.kind == Kind::Document {
            self.document.extend_from_slice(line);
            self.document.push(b'\n');
            return None;
        }
        if line.is_empty() {
            return self.take_event();
        }
        let (field, value) = match line.iter().position(|byte| *byte == b':') {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &b""[..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => self.push_data(value),
            b"event" => self.name = text_of(value),
            // Early versions of llama.cpp report errors in a field of this name.
            b"error" => {
                "error".clone_into(&mut self.name);
                self.push_data(value);
            }
            b"" | b"id" | b"retry" => {}
            _ if line.starts_with(b"{") && is_error(line) => {
                self.has_events = true;
                return Some(SseEvent { name: "error".into(), data: text_of(line) });
            }
            _ => self.push_stray(line),
        }
        None
    }

    fn push_data(&mut self, value: &[u8]) {
        let value = text_of(value);
        match &mut self.data {
            Some(data) => {
                data.push('\n');
                data.push_str(&value);
            }
            None => self.data = Some(value),
        }
    }

    fn push_stray(&mut self, line: &[u8]) {
        let room = STRAY_BYTES_MAX.saturating_sub(self.stray.len());
        self.stray.extend_from_slice(&line[..line.len().min(room)]);
        self.stray.push(b' ');
    }

    /// Takes the event whose lines are complete. One without data, such as one that only sets an id,
    /// is not part of an answer.
    fn take_event(&mut self) -> Option<SseEvent> {
        let name = std::mem::take(&mut self.name);
        let data = self.data.take()?;
        self.has_events = true;
        Some(SseEvent { name, data })
    }
}

/// Returns `true` for a line that is JSON with an error.
fn is_error(line: &[u8]) -> bool {
    let value = serde_json::from_slice::<serde_json::Value>(line);
    value.is_ok_and(|value| super::lenient::field(&value, "error").is_some())
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads the same bytes in pieces of each size, and returns the events and the end.
    fn read(text: &[u8]) -> (Vec<SseEvent>, BodyEnd) {
        let in_pieces_of = |size: usize| {
            let (mut decoder, mut events) = (BodyDecoder::default(), Vec::new());
            for piece in text.chunks(size) {
                decoder.push(piece, &mut events).expect("is small");
            }
            let end = decoder.finish();
            (events, end)
        };
        let whole = in_pieces_of(text.len());
        for size in 1..text.len() {
            assert_eq!(in_pieces_of(size), whole, "in pieces of {size} bytes");
        }
        whole
    }

    fn event(name: &str, data: &str) -> SseEvent {
        SseEvent { name: name.into(), data: data.into() }
    }

    #[test]
    fn every_form_of_an_event_is_read() {
        for text in [
            "data: a\n\ndata: b\n\n",
            "data: a\r\n\r\ndata: b\r\n\r\n",
            "data: a\r\rdata: b\r\r",
            "\u{feff}data:a\n\ndata:b\n\n",
            "\n\ndata: a\n\n\n\ndata: b\n\n",
            ": a comment\n\ndata: a\n: another\n\n:\ndata: b\n\n",
            "id: 1\nid: 2\nretry: soon\ndata: a\n\nid: 3\n\ndata: b\n\n",
            "unknown: x\ndata: a\nno colon\n\n{\"object\": 1}\ndata: b\n\n",
        ] {
            let expected = vec![event("", "a"), event("", "b")];
            assert_eq!(read(text.as_bytes()), (expected, BodyEnd::Events(None)), "{text:?}");
        }
        assert_eq!(read(b"data: a\ndata: b\n\n").0, [event("", "a\nb")]);
        assert_eq!(read(b"event: x\ndata: a\n\ndata: b\n\n").0, [event("x", "a"), event("", "b")]);
        assert_eq!(read(b"data: a\xff\n\n").0, [event("", "a\u{FFFD}")]);
    }

    #[test]
    fn the_last_event_may_lack_its_empty_line() {
        for text in ["data: a\n\ndata: b\n", "data: a\n\ndata: b"] {
            let expected = (vec![event("", "a")], BodyEnd::Events(Some(event("", "b"))));
            assert_eq!(read(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn errors_outside_of_data_are_events() {
        let json = r#"{"error":{"message":"no"}}"#;
        for text in [format!("error: {json}\n\n"), format!(": x\n{json}\n")] {
            assert_eq!(read(text.as_bytes()).0, [event("error", json)], "{text:?}");
        }
    }

    #[test]
    fn a_document_is_recognised_by_its_beginning() {
        for text in ["{\"a\":\n\n1}", "\n [1]", "<html>\n<p>data: x\n\n</html>"] {
            let (events, end) = read(text.as_bytes());
            let BodyEnd::Document(document) = end else { panic!("{text:?} is {end:?}") };
            assert_eq!((events.len(), document.trim()), (0, text.trim()));
        }
        let (_, end) = read(b"upstream connect error\nreset");
        assert_eq!(end, BodyEnd::Stray("upstream connect error reset ".into()));
        assert_eq!(read(b": ping\n\n").1, BodyEnd::Stray(String::new()));
    }

    #[test]
    fn what_is_too_large_is_refused() {
        let piece = vec![b'x'; MODEL_ANSWER_BYTES_MAX];
        let document = [b"{\n", &piece[..]].concat();
        for first in
            [piece.clone(), [b"data: ", &piece[..piece.len() - 6], b"\n"].concat(), document]
        {
            let (mut decoder, mut events) = (BodyDecoder::default(), Vec::new());
            let pushed =
                decoder.push(&first, &mut events).and_then(|()| decoder.push(&piece, &mut events));
            assert_eq!((pushed, events.len()), (Err(BodyTooLarge), 0));
        }
        let (mut decoder, mut events) = (BodyDecoder::default(), Vec::new());
        let comment = [b":", &piece[..piece.len() - 2], b"\n"].concat();
        let pieces = MODEL_STREAM_BYTES_MAX / comment.len() + 1;
        let pushed = (0..pieces).try_for_each(|_| decoder.push(&comment, &mut events));
        assert_eq!(pushed, Err(BodyTooLarge));
    }
}
