//! What an agent says to callpark, read no faster than it is listened to.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;
use tokio::io::{AsyncRead, ReadBuf};

/// How much of a line that is no message is remembered.
const STRANGE_BYTES_MAX: usize = 200;

/// A gate before what an agent says. The protocol's library takes all that it can read; so nothing
/// is read while what has been read waits for a place.
#[derive(Debug, Clone, Default)]
pub(super) struct Gate(Arc<GateState>);

#[derive(Debug, Default)]
struct GateState {
    is_shut: AtomicBool,
    reader: AtomicWaker,
}

impl Gate {
    /// Shuts the gate as long as what is returned is there.
    pub(super) fn shut(&self) -> Shut {
        self.0.is_shut.store(true, Ordering::Release);
        Shut(self.clone())
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
    strange: Strange,
    at: Place,
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
        Self { reader, gate, strange, at: Place::LineStart }
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
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.reader).poll_read(cx, buffer);
        if matches!(read, Poll::Ready(Ok(()))) {
            self.look(&buffer.filled()[before..]);
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

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
    async fn the_first_line_that_is_no_message_is_remembered() {
        let strange = Strange::default();
        let text: &[u8] = b"{\"a\": 1}\n\nWelcome!\nmore\n";
        let mut gated = Gated::new(text, Gate::default(), strange.clone());
        gated.read_to_end(&mut Vec::new()).await.unwrap();
        assert_eq!(strange.told(), "; it wrote what is no message: Welcome!");
    }
}
