//! The output of a background task.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use callpark_proto::v1::read_output_request::Position;
use futures::{Stream, StreamExt as _, stream, stream::BoxStream};
use tokio::time::{Instant, sleep};

use crate::{
    error::Error,
    transport::{
        attempts::Attempts,
        connection::Connection,
        unary::{rpc, send},
    },
    v1,
};

/// The time that the server waits for more output before it sends an empty answer.
const FOLLOW_WAIT_SECONDS: i64 = 30;

/// The part of a task's output to read.
///
/// ```
/// use callpark_client::OutputOptions;
///
/// let options = OutputOptions::new().with_tail_lines(20).with_follow(false);
/// assert_eq!(options.tail_lines, Some(20));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OutputOptions {
    /// The stream to read. Default: both, in the order in which the server read them.
    pub stream: v1::OutputStream,
    /// The offset to begin at, in bytes from the start of the stream. Default: 0.
    pub offset: i64,
    /// The number of last lines to begin at, or `None` to begin at `offset`. Default: `None`.
    pub tail_lines: Option<i32>,
    /// The maximum number of bytes in one chunk, up to 1 MiB. Default: 256 KiB.
    pub chunk_bytes_max: i32,
    /// `true` to wait for more output until the task has ended, `false` to end with the output so far.
    /// Default: `true`.
    pub follow: bool,
}

impl OutputOptions {
    /// Creates options that read all output until the task has ended.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`stream`](Self::stream).
    #[must_use]
    pub fn with_stream(mut self, stream: v1::OutputStream) -> Self {
        self.stream = stream;
        self
    }

    /// Sets [`offset`](Self::offset).
    #[must_use]
    pub fn with_offset(mut self, offset: i64) -> Self {
        self.offset = offset;
        self
    }

    /// Sets [`tail_lines`](Self::tail_lines).
    #[must_use]
    pub fn with_tail_lines(mut self, lines: impl Into<Option<i32>>) -> Self {
        self.tail_lines = lines.into();
        self
    }

    /// Sets [`chunk_bytes_max`](Self::chunk_bytes_max).
    #[must_use]
    pub fn with_chunk_bytes_max(mut self, bytes: i32) -> Self {
        self.chunk_bytes_max = bytes;
        self
    }

    /// Sets [`follow`](Self::follow).
    #[must_use]
    pub fn with_follow(mut self, follow: bool) -> Self {
        self.follow = follow;
        self
    }
}

impl Default for OutputOptions {
    fn default() -> Self {
        Self {
            stream: v1::OutputStream::Combined,
            offset: 0,
            tail_lines: None,
            chunk_bytes_max: 256 * 1024,
            follow: true,
        }
    }
}

/// A part of the output of a task.
///
/// ```
/// use callpark_client::OutputChunk;
///
/// fn print(chunk: &OutputChunk) {
///     if chunk.skipped_bytes > 0 {
///         println!("[{} bytes were dropped]", chunk.skipped_bytes);
///     }
///     print!("{}", String::from_utf8_lossy(&chunk.data));
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutputChunk {
    /// The offset of `data`, in bytes from the start of the stream.
    pub offset: i64,
    /// The number of bytes immediately before `data` that the server dropped. They are lost.
    pub skipped_bytes: i64,
    /// The bytes as the tool wrote them. They need not be UTF-8 and may end inside a character.
    pub data: Bytes,
    /// The number of bytes that the tool has written to the stream so far.
    pub total_bytes: i64,
    /// The task has ended and no output follows.
    pub eof: bool,
}

/// The output of a task: a `Stream` of `Result<OutputChunk, Error>`. It ends after the last byte of a
/// task that has ended, or after an error.
///
/// ```no_run
/// use callpark_client::{Client, Error, OutputOptions};
/// use futures::TryStreamExt as _;
///
/// # async fn show(client: Client, background_id: String) -> Result<(), Error> {
/// let mut output = client.tasks().output(background_id, OutputOptions::new());
/// while let Some(chunk) = output.try_next().await? {
///     print!("{}", String::from_utf8_lossy(&chunk.data));
/// }
/// # Ok(())
/// # }
/// ```
pub struct OutputReader {
    chunks: BoxStream<'static, Result<OutputChunk, Error>>,
}

impl OutputReader {
    pub(super) fn new(
        connection: &Connection,
        background_id: String,
        options: OutputOptions,
    ) -> Self {
        let position = match options.tail_lines {
            Some(lines) => Position::TailLines(lines),
            None => Position::Offset(options.offset),
        };
        let reading = Reading {
            connection: connection.clone(),
            background_id,
            options,
            position: Some(position),
            deadline: connection.deadline(),
            was_empty_early: false,
        };
        let chunks = stream::unfold(reading, async |mut reading| {
            reading.next().await.map(|chunk| (chunk, reading))
        });
        Self { chunks: chunks.fuse().boxed() }
    }
}

impl Stream for OutputReader {
    type Item = Result<OutputChunk, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.chunks.poll_next_unpin(cx)
    }
}

impl fmt::Debug for OutputReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutputReader").finish_non_exhaustive()
    }
}

struct Reading {
    connection: Connection,
    background_id: String,
    options: OutputOptions,
    /// The position to read next, or `None` if the stream is complete.
    position: Option<Position>,
    deadline: Option<Instant>,
    /// The last answer was empty and came earlier than requested.
    was_empty_early: bool,
}

impl Reading {
    async fn next(&mut self) -> Option<Result<OutputChunk, Error>> {
        loop {
            let position = self.position.take()?;
            if self.was_empty_early {
                sleep(self.connection.options().backoff).await;
            }
            let start = Instant::now();
            let answer = match self.read(position).await {
                Ok(answer) => answer,
                Err(error) => return Some(Err(error)),
            };
            let is_empty = answer.data.is_empty();
            self.was_empty_early = is_empty && start.elapsed() < Duration::from_secs(1);
            let length = i64::try_from(answer.data.len()).unwrap_or(i64::MAX);
            let next_offset = answer.next_offset.max(answer.offset.saturating_add(length));
            if !answer.eof && (self.options.follow || !is_empty) {
                self.position = Some(Position::Offset(next_offset));
            }
            let skipped_bytes = match position {
                Position::Offset(offset) => answer.offset.saturating_sub(offset).max(0),
                Position::TailLines(_) => 0,
            };
            let v1::ReadOutputResponse { data, offset, total_bytes, eof, .. } = answer;
            // The last chunk is delivered even if it is empty: it has the total and the dropped bytes.
            if !is_empty || eof {
                return Some(Ok(OutputChunk { offset, skipped_bytes, data, total_bytes, eof }));
            }
        }
    }

    async fn read(&self, position: Position) -> Result<v1::ReadOutputResponse, Error> {
        let seconds = if self.options.follow { FOLLOW_WAIT_SECONDS } else { 0 };
        let request = v1::ReadOutputRequest {
            background_id: self.background_id.clone(),
            stream: self.options.stream.into(),
            position: Some(position),
            max_bytes: self.options.chunk_bytes_max,
            wait: Some(prost_types::Duration { seconds, nanos: 0 }),
        };
        let attempts = Attempts::part_of_operation(&self.connection, "BackgroundTasks.ReadOutput")
            .until(self.deadline);
        send(attempts, request, rpc!(background_tasks.read_output)).await
    }
}
