//! Reading a session's log as a stream: what is there, then what comes.
//!
//! A reader subscribes to the head first, then reads pages until it has the head, and then waits
//! for a newer one: so there is no seam between replay and live, and a slow reader costs one page.

use std::time::Duration;

use async_stream::try_stream;
use bytes::Bytes;
use futures::Stream;
use rand::Rng;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::handle::sleep_until;
use super::part::Part;
use super::topics::Subscription;
use super::{Engine, Error};
use crate::model::limits::{
    LOG_PAGE_BYTES_MAX, LOG_PAGE_EVENTS_MAX, UPDATE_BYTES_MAX, UPDATE_EVENTS_MAX,
};
use crate::model::{CallId, PayloadKind, Principal, Session, SessionId, TurnId};
use crate::store::{EventPage, EventQuery, LogEvent, StoreError};

/// What happens when events that were asked for are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnGap {
    /// The stream says so and goes on behind the gap.
    #[default]
    Signal,
    /// The stream ends with an error.
    Fail,
}

/// Which events of a session, and until when.
#[derive(Debug, Clone)]
pub struct LogQuery {
    /// The session.
    pub session_id: SessionId,
    /// Behind this sequence; none: from the oldest that is left.
    pub after: Option<u64>,
    /// Only from now on.
    pub from_now: bool,
    /// The epoch that the caller knows; empty: any.
    pub stream_epoch: String,
    /// Only these kinds; none: all. An empty list lets nothing through.
    pub kinds: Option<Vec<PayloadKind>>,
    /// Go on when caught up.
    pub follow: bool,
    /// What to do about a gap.
    pub on_gap: OnGap,
}

/// A step of a stream.
#[derive(Debug, Clone, PartialEq)]
pub enum LogItem {
    /// The session as it is when the stream begins.
    Snapshot(Box<Session>),
    /// Encoded events, at most so many as make one message.
    Events(Vec<Bytes>),
    /// All events up to this head have been given.
    CaughtUp {
        /// The head.
        head: u64,
    },
    /// Events are missing.
    Gap {
        /// The first missing one.
        from: u64,
        /// The last missing one.
        to: u64,
    },
    /// Nothing has happened for a while.
    Heartbeat {
        /// The newest sequence.
        head: u64,
    },
    /// The stream is about to end before its end: attach again.
    Draining {
        /// After how long.
        retry_after: Duration,
        /// After which sequence.
        last_sequence: u64,
    },
}

/// How long a client that is told to come back should wait.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// A position in a log that moves forward.
struct Cursor {
    engine: Engine,
    query: EventQuery,
    heads: Subscription<SessionId, u64>,
    /// Where the page behind the newest one begins, if there is one.
    next: Option<u64>,
    /// That page, once its read has begun.
    ahead: Option<AbortOnDropHandle<Result<EventPage, StoreError>>>,
    /// When the stream has been silent for long enough to say so.
    heartbeat_due: Instant,
    /// When the stream has lasted long enough, if it ever has.
    expires: Option<Instant>,
}

/// Why a wait for events is over.
enum Woken {
    News,
    Heartbeat,
    Draining,
}

impl Cursor {
    fn new(engine: &Engine, session_id: SessionId) -> Self {
        let options = &engine.shared.options;
        let query = EventQuery {
            session_id,
            after: 0,
            kinds: Vec::new(),
            call_id: None,
            scan_max: LOG_PAGE_EVENTS_MAX,
            bytes_max: LOG_PAGE_BYTES_MAX,
        };
        Self {
            engine: engine.clone(),
            query,
            heads: engine.shared.heads.subscribe(&session_id),
            next: None,
            ahead: None,
            heartbeat_due: Instant::now() + options.heartbeat,
            expires: Some(engine.stream_expiry()),
        }
    }

    /// The next page.
    async fn page(&mut self) -> Result<EventPage, Error> {
        let page = match self.ahead.take() {
            Some(read) => read.await.map_err(|cause| Error::Internal(cause.to_string()))??,
            None => {
                self.heads.newest();
                self.engine.shared.store.events(self.query.clone()).await?
            }
        };
        self.next = (page.scanned_to < page.head).then_some(page.scanned_to);
        Ok(page)
    }

