//! A stream over its cuts: opened, read, opened again after the last thing that it gave.

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
    call::{self, Call},
    client::Client,
    error::Error,
    log::Admitted,
    retry::Budget,
};

/// Missed heartbeats that make a cut.
const HEARTBEATS_MISSED: u32 = 3;
/// How long a stream that has given all may take to say so.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What one sort of stream asks for and makes of its messages. It holds the cursor.
pub(crate) trait Feed: Send + 'static {
    /// The RPC, as `Service.Method`.
    const RPC: &'static str;
    type Request: Send;
    type Message: Send;
    type Items: Queue + Default + Send;

    /// The request that goes on after the cursor.
    fn request(&self) -> Self::Request;

    fn open(
        client: &Client,
        request: Request<Self::Request>,
    ) -> impl Future<Output = Result<Response<Streaming<Self::Message>>, Status>> + Send;

    /// Makes items of a message, and moves the cursor.
    fn take(&mut self, message: Self::Message, items: &mut Self::Items) -> Taken;

    /// Whether there is more to come.
    fn end(&self) -> End;

    /// After what the stream goes on.
    fn cursor(&self) -> Option<i64>;

    /// The item that says that the stream is open again.
    fn resumed(&self) -> Item<Self>;

    /// The server refused the request that goes on after the cursor. True: from now on the feed asks
    /// for something else.
    fn refused(&mut self, error: &Error) -> bool;

    /// Notes an item that is handed out.
    fn note(item: &Item<Self>, position: &mut Position);
}

/// Items in the order in which they are handed out.
pub(crate) trait Queue {
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

/// What a feed hands out.
pub(crate) type Item<F> = <<F as Feed>::Items as Queue>::Item;

/// What a message did.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// Something new came.
    pub(crate) progressed: bool,
    /// The server is alive and has nothing to say.
    pub(crate) heartbeat: bool,
    /// Events that had come before.
    pub(crate) duplicates: u64,
    /// The stream has to be opened again, because of this.
    pub(crate) reopen: Option<Reopen>,
}

impl Taken {
    /// Counts an event in.
    pub(crate) fn count(&mut self, admitted: Admitted) {
        match admitted {
            Admitted::Duplicate => self.duplicates += 1,
            Admitted::New | Admitted::Unknown => self.progressed = true,
        }
    }
}

/// Why a stream that works has to be opened again.
#[derive(Debug)]
pub(crate) enum Reopen {
    /// The server is about to end it.
    Draining(Option<Duration>),
    /// It gives what comes after the cursor in a log that is no more.
    OtherEpoch,
}

/// Whether there is more to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Yes: an OK is a cut.
    Ahead,
    /// Only an OK is the end.
    OnOk,
    /// All has been given: whatever follows is the end.
    Reached,
}

/// Where a stream stands, by what it has handed out.
#[derive(Debug, Default)]
pub(crate) struct Position {
    pub(crate) cursor: Option<i64>,
    pub(crate) epoch: String,
}

/// What a stream has met so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) duplicates: u64,
    pub(crate) tries: u32,
}

/// A stream with what its owner may ask of it.
///
/// A message makes many items. They are handed out from here, one by one and without asking anybody
/// else: the next message is read when none is left.
pub(crate) struct Followed<F: Feed> {
    batches: BoxStream<'static, Result<F::Items, Error>>,
    items: F::Items,
    position: Position,
    counts: Arc<Mutex<Counts>>,
}

impl<F: Feed> Followed<F> {
    pub(crate) fn position(&self) -> &Position {
        &self.position
    }

