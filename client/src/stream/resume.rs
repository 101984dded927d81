//! A stream that is opened again after each interruption and continues after its cursor.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{StreamExt as _, stream, stream::BoxStream};
use tokio::time::timeout;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    error::Error,
    options::RetryBudget,
    transport::{
        attempts::{Attempts, FailureContext},
        connection::Connection,
    },
};

/// The number of missed heartbeats after which a stream counts as interrupted.
const HEARTBEATS_MISSED: u32 = 3;
/// The time that the server may take to end a stream that is complete.
const COMPLETED_STREAM_TIME_MAX: Duration = Duration::from_secs(1);

/// The source of one type of stream: its requests, and the items of its messages. It holds the cursor.
pub(super) trait StreamSource: Send + 'static {
    type Request: Send;
    type Message: Send;
    type Items: Queue + Default + Send;

    /// Returns the RPC, as `Service.Method`.
    fn rpc(&self) -> &'static str;

    /// Returns the request that continues after the cursor.
    fn request(&self) -> Self::Request;

    fn open(
        connection: &Connection,
        request: Request<Self::Request>,
    ) -> impl Future<Output = Result<Response<Streaming<Self::Message>>, Status>> + Send;

    /// Appends the items of a message and moves the cursor.
    fn take(&mut self, message: Self::Message, items: &mut Self::Items) -> Progress;

    fn completion(&self) -> Completion;

    fn cursor(&self) -> Option<i64>;

    /// Returns the item that reports that the stream is open again.
    fn resumed(&self) -> Item<Self>;

    /// Handles a refusal of the request that continues after the cursor. Returns `true` if the next
    /// request asks for something else.
    fn refused(&mut self, error: &Error) -> bool;

    /// Updates the position with an item that is delivered.
    fn track(item: &Item<Self>, position: &mut Position);
}

/// A queue of items.
pub(super) trait Queue {
    type Item;

    fn push(&mut self, item: Self::Item);

    fn pop(&mut self) -> Option<Self::Item>;

    fn is_empty(&self) -> bool;
}

impl<T> Queue for VecDeque<T> {
    type Item = T;

    fn push(&mut self, item: T) {
        self.push_back(item);
    }

    fn pop(&mut self) -> Option<T> {
        self.pop_front()
    }

    fn is_empty(&self) -> bool {
        self.is_empty()
    }
}

/// The item of a source.
pub(super) type Item<S> = <<S as StreamSource>::Items as Queue>::Item;

/// The effect of a message.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The message contained something new.
    pub(super) progressed: bool,
    /// The message was a heartbeat.
    pub(super) heartbeat: bool,
    /// The number of events that had been received before.
    pub(super) duplicates: u64,
    /// The reason to open the stream again, or `None` if it continues.
    pub(super) reopen: Option<Reopen>,
}

/// The reason to open a healthy stream again.
#[derive(Debug)]
pub(super) enum Reopen {
    /// The server is about to end the stream and asks for this delay.
    Draining(Option<Duration>),
    /// The cursor belongs to a log that was replaced.
    EpochChanged,
}

/// The condition under which a stream is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Completion {
    /// More items are expected: OK is an interruption.
    Incomplete,
    /// OK, and nothing else, completes the stream.
    OnOk,
    /// The stream is complete, however it ends.
    Reached,
}

/// The position of a stream, according to the items that were delivered.
#[derive(Debug, Default)]
pub(super) struct Position {
    pub(super) cursor: Option<i64>,
    pub(super) epoch: String,
}

/// Statistics of a stream.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) duplicates: u64,
    pub(super) attempts: u32,
}

/// A stream that resumes, with the state that its owner can query.
///
/// A message contains many items. They are delivered from here one by one; the next message is read
/// when none is left.
pub(super) struct ResumingStream<S: StreamSource> {
    batches: BoxStream<'static, Result<S::Items, Error>>,
    items: S::Items,
    position: Position,
    counts: Arc<Mutex<Counts>>,
}

impl<S: StreamSource> ResumingStream<S> {
    /// Creates a stream. It opens at the first poll, and reads only while it is polled.
    pub(super) fn new(connection: &Connection, source: S) -> Self {
        let position = Position { cursor: source.cursor(), ..Position::default() };
        let counts = Arc::<Mutex<Counts>>::default();
        let heartbeat_interval = connection.options().heartbeat_interval;
        let driver = Driver {
            silence_max: heartbeat_interval.saturating_mul(HEARTBEATS_MISSED),
            attempts: Attempts::new(connection, source.rpc(), RetryBudget::Start),
            source,
            stream: None,
            items: S::Items::default(),
            reopen: None,
            attachment: Attachment::Never,
            is_alive: false,
            done: false,
            counts: Arc::clone(&counts),
        };
        let batches = stream::unfold(driver, |mut driver| async move {
            driver.next().await.map(|batch| (batch, driver))
        });
        let batches = batches.fuse().boxed();
        Self { batches, items: S::Items::default(), position, counts }
    }

    pub(super) fn position(&self) -> &Position {
        &self.position
    }