    /// Begins to read the page behind the newest one, if there is one. Whoever takes a message of
    /// one page will soon want the next; for a client that takes none, none is read.
    fn read_ahead(&mut self) {
        let Some(after) = self.next.take() else { return };
        // What is published from here on is news to that read.
        self.heads.newest();
        let store = self.engine.shared.store.clone();
        let query = EventQuery { after, ..self.query.clone() };
        let read = async move { store.events(query).await };
        self.ahead = Some(AbortOnDropHandle::new(self.engine.shared.tracker.spawn(read)));
    }

    /// The client has taken a message.
    fn told(&mut self) {
        self.heartbeat_due = Instant::now() + self.engine.shared.options.heartbeat;
        self.read_ahead();
    }

    async fn wait(&mut self) -> Woken {
        tokio::select! {
            _ = self.heads.changed() => Woken::News,
            () = tokio::time::sleep_until(self.heartbeat_due) => {
                self.told();
                Woken::Heartbeat
            }
            () = sleep_until(self.expires) => Woken::Draining,
            () = self.engine.shared.draining.cancelled() => Woken::Draining,
        }
    }

    fn is_over(&self) -> bool {
        self.engine.shared.draining.is_cancelled()
            || self.expires.is_some_and(|expires| Instant::now() >= expires)
    }

    fn draining(&self, last_sequence: u64) -> LogItem {
        LogItem::Draining { retry_after: RETRY_AFTER, last_sequence }
    }
}

impl Engine {
    /// When a stream that begins now has lasted long enough: spread, so that streams that began
    /// together don't all come back together.
    pub(super) fn stream_expiry(&self) -> Instant {
        let spread = rand::rng().random_range(0.9..=1.1);
        Instant::now() + self.shared.options.stream_age.mul_f64(spread)
    }

    /// Streams a session: a snapshot first, then its events. Ends without an error only at the end
    /// of the log, or, when it is not to follow, once it has caught up.
    pub fn stream_session(
        &self,
        who: Principal,
        query: LogQuery,
    ) -> impl Stream<Item = Result<LogItem, Error>> + Send + use<> {
        let engine = self.clone();
        try_stream! {
            let mut cursor = Cursor::new(&engine, query.session_id);
            let session = engine.own_session(&who, query.session_id).await?;
            let start = check_start(&session, &query)?;
            yield LogItem::Snapshot(Box::new(session));
            cursor.query.after = start;
            let lets_nothing_through = query.kinds.as_ref().is_some_and(Vec::is_empty);
            cursor.query.kinds = query.kinds.unwrap_or_default();
            let mut caught_up = false;
            loop {
                let mut page = cursor.page().await?;
                if lets_nothing_through {
                    page.events.clear();
                }
                if let Some(gap) = gap(&page, cursor.query.after, query.on_gap)? {
                    yield gap;
                }
                let up_to_date = page.scanned_to >= page.head;
                let ended = page.closed && up_to_date;
                cursor.query.after = page.scanned_to.max(cursor.query.after);
                for events in messages(page.events) {
                    yield LogItem::Events(events);
                    cursor.told();
                }
                if up_to_date && !caught_up {
                    caught_up = true;
                    yield LogItem::CaughtUp { head: page.head };
                }
                if ended || (up_to_date && !query.follow) {
                    break;
                }
                if !up_to_date && !cursor.is_over() {
                    continue;
                }
                match cursor.wait().await {
                    Woken::News => {}
                    Woken::Heartbeat => yield LogItem::Heartbeat { head: page.head },
                    Woken::Draining => {
                        yield cursor.draining(cursor.query.after);
                        Err(Error::Draining)?;
                    }
                }
            }
        }
    }

