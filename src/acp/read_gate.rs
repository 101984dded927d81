//! Flow control for the pipes of an agent: its output is read no faster than its messages are
//! received, and no faster than it reads its own input.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The part of an unexpected line that is kept, in bytes.
const UNEXPECTED_BYTES_MAX: usize = 200;

/// The number of lines that are read from an agent that doesn't read its own input.
const LINES_AHEAD_MAX: usize = 64;

/// The number of polls in a row without a blocked write after which the agent counts as reading
/// again. The library passes an answer through several stages, each of which is polled once in a
/// round.
const QUIET_POLLS: u32 = 4;

/// A gate in front of an agent's output. The protocol's library reads everything that it can, and
/// buffers all of its answers. So nothing is read while a message waits for room, and little while
/// answers wait to be written.
#[derive(Debug, Clone, Default)]
pub(super) struct ReadGate(Arc<GateState>);

#[derive(Debug, Default)]
struct GateState {
    is_closed: AtomicBool,
    /// `true` while a write waits for room in the pipe to the agent.
    is_writing: AtomicBool,
    reader: AtomicWaker,
}

impl ReadGate {
    /// Closes the gate until the guard is dropped.
    pub(super) fn close(&self) -> ClosedGate {
        self.0.is_closed.store(true, Ordering::Release);
        ClosedGate(self.clone())
    }

    /// Notes whether a write to the agent waits.
    fn set_writing(&self, is_writing: bool) {
        let was_writing = self.0.is_writing.swap(is_writing, Ordering::AcqRel);
        if was_writing && !is_writing {
            self.0.reader.wake();
        }
    }
}

/// A gate that is closed.
pub(super) struct ClosedGate(ReadGate);

impl Drop for ClosedGate {
    fn drop(&mut self) {
        let state = &self.0.0;
        state.is_closed.store(false, Ordering::Release);
        state.reader.wake();
    }
}

/// The beginning of the first line that cannot be a message.
#[derive(Debug, Clone, Default)]
pub(super) struct UnexpectedLine(Arc<std::sync::Mutex<String>>);

impl UnexpectedLine {
    /// Returns the line as the end of a sentence, or an empty text if there was none.
    pub(super) fn describe(&self) -> String {
        let line = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match line.trim() {
            "" => String::new(),
            line => format!("; it wrote a line that is not a message: {line}"),
        }
    }

    /// Returns `true` if there was such a line.
    pub(super) fn exists(&self) -> bool {
        !self.describe().is_empty()
    }

    fn push(&self, bytes: &[u8]) {
        let mut line = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let room = UNEXPECTED_BYTES_MAX.saturating_sub(line.len());
        line.push_str(&String::from_utf8_lossy(&bytes[..bytes.len().min(room)]));
    }
}

/// A reader behind a gate, which keeps the first line that doesn't begin as a message does.
pub(super) struct GatedReader<R> {
    reader: R,
    gate: ReadGate,
    read_ahead: ReadAhead,
    unexpected_line: UnexpectedLine,
    position: Position,
}

/// The output that was read from an agent while it wasn't reading its input.
#[derive(Default)]
struct ReadAhead {
    /// The lines that were read since a write was blocked.
    lines: usize,
    was_blocked: bool,
    /// The polls in a row without a blocked write since then.
    quiet_polls: u32,
}

impl ReadAhead {
    /// Updates the state, and returns whether more may be read.
    fn may_read(&mut self, is_writing: bool) -> bool {
        if is_writing {
            (self.was_blocked, self.quiet_polls) = (true, 0);
        } else if self.was_blocked {
            self.quiet_polls += 1;
            if self.quiet_polls >= QUIET_POLLS {
                *self = Self::default();
            }
        }
        self.lines < LINES_AHEAD_MAX
    }