    pub(super) fn counts(&self) -> Counts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Item<S>, Error>>> {
        loop {
            if let Some(item) = self.items.pop() {
                S::track(&item, &mut self.position);
                return Poll::Ready(Some(Ok(item)));
            }
            match ready!(self.batches.poll_next_unpin(cx)) {
                Some(Ok(batch)) => self.items = batch,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }
}

/// Implements a stream for a type whose field `stream` is a [`ResumingStream`].
macro_rules! resuming {
    ($stream:ident of $item:ty) => {
        impl $stream {
            /// Returns the number of attempts to open the stream.
            pub fn attempts(&self) -> u32 {
                self.stream.counts().attempts
            }

            /// Returns the number of events, or of changed tasks, that were received again and
            /// dropped.
            pub fn duplicates(&self) -> u64 {
                self.stream.counts().duplicates
            }
        }

        impl ::futures::Stream for $stream {
            type Item = Result<$item, $crate::error::Error>;

            fn poll_next(
                mut self: ::std::pin::Pin<&mut Self>,
                cx: &mut ::std::task::Context<'_>,
            ) -> ::std::task::Poll<Option<Self::Item>> {
                self.stream.poll_next(cx)
            }
        }
    };
}

pub(super) use resuming;

/// The history of a stream: whether it has delivered messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attachment {
    Never,
    /// An earlier stream has delivered messages, the current one not yet.
    Before,
    /// The current stream has delivered messages.
    Now,
}

struct Driver<S: StreamSource> {
    attempts: Attempts,
    source: S,
    silence_max: Duration,
    stream: Option<Streaming<S::Message>>,
    /// The items of at most one message. They are delivered before the next message is read.
    items: S::Items,
    /// Handled after the items are delivered.
    reopen: Option<Reopen>,
    attachment: Attachment,
    /// The current stream has delivered a heartbeat after its first message.
    is_alive: bool,
    done: bool,
    counts: Arc<Mutex<Counts>>,
}

impl<S: StreamSource> Driver<S> {
    async fn next(&mut self) -> Option<Result<S::Items, Error>> {
        loop {
            if !self.items.is_empty() {
                return Some(Ok(std::mem::take(&mut self.items)));
            }
            if self.done {
                return None;
            }
            let step = match (self.reopen.take(), self.stream.is_some()) {
                (Some(reopen), _) => self.reopen(reopen).await,
                (None, true) => self.read().await,
                (None, false) => self.open().await,
            };
            if let Err(error) = step {
                self.done = true;
                self.stream = None;
                return Some(Err(error));
            }
        }
    }

    async fn open(&mut self) -> Result<(), Error> {
        let request = self.attempts.request(self.source.request()).await?;
        let attempts = self.attempts.count();
        self.count(|counts| counts.attempts = attempts);
        let opening = timeout(self.silence_max, S::open(self.attempts.connection(), request));
        match self.attempts.bounded(opening).await? {
            Ok(Ok(response)) => {
                self.stream = Some(response.into_inner());
                Ok(())
            }
            Ok(Err(status)) => self.interrupted(status.into()).await,
            Err(_) => self.interrupted(Error::silence()).await,
        }
    }

    async fn read(&mut self) -> Result<(), Error> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        let completion = self.source.completion();
        let time_max = match completion {
            Completion::Reached => COMPLETED_STREAM_TIME_MAX,
            Completion::Incomplete | Completion::OnOk => self.silence_max,
        };
        let read = self.attempts.bounded(timeout(time_max, stream.message())).await;
        match read {
            Ok(Ok(Ok(Some(message)))) => {
                self.take(message);
                Ok(())
            }
            _ if completion == Completion::Reached => self.finish(),
            Ok(Ok(Ok(None))) if completion == Completion::OnOk => self.finish(),
            Ok(Ok(Ok(None))) => self.interrupted(Error::ended_early()).await,
            Ok(Ok(Err(status))) => self.interrupted(status.into()).await,
            Ok(Err(_)) => self.interrupted(Error::silence()).await,
            Err(deadline) => Err(deadline),
        }
    }

    fn finish(&mut self) -> Result<(), Error> {
        self.done = true;
        self.stream = None;
        Ok(())
    }

    fn take(&mut self, message: S::Message) {
        if self.attachment == Attachment::Before {
            self.items.push(self.source.resumed());
        }
        let is_first = self.attachment != Attachment::Now;
        self.attachment = Attachment::Now;
        self.attempts.started();
        let progress = self.source.take(message, &mut self.items);
        if progress.progressed {
            self.attempts.progressed();
        }
        self.is_alive |= progress.heartbeat && !is_first;
        self.reopen = progress.reopen;
        self.count(|counts| counts.duplicates += progress.duplicates);
    }

    async fn reopen(&mut self, reopen: Reopen) -> Result<(), Error> {
        match reopen {
            Reopen::Draining(_) if self.source.completion() == Completion::Reached => self.finish(),
            Reopen::Draining(delay) => self.interrupted(Error::draining(delay)).await,
            Reopen::EpochChanged => self.interrupted(Error::epoch_mismatch()).await,
        }
    }

    /// Drops the stream and waits until it can be opened again.
    ///
    /// # Errors
    /// `error`, if the stream is not opened again.
    async fn interrupted(&mut self, error: Error) -> Result<(), Error> {
        self.stream = None;
        let was_alive = std::mem::take(&mut self.is_alive);
        if self.attachment == Attachment::Now {
            self.attachment = Attachment::Before;
        }
        let request_changed = self.source.refused(&error);
        let after_sequence = self.source.cursor();
        let context = FailureContext { request_changed, was_alive, after_sequence };
        self.attempts.recover(self.attempts.failed(error), context).await
    }

    fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
