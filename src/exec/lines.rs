//! What a process that is talked to says, read with a bound on its lines.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader, ReadBuf};

use crate::model::Exit;

/// The longest line that is read: one message, in bytes.
pub const LINE_BYTES_MAX: usize = 16 << 20;

/// A reader that fails at a line that is too long, where whoever waits for an answer in it would
/// wait for ever.
#[derive(Debug)]
pub struct BoundedLines<R> {
    reader: R,
    /// Of the line that isn't complete.
    length: usize,
    fault: FirstError,
}

/// Why reading has failed, for others to ask.
#[derive(Debug, Clone, Default)]
pub struct FirstError(Arc<Mutex<Option<String>>>);

impl FirstError {
    /// Notes the first fault.
    pub fn note(&self, fault: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(fault);
    }

    /// The fault, if there is one.
    pub fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl<R> BoundedLines<R> {
    /// Reads from `reader`, and notes what goes wrong in `fault`.
    pub fn new(reader: R, fault: FirstError) -> Self {
        Self { reader, length: 0, fault }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for BoundedLines<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.reader).poll_read(cx, buffer))?;
        let read = &buffer.filled()[before..];
        let (first, last) = match read.iter().rposition(|byte| *byte == b'\n') {
            Some(at) => {
                let first = read.iter().position(|byte| *byte == b'\n').unwrap_or(at);
                (self.length + first, read.len() - at - 1)
            }
            None => (self.length + read.len(), self.length + read.len()),
        };
        self.length = last;
        if first.max(last) > LINE_BYTES_MAX {
            let fault = format!("it sent a message of more than {} MiB", LINE_BYTES_MAX >> 20);
            self.fault.note(fault.clone());
            // With an error nothing is read.
            buffer.set_filled(before);
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, fault)));
        }
        Poll::Ready(Ok(()))
    }
}

/// The last lines of what a process says to people.
#[derive(Debug, Clone, Default)]
pub struct LastLines(Arc<Mutex<VecDeque<String>>>);

/// BoundedLines that are remembered, and how much of each, in bytes.
const LAST_LINES_MAX: usize = 5;
const LAST_LINE_BYTES_MAX: usize = 400;

impl LastLines {
    /// One more line, without its end.
    pub fn push(&self, line: &[u8]) {
        let line = &line[..line.len().min(LAST_LINE_BYTES_MAX)];
        let line = String::from_utf8_lossy(line).trim_end().to_owned();
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LAST_LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// All that is remembered, as the end of a sentence; empty: nothing.
    pub fn suffix(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.is_empty() {
            return String::new();
        }
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        format!("; its last words were: {}", lines.join(" | "))
    }

    /// Reads what a process says to people, until nobody can write there any more. Each line is
    /// told, too; its beginning is enough to know it by.
    pub async fn follow(&self, stderr: impl AsyncRead + Unpin, tell: impl Fn(&str)) {
        let mut reader = BufReader::new(stderr);
        let mut line = Vec::new();
        let note = |line: &[u8]| {
            tell(&String::from_utf8_lossy(line));
            self.push(line);
        };
        loop {
            let (length, is_whole) = match reader.fill_buf().await {
                Ok([]) | Err(_) => break,
                Ok(bytes) => match bytes.iter().position(|byte| *byte == b'\n') {
                    Some(at) => {
                        keep(&mut line, &bytes[..at]);
                        (at + 1, true)
                    }
                    None => {
                        keep(&mut line, bytes);
                        (bytes.len(), false)
                    }
                },
            };
            reader.consume(length);
            if is_whole {
                note(&line);
                line.clear();
            }
        }
        if !line.is_empty() {
            note(&line);
        }
    }
}

/// How much of a line is kept.
const LINE_BEGINNING_BYTES: usize = 1_000;

fn keep(line: &mut Vec<u8>, bytes: &[u8]) {
    let room = LINE_BEGINNING_BYTES.saturating_sub(line.len());
    line.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

/// How a process ended, for a sentence.
pub fn describe_exit(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exit code {code}"),
        Exit::Signal(signal) => format!("signal {signal}"),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    async fn read(text: Vec<u8>) -> (io::Result<usize>, Option<String>) {
        let fault = FirstError::default();
        let mut lines = BoundedLines::new(io::Cursor::new(text), fault.clone());
        let read = lines.read_to_end(&mut Vec::new()).await;
        (read, fault.get())
    }

    #[tokio::test]
    async fn many_lines_may_be_longer_than_one() {
        let mut text = vec![b'x'; LINE_BYTES_MAX];
        text.push(b'\n');
        let twice = text.repeat(2);
        let length = twice.len();
        let (read, fault) = read(twice).await;
        assert_eq!((read.unwrap(), fault), (length, None));
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_a_fault() {
        for end in ["", "\n", "\nmore"] {
            let mut text = vec![b'x'; LINE_BYTES_MAX + 1];
            text.extend_from_slice(end.as_bytes());
            let (read, fault) = read(text).await;
            assert!(read.is_err());
            assert_eq!(fault.unwrap(), "it sent a message of more than 16 MiB");
        }
    }

    #[test]
    fn the_last_words_are_the_last_lines() {
        let lines = LastLines::default();
        assert_eq!(lines.suffix(), "");
        (1..=9).for_each(|number| lines.push(format!("line {number}\n").as_bytes()));
        assert_eq!(
            lines.suffix(),
            "; its last words were: line 5 | line 6 | line 7 | line 8 | line 9"
        );
    }
}