    pub(crate) fn counts(&self) -> Counts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Item<F>, Error>>> {
        loop {
            if let Some(item) = self.items.pop() {
                F::note(&item, &mut self.position);
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

/// Follows a feed. Nothing happens until the first poll, nor between polls.
pub(crate) fn follow<F: Feed>(client: &Client, feed: F) -> Followed<F> {
    let position = Position { cursor: feed.cursor(), ..Position::default() };
    let counts = Arc::<Mutex<Counts>>::default();
    let follower = Follower {
        silence_max: client.options().heartbeat_interval.saturating_mul(HEARTBEATS_MISSED),
        call: Call::new(client, F::RPC, Budget::Start),
        feed,
        stream: None,
        items: F::Items::default(),
        reopen: None,
        attached: Attached::Never,
        alive: false,
        done: false,
        counts: Arc::clone(&counts),
    };
    let batches = stream::unfold(follower, |mut follower| async move {
        follower.next().await.map(|batch| (batch, follower))
    });
    let batches = batches.fuse().boxed();
    Followed { batches, items: F::Items::default(), position, counts }
}

/// Whether a stream has given messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attached {
    /// No stream has.
    Never,
    /// An earlier one has, this one hasn't yet.
    Before,
    /// This one has.
    Now,
}

struct Follower<F: Feed> {
    call: Call,
    feed: F,
    silence_max: Duration,
    stream: Option<Streaming<F::Message>>,
    /// At most what one message makes, and is handed out before the next is read.
    items: F::Items,
    /// To be done once the items are handed out.
    reopen: Option<Reopen>,
    attached: Attached,
    /// This stream has given a heartbeat after its first message.
    alive: bool,
    done: bool,
    counts: Arc<Mutex<Counts>>,
}

impl<F: Feed> Follower<F> {
    async fn next(&mut self) -> Option<Result<F::Items, Error>> {
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
        let request = self.call.request(self.feed.request()).await?;
        let tries = self.call.tries();
        self.count(|counts| counts.tries = tries);
        let opening = timeout(self.silence_max, F::open(self.call.client(), request));
        match self.call.bounded(opening).await? {
            Ok(Ok(response)) => {
                self.stream = Some(response.into_inner());
                Ok(())
            }
            Ok(Err(status)) => self.cut(status.into()).await,
            Err(_) => self.cut(Error::silence()).await,
        }
    }

    async fn read(&mut self) -> Result<(), Error> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        let end = self.feed.end();
        let patience = if end == End::Reached { LAST_WORDS } else { self.silence_max };
        let read = self.call.bounded(timeout(patience, stream.message())).await;
        match read {
            Ok(Ok(Ok(Some(message)))) => {
                self.take(message);
                Ok(())
            }
            _ if end == End::Reached => self.finish(),
            Ok(Ok(Ok(None))) if end == End::OnOk => self.finish(),
            Ok(Ok(Ok(None))) => self.cut(Error::ended_early()).await,
            Ok(Ok(Err(status))) => self.cut(status.into()).await,
            Ok(Err(_)) => self.cut(Error::silence()).await,
            Err(deadline) => Err(deadline),
        }
    }

    fn finish(&mut self) -> Result<(), Error> {
        self.done = true;
        self.stream = None;
        Ok(())
    }

    fn take(&mut self, message: F::Message) {
        if self.attached == Attached::Before {
            self.items.push(self.feed.resumed());
        }
        let first = self.attached != Attached::Now;
        self.attached = Attached::Now;
        self.call.started();
        let taken = self.feed.take(message, &mut self.items);
        if taken.progressed {
            self.call.progressed();
        }
        self.alive |= taken.heartbeat && !first;
        self.reopen = taken.reopen;
        self.count(|counts| counts.duplicates += taken.duplicates);
    }

    async fn reopen(&mut self, reopen: Reopen) -> Result<(), Error> {
        match reopen {
            // The end of a stream that has reached its own.
            Reopen::Draining(_) if self.feed.end() == End::Reached => self.finish(),
            Reopen::Draining(delay) => self.cut(Error::draining(delay)).await,
            Reopen::OtherEpoch => self.cut(Error::other_epoch()).await,
        }
    }

    /// The stream is lost. Waits until it can be opened again, or gives the error back.
    async fn cut(&mut self, error: Error) -> Result<(), Error> {
        self.stream = None;
        let alive = std::mem::take(&mut self.alive);
        if self.attached == Attached::Now {
            self.attached = Attached::Before;
        }
        let altered = self.feed.refused(&error);
        let context = call::Context { altered, alive, after_sequence: self.feed.cursor() };
        self.call.recover(self.call.failed(error), context).await
    }

    fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
