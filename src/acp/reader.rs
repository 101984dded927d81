//! What an agent says to callpark, read no faster than it is listened to, and than it listens itself.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How much of a line that is no message is remembered.
const STRANGE_BYTES_MAX: usize = 200;

/// Lines that are read of an agent that leaves its own input unread.
const LINES_AHEAD_MAX: usize = 64;

/// So often in a row what is written to an agent must not wait before all of it counts as taken. The
/// library passes an answer on from part to part, each of which is polled once in a round.
const QUIET_POLLS: u32 = 4;

/// A gate before what an agent says. The protocol's library takes all that it can read, and keeps all
/// that it has to answer; so nothing is read while what has been read waits for a place, and little
/// while what has been answered isn't taken.
#[derive(Debug, Clone, Default)]
pub(super) struct Gate(Arc<GateState>);

#[derive(Debug, Default)]
struct GateState {
    is_shut: AtomicBool,
    /// What is written to the agent waits for room in its pipe.
    is_writing: AtomicBool,
    reader: AtomicWaker,
}

impl Gate {
    /// Shuts the gate as long as what is returned is there.
    pub(super) fn shut(&self) -> Shut {
        self.0.is_shut.store(true, Ordering::Release);
        Shut(self.clone())
    }

    /// Whether what is written to the agent waits.
    fn note_writing(&self, waits: bool) {
        let waited = self.0.is_writing.swap(waits, Ordering::AcqRel);
        if waited && !waits {
            self.0.reader.wake();
        }
    }
}

/// A gate that is shut.
pub(super) struct Shut(Gate);

impl Drop for Shut {
    fn drop(&mut self) {
        let state = &self.0.0;
        state.is_shut.store(false, Ordering::Release);
        state.reader.wake();
    }
}

/// The first line that can't be a message, as far as it is remembered.
#[derive(Debug, Clone, Default)]
pub(super) struct Strange(Arc<std::sync::Mutex<String>>);

impl Strange {
    /// As the end of a sentence; empty: there was none.
    pub(super) fn told(&self) -> String {
        let line = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match line.trim() {
            "" => String::new(),
            line => format!("; it wrote what is no message: {line}"),
        }
    }

    /// There was one.
    pub(super) fn is_there(&self) -> bool {
        !self.told().is_empty()
    }

    fn push(&self, bytes: &[u8]) {
        let mut line = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let room = STRANGE_BYTES_MAX.saturating_sub(line.len());
        line.push_str(&String::from_utf8_lossy(&bytes[..bytes.len().min(room)]));
    }
}

/// Reads through a gate, and remembers the first line that doesn't begin as a message does.
pub(super) struct Gated<R> {
    reader: R,
    gate: Gate,
    ahead: Ahead,
    strange: Strange,
    at: Place,
}

/// How far an agent is ahead of what it takes.
#[derive(Default)]
struct Ahead {
    /// Lines that were read since something had to wait.
    lines: usize,
    has_waited: bool,
    /// How often in a row nothing has waited since.
    quiet_polls: u32,
}

impl Ahead {
    /// Whether more may be read now.
    fn look(&mut self, is_writing: bool) -> bool {
        if is_writing {
            (self.has_waited, self.quiet_polls) = (true, 0);
        } else if self.has_waited {
            self.quiet_polls += 1;
            if self.quiet_polls >= QUIET_POLLS {
                *self = Self::default();
            }
        }
        self.lines < LINES_AHEAD_MAX
    }

    fn read(&mut self, bytes: &[u8]) {
        if self.has_waited {
            self.lines += bytes.iter().filter(|byte| **byte == b'\n').count();
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    LineStart,
    Message,
    Strange,
    /// A strange line has been there.
    Done,
}

impl<R> Gated<R> {
    pub(super) fn new(reader: R, gate: Gate, strange: Strange) -> Self {
        Self { reader, gate, ahead: Ahead::default(), strange, at: Place::LineStart }
    }

    fn look(&mut self, mut bytes: &[u8]) {
        while let Some(first) = bytes.first()
            && self.at != Place::Done
        {
            if self.at == Place::LineStart {
                let is_message = *first == b'{' || first.is_ascii_whitespace();
                self.at = if is_message { Place::Message } else { Place::Strange };
            }
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let (line, rest) = bytes.split_at(end.map_or(bytes.len(), |end| end + 1));
            if self.at == Place::Strange {
                self.strange.push(line);
            }
            if end.is_some() {
                self.at = if self.at == Place::Strange { Place::Done } else { Place::LineStart };
            }
            bytes = rest;
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Gated<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // The waker is there before the gate is looked at: whoever opens it later wakes it.
        self.gate.0.reader.register(cx.waker());
        if self.gate.0.is_shut.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        let is_writing = self.gate.0.is_writing.load(Ordering::Acquire);
        if !self.ahead.look(is_writing) {
            // What is written may be about to wait again: the next look tells.
            if !is_writing {
                cx.waker().wake_by_ref();
            }
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.reader).poll_read(cx, buffer);
        if matches!(read, Poll::Ready(Ok(()))) {
            let bytes = &buffer.filled()[before..];
            self.ahead.read(bytes);
            self.look(bytes);
        }
        read
    }
}

/// Writes to an agent, and lets its gate know when that has to wait.
pub(super) struct Noting<W> {
    writer: W,
    gate: Gate,
}

impl<W> Noting<W> {
    pub(super) fn new(writer: W, gate: Gate) -> Self {
        Self { writer, gate }
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Noting<W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.writer).poll_write(cx, bytes);
        self.gate.note_writing(written.is_pending());
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
    async fn nothing_is_read_through_a_shut_gate() {
        let gate = Gate::default();
        let text: &[u8] = b"{}\n";
        let mut gated = Gated::new(text, gate.clone(), Strange::default());
        let shut = gate.shut();
        let mut read = Vec::new();
        {
            let mut reading = std::pin::pin!(gated.read_to_end(&mut read));
            assert!(futures::poll!(&mut reading).is_pending());
            drop(shut);
            reading.await.unwrap();
        }
        assert_eq!(read, text);
    }

    #[tokio::test]
    async fn an_agent_that_does_not_read_is_not_read_for_ever() {
        let gate = Gate::default();
        let (mut agent, pipe) = tokio::io::duplex(8);
        let mut writer = Noting::new(pipe, gate.clone());
        let line: &[u8] = b"{}\n";
        let text = line.repeat(1_000);
        let mut gated = Gated::new(Slowly(&text), gate, Strange::default());
        let mut read = vec![0; line.len()];
        // As long as what is written is taken, all is read.
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
            // A little room isn't enough: more is written than that.
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

    /// Gives a line of three bytes at a time.
    struct Slowly<'a>(&'a [u8]);

    impl AsyncRead for Slowly<'_> {
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
    async fn the_first_line_that_is_no_message_is_remembered() {
        let strange = Strange::default();
        let text: &[u8] = b"{\"a\": 1}\n\nWelcome!\nmore\n";
        let mut gated = Gated::new(text, Gate::default(), strange.clone());
        gated.read_to_end(&mut Vec::new()).await.unwrap();
        assert_eq!(strange.told(), "; it wrote what is no message: Welcome!");
    }
}