    /// Streams one call's events behind `after`, up to and including the one that settles it:
    /// its end, or its parking.
    pub fn stream_call(
        &self,
        session_id: SessionId,
        call_id: CallId,
        after: u64,
    ) -> impl Stream<Item = Result<LogItem, Error>> + Send + use<> {
        self.stream_part(session_id, Part::Call(call_id), after)
    }

    /// Streams one turn's events behind `after`, those of its calls among them, up to and including
    /// the one that ends it.
    pub fn stream_turn(
        &self,
        session_id: SessionId,
        turn_id: TurnId,
        after: u64,
    ) -> impl Stream<Item = Result<LogItem, Error>> + Send + use<> {
        self.stream_part(session_id, Part::Turn(turn_id), after)
    }

    fn stream_part(
        &self,
        session_id: SessionId,
        part: Part,
        after: u64,
    ) -> impl Stream<Item = Result<LogItem, Error>> + Send + use<> {
        let engine = self.clone();
        try_stream! {
            let mut cursor = Cursor::new(&engine, session_id);
            cursor.query.after = after;
            cursor.query.call_id = part.call_id();
            // It ends with its part of the log, not with an age of its own.
            cursor.expires = None;
            loop {
                let page = cursor.page().await?;
                if cursor.query.after + 1 < page.first {
                    // The event that it would end with may be among those that are gone.
                    let after = cursor.query.after;
                    Err(Error::SequenceTrimmed { after, first: page.first })?;
                }
                let up_to_date = page.scanned_to >= page.head;
                let head = page.head;
                cursor.query.after = page.scanned_to.max(cursor.query.after);
                let mut events = part.of(page.events, engine.shared.codec.as_ref())?;
                let end = events.iter().position(|event| part.ends_with(event));
                if let Some(end) = end {
                    events.truncate(end + 1);
                }
                for events in messages(events) {
                    yield LogItem::Events(events);
                    cursor.told();
                }
                if end.is_some() {
                    break;
                }
                if !up_to_date && !cursor.is_over() {
                    continue;
                }
                match cursor.wait().await {
                    Woken::News => {}
                    Woken::Heartbeat => yield LogItem::Heartbeat { head },
                    Woken::Draining => {
                        yield cursor.draining(cursor.query.after);
                        Err(Error::Draining)?;
                    }
                }
            }
        }
    }
}

/// The sequence to begin behind, or why it can't be.
fn check_start(session: &Session, query: &LogQuery) -> Result<u64, Error> {
    if !query.stream_epoch.is_empty() && query.stream_epoch != session.stream_epoch {
        return Err(Error::EpochMismatch {
            asked: query.stream_epoch.clone(),
            actual: session.stream_epoch.clone(),
        });
    }
    let head = session.head_sequence;
    match query.after {
        _ if query.from_now => Ok(head),
        Some(after) if after > head => Err(Error::SequenceAhead { after, head }),
        Some(after) => Ok(after),
        None => Ok(session.first_sequence.saturating_sub(1)),
    }
}

fn gap(page: &EventPage, after: u64, on_gap: OnGap) -> Result<Option<LogItem>, Error> {
    if after + 1 >= page.first || page.head == 0 {
        return Ok(None);
    }
    match on_gap {
        OnGap::Signal => Ok(Some(LogItem::Gap { from: after + 1, to: page.first - 1 })),
        OnGap::Fail => Err(Error::SequenceTrimmed { after, first: page.first }),
    }
}

/// Cuts a page into messages: few and large in a replay, one event each when little happens.
fn messages(events: Vec<LogEvent>) -> impl Iterator<Item = Vec<Bytes>> + Send {
    let mut events = events.into_iter();
    std::iter::from_fn(move || {
        let mut count = 0;
        let mut bytes = 0;
        for event in events.as_slice().iter().take(UPDATE_EVENTS_MAX) {
            bytes += event.bytes.len();
            if bytes > UPDATE_BYTES_MAX && count > 0 {
                break;
            }
            count += 1;
        }
        let message = events.by_ref().take(count).map(|event| event.bytes);
        (count > 0).then(|| message.collect())
    })
}
