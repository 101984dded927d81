//! Following the output of a background task.

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

use crate::{call::Call, client::Client, error::Error, unary::send, v1};

/// How long the server waits for more output before it answers without.
const FOLLOW_WAIT_SECONDS: i64 = 30;

/// What to read of a task's output.
#[derive(Clone, Debug)]
pub struct OutputOptions {
    /// Which stream. Default: both, in the order in which the server read them.
    pub stream: v1::OutputStream,
    /// Where to begin, in bytes from the start of the stream. Default: 0.
    pub offset: i64,
    /// Begin at the last lines, this many of them; `offset` isn't used then. Default: no.
    pub tail_lines: Option<i32>,
    /// The most bytes in one chunk, up to 1 MiB. Default: 256 KiB.
    pub chunk_bytes_max: i32,
    /// Wait for more until the task has ended. False: end with what there is. Default: true.
    pub follow: bool,
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

/// A part of a task's output.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutputChunk {
    /// Where `data` begins, in bytes from the start of the stream.
    pub offset: i64,
    /// Bytes just before `data` that the server dropped. They can't be had.
    pub skipped_bytes: i64,
    /// The bytes, as the tool wrote them. They may be no UTF-8 and may end inside a character.
    pub data: Bytes,
    /// Bytes that the tool has written to the stream so far.
    pub total_bytes: i64,
    /// The task has ended and nothing follows.
    pub eof: bool,
}

/// A task's output: a `Stream` of `Result<OutputChunk, Error>`. It ends after the last byte of a task
/// that has ended, or after an error.
pub struct OutputReader {
    chunks: BoxStream<'static, Result<OutputChunk, Error>>,
}

impl OutputReader {
    pub(crate) fn new(client: &Client, background_id: String, options: OutputOptions) -> Self {
        let position = match options.tail_lines {
            Some(lines) => Position::TailLines(lines),
            None => Position::Offset(options.offset),
        };
        let over = client.deadline();
        let client = client.clone();
        let reading = Reading {
            client,
            background_id,
            options,
            position: Some(position),
            over,
            quick: false,
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
    client: Client,
    background_id: String,
    options: OutputOptions,
    /// Where to read next. `None`: nowhere, it is over.
    position: Option<Position>,
    over: Option<Instant>,
    /// The last answer came with nothing, sooner than asked for.
    quick: bool,
}

impl Reading {
    async fn next(&mut self) -> Option<Result<OutputChunk, Error>> {
        loop {
            let position = self.position.take()?;
            if self.quick {
                sleep(self.client.options().backoff).await;
            }
            let asked = Instant::now();
            let answer = match self.read(position).await {
                Ok(answer) => answer,
                Err(error) => return Some(Err(error)),
            };
            let empty = answer.data.is_empty();
            self.quick = empty && asked.elapsed() < Duration::from_secs(1);
            let length = i64::try_from(answer.data.len()).unwrap_or(i64::MAX);
            let next_offset = answer.next_offset.max(answer.offset.saturating_add(length));
            if !answer.eof && (self.options.follow || !empty) {
                self.position = Some(Position::Offset(next_offset));
            }
            let skipped_bytes = match position {
                Position::Offset(offset) => answer.offset.saturating_sub(offset).max(0),
                Position::TailLines(_) => 0,
            };
            let v1::ReadOutputResponse { data, offset, total_bytes, eof, .. } = answer;
            // The end says how much there was, and whether the last of it was dropped.
            if !empty || eof {
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
        let call = Call::resumed(&self.client, "BackgroundTasks.ReadOutput");
        send(call.until(self.over), request, |client, request| {
            let mut service = client.background_tasks();
            async move { service.read_output(request).await }
        })
        .await
    }
}