    fn count(&mut self, bytes: &[u8]) {
        if self.was_blocked {
            self.lines += bytes.iter().filter(|byte| **byte == b'\n').count();
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Position {
    LineStart,
    Message,
    UnexpectedLine,
    /// Behind the first unexpected line.
    Done,
}

impl<R> GatedReader<R> {
    pub(super) fn new(reader: R, gate: ReadGate, unexpected_line: UnexpectedLine) -> Self {
        let (read_ahead, position) = (ReadAhead::default(), Position::LineStart);
        Self { reader, gate, read_ahead, unexpected_line, position }
    }

    fn inspect(&mut self, mut bytes: &[u8]) {
        while let Some(first) = bytes.first()
            && self.position != Position::Done
        {
            if self.position == Position::LineStart {
                let is_message = *first == b'{' || first.is_ascii_whitespace();
                self.position =
                    if is_message { Position::Message } else { Position::UnexpectedLine };
            }
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let (line, rest) = bytes.split_at(end.map_or(bytes.len(), |end| end + 1));
            if self.position == Position::UnexpectedLine {
                self.unexpected_line.push(line);
            }
            if end.is_some() {
                self.position = if self.position == Position::UnexpectedLine {
                    Position::Done
                } else {
                    Position::LineStart
                };
            }
            bytes = rest;
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for GatedReader<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // The waker is registered before the gate is checked, so that no opening is missed.
        self.gate.0.reader.register(cx.waker());
        if self.gate.0.is_closed.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        let is_writing = self.gate.0.is_writing.load(Ordering::Acquire);
        if !self.read_ahead.may_read(is_writing) {
            // The next write may be about to block: the next poll shows it.
            if !is_writing {
                cx.waker().wake_by_ref();
            }
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.reader).poll_read(cx, buffer);
        if matches!(read, Poll::Ready(Ok(()))) {
            let bytes = &buffer.filled()[before..];
            self.read_ahead.count(bytes);
            self.inspect(bytes);
        }
        read
    }
}

/// A writer to an agent, which notes in the gate whether a write waits.
pub(super) struct GatedWriter<W> {
    writer: W,
    gate: ReadGate,
}

impl<W> GatedWriter<W> {
    pub(super) fn new(writer: W, gate: ReadGate) -> Self {
        Self { writer, gate }
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for GatedWriter<W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.writer).poll_write(cx, bytes);
        self.gate.set_writing(written.is_pending());
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn nothing_is_read_through_a_closed_gate() {
        let gate = ReadGate::default();
        let text: &[u8] = b"{}\n";
        let mut gated = GatedReader::new(text, gate.clone(), UnexpectedLine::default());
        let closed = gate.close();
        let mut read = Vec::new();
        {
            let mut reading = std::pin::pin!(gated.read_to_end(&mut read));
            assert!(futures::poll!(&mut reading).is_pending());
            drop(closed);
            reading.await.unwrap();
        }
        assert_eq!(read, text);
    }

    #[tokio::test]
    async fn an_agent_that_does_not_read_its_input_is_read_up_to_a_bound() {
        let gate = ReadGate::default();
        let (mut agent, pipe) = tokio::io::duplex(8);
        let mut writer = GatedWriter::new(pipe, gate.clone());
        let line: &[u8] = b"{}\n";
        let text = line.repeat(1_000);
        let mut gated = GatedReader::new(ByLine(&text), gate, UnexpectedLine::default());
        let mut read = vec![0; line.len()];
        // While writes succeed, everything is read.
        writer.write_all(b"12345678").await.unwrap();
        for _ in 0..500 {
            gated.read_exact(&mut read).await.unwrap();
        }
        let writing = writer.write_all(b"12345678");
        let mut writing = std::pin::pin!(writing);
        assert!(futures::poll!(&mut writing).is_pending());
        for _ in 0..LINES_AHEAD_MAX {
            gated.read_exact(&mut read).await.unwrap();
        }
        {
            let mut reading = std::pin::pin!(gated.read_exact(&mut read));
            assert!(futures::poll!(&mut reading).is_pending());
            // A little room isn't enough: the write needs more.
            agent.read_exact(&mut [0; 4]).await.unwrap();
            assert!(futures::poll!(&mut writing).is_pending());
            assert!(futures::poll!(&mut reading).is_pending());
            agent.read_exact(&mut [0; 8]).await.unwrap();
            writing.await.unwrap();
            reading.await.unwrap();
        }
        for _ in 500 + LINES_AHEAD_MAX + 1..1_000 {
            gated.read_exact(&mut read).await.unwrap();
        }
    }

    /// A reader that returns one line of three bytes at a time.
    struct ByLine<'a>(&'a [u8]);

    impl AsyncRead for ByLine<'_> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let (line, rest) = self.0.split_at(3.min(self.0.len()));
            buffer.put_slice(line);
            self.0 = rest;
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn the_first_line_that_is_not_a_message_is_kept() {
        let line = UnexpectedLine::default();
        let text: &[u8] = b"{\"a\": 1}\n\nWelcome!\nmore\n";
        let mut gated = GatedReader::new(text, ReadGate::default(), line.clone());
        gated.read_to_end(&mut Vec::new()).await.unwrap();
        assert_eq!(line.describe(), "; it wrote a line that is not a message: Welcome!");
    }
}
