//! The transport to a process: a line for each message, or several if the process indents its JSON.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use rmcp::service::{RoleClient, RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::sync::Mutex;
use tokio::time::timeout_at;

use super::http_body::too_large;
use super::line_joiner::LineJoiner;
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
    joiner: LineJoiner,
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

    /// Returns the line, which is not too long.
    fn take(&mut self) -> Vec<u8> {
        self.length = 0;
        std::mem::take(&mut self.begin)
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
            joiner: LineJoiner::default(),
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
        if !self.line.is_too_long() {
            let line = self.line.take();
            let texts: Vec<Vec<u8>> = self.joiner.push(line).collect();
            texts.iter().for_each(|text| self.take_text(text));
            return Some(());
        }
        self.take_joined();
        let Line { begin, end, .. } = &self.line;
        let Some(message) = read_too_long(begin, end, too_large(), &self.open) else {
            self.first_error.record(too_large());
            return None;
        };
        self.line.clear();
        self.messages.push_back(message);
        Some(())
    }

    /// Takes over what can be read of a message whose next line does not come.
    fn take_joined(&mut self) {
        if let Some(text) = self.joiner.flush() {
            self.take_text(&text);
        }
    }

    fn take_text(&mut self, text: &[u8]) {
        let Reading { messages, unreadable } = read(text, &self.open);
        self.messages.extend(messages);
        self.unreadable.note(unreadable);
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
            let next = match self.joiner.deadline() {
                Some(deadline) => timeout_at(deadline, self.next_line()).await.ok(),
                None => Some(self.next_line().await),
            };
            match next {
                Some(Some(())) => self.take_line()?,
                Some(None) if self.joiner.deadline().is_none() => return None,
                Some(None) | None => self.take_joined(),
            }
        }
    }

    async fn close(&mut self) -> io::Result<()> {
        drop(self.writer.lock().await.take());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rmcp::model::{JsonRpcMessage, RequestId};
    use tokio::io::duplex;
    use tokio::time::{Instant, timeout};

    use super::super::open_requests::Method;
    use super::*;
    use crate::telemetry::Metrics;

    /// An answer that is printed over several lines ends its call even if it is cut.
    #[tokio::test(start_paused = true)]
    async fn the_next_line_of_a_message_is_waited_for_in_vain_only_for_a_while() {
        let (mut server, stdout) = duplex(1024);
        let unreadable = Unreadable::new("odd", &Metrics::default());
        let mut pipes = Pipes::new(stdout, tokio::io::sink(), unreadable, FirstError::default());
        for id in [1, 2, 3] {
            pipes.open.insert(RequestId::Number(id), Method::CallTool);
        }
        let error = |message: Option<RxJsonRpcMessage<RoleClient>>| match message {
            Some(JsonRpcMessage::Error(error)) => (error.id, error.error.message),
            other => panic!("{other:?}"),
        };
        let began = Instant::now();
        server.write_all(b"{\n  \"jsonrpc\": \"2.0\",\n  \"id\": 1,\n").await.expect("written");
        // The beginning stays when the future is dropped.
        let early = timeout(Duration::from_secs(1), pipes.receive()).await;
        assert!(early.is_err(), "{early:?}");
        let (id, message) = error(pipes.receive().await);
        assert_eq!(id, Some(RequestId::Number(1)));
        assert!(message.contains("its answer is not valid JSON"), "{message}");
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());

        // The end of the file is the end of the message, too.
        server.write_all(b"{\n  \"jsonrpc\": \"2.0\",\n  \"id\": 2,\n").await.expect("written");
        drop(server);
        assert_eq!(error(pipes.receive().await).0, Some(RequestId::Number(2)));
        assert!(pipes.receive().await.is_none());
    }

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
