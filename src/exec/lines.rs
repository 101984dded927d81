//! Readers for the output of processes that callpark talks to, with a bound on each line.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader, ReadBuf};

use crate::model::Exit;

/// The longest line, which is one message, in bytes.
pub const LINE_BYTES_MAX: usize = 16 << 20;

/// A reader that fails at a line that is too long. Otherwise a request that waits for an answer in
/// that line would wait forever.
#[derive(Debug)]
pub struct BoundedLines<R> {
    reader: R,
    /// The length of the line that is not complete.
    length: usize,
    first_error: FirstError,
}

/// The first error of a connection, shared by its reader and its users.
#[derive(Debug, Clone, Default)]
pub struct FirstError(Arc<Mutex<Option<String>>>);

impl FirstError {
    /// Records an error, unless there is an earlier one.
    pub fn record(&self, error: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    /// Returns the error, or `None` if there is none.
    pub fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl<R> BoundedLines<R> {
    /// Creates a reader that records its error in `first_error`.
    pub fn new(reader: R, first_error: FirstError) -> Self {
        Self { reader, length: 0, first_error }
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
            let error = format!("it sent a message of more than {} MiB", LINE_BYTES_MAX >> 20);
            self.first_error.record(error.clone());
            // A read that fails must not fill the buffer.
            buffer.set_filled(before);
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
        }
        Poll::Ready(Ok(()))
    }
}

/// The last lines that a process has written to its standard error.
#[derive(Debug, Clone, Default)]
pub struct LastLines(Arc<Mutex<VecDeque<String>>>);

/// The lines that are kept, and the bytes that are kept of each.
const LAST_LINES_MAX: usize = 5;
const LAST_LINE_BYTES_MAX: usize = 400;

impl LastLines {
    /// Adds a line.
    pub fn push(&self, line: &[u8]) {
        let line = &line[..line.len().min(LAST_LINE_BYTES_MAX)];
        let line = String::from_utf8_lossy(line).trim_end().to_owned();
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LAST_LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// Returns the lines as the end of a sentence, which is empty if there are none.
    pub fn suffix(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.is_empty() {
            return String::new();
        }
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        format!("; its last lines were: {}", lines.join(" | "))
    }

    /// Reads lines to the end of the file, and calls `log` with the beginning of each.
    pub async fn follow(&self, stderr: impl AsyncRead + Unpin, log: impl Fn(&str)) {
        let mut reader = BufReader::new(stderr);
        let mut line = Vec::new();
        let note = |line: &[u8]| {
            log(&String::from_utf8_lossy(line));
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

/// The beginning of a line that is logged, in bytes.
const LINE_BEGINNING_BYTES: usize = 1_000;

fn keep(line: &mut Vec<u8>, bytes: &[u8]) {
    let room = LINE_BEGINNING_BYTES.saturating_sub(line.len());
    line.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

/// Describes how a process ended, as a part of a sentence.
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
        let first_error = FirstError::default();
        let mut lines = BoundedLines::new(io::Cursor::new(text), first_error.clone());
        let read = lines.read_to_end(&mut Vec::new()).await;
        (read, first_error.get())
    }

    #[tokio::test]
    async fn many_lines_may_be_longer_than_one() {
        let mut text = vec![b'x'; LINE_BYTES_MAX];
        text.push(b'\n');
        let twice = text.repeat(2);
        let length = twice.len();
        let (read, error) = read(twice).await;
        assert_eq!((read.unwrap(), error), (length, None));
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_an_error() {
        for end in ["", "\n", "\nmore"] {
            let mut text = vec![b'x'; LINE_BYTES_MAX + 1];
            text.extend_from_slice(end.as_bytes());
            let (read, error) = read(text).await;
            assert!(read.is_err());
            assert_eq!(error.unwrap(), "it sent a message of more than 16 MiB");
        }
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        let lines = LastLines::default();
        assert_eq!(lines.suffix(), "");
        (1..=9).for_each(|number| lines.push(format!("line {number}\n").as_bytes()));
        assert_eq!(
            lines.suffix(),
            "; its last lines were: line 5 | line 6 | line 7 | line 8 | line 9"
        );
    }
}
