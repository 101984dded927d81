//! The transport to a process: a line for each message.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use rmcp::service::{RoleClient, RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::sync::Mutex;

use super::http_body::too_large;
use super::message::{Reading, read, read_too_long};
use super::open_requests::OpenRequests;
use super::unreadable::Unreadable;
use crate::exec::{FirstError, LINE_BYTES_MAX};

/// The capacity of the line buffer between two messages, in bytes.
const LINE_CAPACITY: usize = 64 << 10;
/// The beginning and the end of a line that is too long, which say whose answer it is.
const BEGIN_BYTES: usize = 4 << 10;
const END_BYTES: usize = 256;
/// The length of a line at which its end is not waited for any more.
const LINE_GIVEN_UP: usize = LINE_BYTES_MAX * 16;

/// The pipes to and from a process.
pub(super) struct Pipes<R, W> {
    reader: BufReader<R>,
    line: Line,
    /// The messages of earlier lines that were not received yet.
    messages: VecDeque<RxJsonRpcMessage<RoleClient>>,
    /// The writer, or `None` once it is closed.
    writer: Arc<Mutex<Option<W>>>,
    open: OpenRequests,
    unreadable: Unreadable,
    first_error: FirstError,
}

/// The line that is being read.
#[derive(Default)]
struct Line {
    /// The line, or the beginning of one that is too long.
    begin: Vec<u8>,
    /// The end of one that is too long.
    end: Vec<u8>,
    length: usize,
}

impl Line {
    fn add(&mut self, bytes: &[u8]) {
        self.length = self.length.saturating_add(bytes.len());
        if self.length <= LINE_BYTES_MAX {
            self.begin.extend_from_slice(bytes);
            return;
        }
        if self.end.is_empty() {
            self.begin.truncate(BEGIN_BYTES);
            self.begin.shrink_to(LINE_CAPACITY);
        }
        self.end.extend_from_slice(bytes);
        let surplus = self.end.len().saturating_sub(END_BYTES);
        self.end.drain(..surplus);
    }

    fn is_too_long(&self) -> bool {
        self.length > LINE_BYTES_MAX
    }

    fn clear(&mut self) {
        self.begin.clear();
        // One large message must not hold its memory for good.
        self.begin.shrink_to(LINE_CAPACITY);
        self.end.clear();
        self.length = 0;
    }
}

impl<R: AsyncRead, W> Pipes<R, W> {
    /// Creates a transport that records the reason in `first_error` if it cannot go on.
    pub(super) fn new(
        reader: R,
        writer: W,
        unreadable: Unreadable,
        first_error: FirstError,
    ) -> Self {
        Self {
            reader: BufReader::new(reader),
            line: Line::default(),
            messages: VecDeque::new(),
            writer: Arc::new(Mutex::new(Some(writer))),
            open: OpenRequests::default(),
            unreadable,
            first_error,
        }
    }
}

impl<R: AsyncRead + Unpin, W> Pipes<R, W> {
    /// Reads to the end of the line, which may be that of the file. Returns `None` if there is nothing
    /// more. The future may be dropped: the beginning of the line is kept.
    async fn next_line(&mut self) -> Option<()> {
        loop {
            let bytes = self.reader.fill_buf().await.ok()?;
            if bytes.is_empty() {
                return (self.line.length > 0).then_some(());
            }
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let length = end.map_or(bytes.len(), |at| at + 1);
            self.line.add(&bytes[..length]);
            self.reader.consume(length);
            if end.is_some() {
                return Some(());
            }
            if self.line.length > LINE_GIVEN_UP {
                self.first_error.record(too_large());
                return None;
            }
        }
    }

    /// Takes over the messages of the line. Returns `None` if a request would wait forever for an
    /// answer in it.
    fn take_line(&mut self) -> Option<()> {
        let Line { begin, end, .. } = &self.line;
        let Reading { messages, unreadable } = if self.line.is_too_long() {
            let Some(message) = read_too_long(begin, end, too_large(), &self.open) else {
                self.first_error.record(too_large());
                return None;
            };
            Reading { messages: vec![message], unreadable: Vec::new() }
        } else {
            read(begin, &self.open)
        };
        self.line.clear();
        self.messages.extend(messages);
        self.unreadable.note(unreadable);
        Some(())
    }
}

impl<R, W> Transport<RoleClient> for Pipes<R, W>
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    type Error = io::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static {
        self.open.sent(&item);
        let writer = self.writer.clone();
        async move {
            let mut line = serde_json::to_vec(&item)?;
            line.push(b'\n');
            let mut writer = writer.lock().await;
            let writer = writer.as_mut().ok_or(io::ErrorKind::NotConnected)?;
            writer.write_all(&line).await?;
            writer.flush().await
        }
    }

    /// Receives the next message. The future may be dropped.
    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        loop {
            if let Some(message) = self.messages.pop_front() {
                return Some(message);
            }
            self.next_line().await?;
            self.take_line()?;
        }
    }

    async fn close(&mut self) -> io::Result<()> {
        drop(self.writer.lock().await.take());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_line_that_is_too_long_the_begin_and_the_end_are_kept() {
        let mut line = Line::default();
        line.add(b"begin");
        (0..LINE_BYTES_MAX >> 10).for_each(|_| line.add(&[b'x'; 1 << 10]));
        assert!(line.is_too_long() && line.begin.len() == BEGIN_BYTES);
        line.add(b"end\n");
        assert!(line.begin.starts_with(b"beginx") && line.end.ends_with(b"xend\n"));
        assert!(line.end.len() <= END_BYTES);
        line.clear();
        line.add(b"next\n");
        assert_eq!((line.begin.as_slice(), line.is_too_long()), (&b"next\n"[..], false));
    }
}
