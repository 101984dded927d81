//! Messages on a socket: a length of four bytes, and a protobuf message.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{BufMut as _, BytesMut};
use futures::StreamExt as _;
use prost::Message;
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use tokio_util::codec::{FramedRead, LengthDelimitedCodec};

/// The largest message, in bytes: a start with the largest request, or a report with the first part of
/// an output.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The messages that wait to be written. Senders keep them bounded: output by the window of each run,
/// orders by the number of runs.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: Mutex<Waiting>,
    filled: Notify,
    emptied: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    /// The message that comes before the others, or nothing.
    first: BytesMut,
    others: BytesMut,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.first.is_empty() && self.others.is_empty()
    }

    /// Takes the next messages.
    fn split(&mut self) -> BytesMut {
        match self.first.is_empty() {
            true => self.others.split(),
            false => self.first.split(),
        }
    }
}

impl Outbox {
    /// Adds a message.
    pub(super) fn push(&self, message: &impl Message) {
        put(&mut self.lock().others, message);
        self.filled.notify_one();
    }

    /// Sets the message that is written before all that wait. One that was set before and waits still is
    /// not written.
    pub(super) fn set_first(&self, message: &impl Message) {
        {
            let mut waiting = self.lock();
            waiting.first.clear();
            put(&mut waiting.first, message);
        }
        self.filled.notify_one();
    }

    /// Writes the messages as they come, until the socket fails.
    pub(super) async fn write_to(&self, mut socket: OwnedWriteHalf) -> io::Error {
        loop {
            let filled = self.filled.notified();
            let bytes = self.lock().split();
            if bytes.is_empty() {
                self.emptied.notify_waiters();
                filled.await;
            } else if let Err(error) = socket.write_all(&bytes).await {
                return error;
            }
        }
    }

    /// Writes the messages that wait.
    pub(super) async fn write_once(&self, socket: &mut OwnedWriteHalf) -> io::Result<()> {
        let bytes = self.lock().split();
        socket.write_all(&bytes).await
    }

    /// Waits until all messages are written.
    pub(super) async fn written(&self) {
        loop {
            let emptied = self.emptied.notified();
            self.filled.notify_one();
            emptied.await;
            if self.lock().is_empty() {
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn put(buffer: &mut BytesMut, message: &impl Message) {
    let length = message.encoded_len();
    buffer.reserve(4 + length);
    // A message that is longer is refused by the reader.
    buffer.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    // It fails only if the buffer cannot grow, and this one does.
    let _result = message.encode(buffer);
}

/// The messages of the other side.
pub(super) struct Inbox {
    frames: FramedRead<OwnedReadHalf, LengthDelimitedCodec>,
}

impl Inbox {
    pub(super) fn new(socket: OwnedReadHalf) -> Self {
        let codec = LengthDelimitedCodec::builder()
            .length_field_type::<u32>()
            .max_frame_length(MESSAGE_BYTES_MAX)
            .new_codec();
        Self { frames: FramedRead::new(socket, codec) }
    }

    /// Waits for the next message.
    ///
    /// # Errors
    ///
    /// The other side has closed the socket, or has sent something else.
    pub(super) async fn next<M: Message + Default>(&mut self) -> io::Result<M> {
        match self.frames.next().await {
            Some(frame) => M::decode(frame?.freeze())
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error)),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// Returns whether the other side has ended.
pub(super) fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}
