//! Streams of a session's log: the stored events first, then new ones as they are published.
//!
//! A stream subscribes to the head, reads pages until it has reached the head, and then waits for a
//! newer one. So replay and live events have no seam between them, and a slow reader costs one
//! page.

use std::time::Duration;

use async_stream::try_stream;
use bytes::Bytes;
use futures::Stream;

use super::Events;
use super::cursor::{Cursor, Wake};
use super::scope::EventScope;
use crate::engine::Error;
use crate::model::limits::{UPDATE_BYTES_MAX, UPDATE_EVENTS_MAX};
use crate::model::{CallId, PayloadKind, Principal, Session, SessionId, TurnId};
use crate::store::{EventPage, LogEvent};

/// The treatment of requested events that have been trimmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GapPolicy {
    /// The stream reports the gap and continues after it.
    #[default]
    Signal,
    /// The stream ends with an error.
    Fail,
}

/// A request for a stream of a session.
#[derive(Debug, Clone)]
pub struct StreamQuery {
    /// The session.
    pub session_id: SessionId,
    /// The sequence to start after, or `None` to start with the oldest event.
    pub after: Option<u64>,
    /// `true` if the stream starts after the newest event.
    pub from_now: bool,
    /// The epoch that the caller knows, or empty for any.
    pub stream_epoch: String,
    /// The kinds of events to return, or `None` for all kinds. An empty list returns no events.
    pub kinds: Option<Vec<PayloadKind>>,
    /// `true` if the stream continues once it has caught up.
    pub follow: bool,
    /// The treatment of a gap.
    pub on_gap: GapPolicy,
}

/// An item of a stream.
#[derive(Debug, Clone, PartialEq)]
pub enum StreamItem {
    /// The session as it is when the stream starts.
    Snapshot(Box<Session>),
    /// Encoded events that fit into one message.
    Events(Vec<Bytes>),
    /// The stream has returned all events up to this head.
    CaughtUp {
        /// The newest sequence.
        head: u64,
    },
    /// Events have been trimmed.
    Gap {
        /// The first missing sequence.
        from: u64,
        /// The last missing sequence.
        to: u64,
    },
    /// The stream has been silent for a while.
    Heartbeat {
        /// The newest sequence.
        head: u64,
    },
    /// The stream ends before its end: attach again.
    Draining {
        /// The delay before attaching again.
        retry_after: Duration,
        /// The sequence to start after.
        last_sequence: u64,
    },
}

impl Events {
    /// Streams a session: a snapshot, then its events. Ends without an error only at the end of the
    /// log or, if it does not follow, once it has caught up.
    ///
    /// # Errors
    ///
    /// [`Error::NotOwner`] if the stream follows and another replica has the session. All other errors are items of the stream.
    pub async fn session(
        &self,
        principal: Principal,
        query: StreamQuery,
    ) -> Result<impl Stream<Item = Result<StreamItem, Error>> + Send + use<>, Error> {
        let shared = self.shared.clone();
        let expires = self.expiry();
        // A replay ends at the head of its start, wherever later events are written.
        let held = match query.follow {
            true => shared.hold(&principal, query.session_id).await,
            false => Ok(None),
        };
        if let Err(error @ Error::NotOwner { .. }) = held {
            return Err(error);
        }
        Ok(try_stream! {
            let _held = held?;
            let mut cursor = Cursor::new(&shared, query.session_id, 0, Some(expires));
            let session = shared.own_session(&principal, query.session_id).await?;
            let start = check_start(&session, &query)?;
            yield StreamItem::Snapshot(Box::new(session));
            cursor.query.after = start;
            let returns_no_events = query.kinds.as_ref().is_some_and(Vec::is_empty);
            cursor.query.kinds = query.kinds.unwrap_or_default();
            let mut caught_up = false;
            loop {
                let mut page = cursor.page().await?;
                if returns_no_events {
                    page.events.clear();
                }
                if let Some(gap) = gap(&page, cursor.query.after, query.on_gap)? {
                    yield gap;
                }
                let up_to_date = page.scanned_to >= page.head;
                let ended = page.closed && up_to_date;
                cursor.query.after = page.scanned_to.max(cursor.query.after);
                for events in messages(page.events) {
                    yield StreamItem::Events(events);
                    cursor.message_taken();
                }
                if up_to_date && !caught_up {
                    caught_up = true;
                    yield StreamItem::CaughtUp { head: page.head };
                }
                if ended || (up_to_date && !query.follow) {
                    break;
                }
                if !up_to_date && !cursor.must_end() {
                    continue;
                }
                match cursor.wait().await {
                    Wake::NewEvents => {}
                    Wake::Heartbeat => yield StreamItem::Heartbeat { head: page.head },
                    Wake::Draining => {
                        yield cursor.draining();
                        Err(Error::Draining)?;
                    }
                }
            }
        })
    }

    /// Streams a call's events after `after`, up to and including the one that settles it: its end
    /// or its parking.
    pub fn call(
        &self,
        session_id: SessionId,
        call_id: CallId,
        after: u64,
    ) -> impl Stream<Item = Result<StreamItem, Error>> + Send + use<> {
        self.scope(session_id, EventScope::Call(call_id), after)
    }

    /// Streams the events of a turn and of its calls after `after`, up to and including the one
    /// that ends the turn.
    pub fn turn(
        &self,
        session_id: SessionId,
        turn_id: TurnId,
        after: u64,
    ) -> impl Stream<Item = Result<StreamItem, Error>> + Send + use<> {
        self.scope(session_id, EventScope::Turn(turn_id), after)
    }

    fn scope(
        &self,
        session_id: SessionId,
        scope: EventScope,
        after: u64,
    ) -> impl Stream<Item = Result<StreamItem, Error>> + Send + use<> {
        let shared = self.shared.clone();
        try_stream! {
            // The stream ends with its scope, so its age is not limited.
            let mut cursor = Cursor::new(&shared, session_id, after, None);
            cursor.query.call_id = scope.call_id();
            loop {
                let page = cursor.page().await?;
                if cursor.query.after.saturating_add(1) < page.first {
                    // The last event of the scope may be among those that were trimmed.
                    let after = cursor.query.after;
                    Err(Error::SequenceTrimmed { after, first: page.first })?;
                }
                let up_to_date = page.scanned_to >= page.head;
                let head = page.head;
                cursor.query.after = page.scanned_to.max(cursor.query.after);
                let mut events = scope.filter(page.events, shared.codec.as_ref())?;
                let mut ended = false;
                for index in 0..events.len() {
                    if scope.ends_with(&events[index], shared.codec.as_ref())? {
                        events.truncate(index + 1);
                        ended = true;
                        break;
                    }
                }
                for events in messages(events) {
                    yield StreamItem::Events(events);
                    cursor.message_taken();
                }
                if ended {
                    break;
                }
                if !up_to_date && !cursor.must_end() {
                    continue;
                }
                match cursor.wait().await {
                    Wake::NewEvents => {}
                    Wake::Heartbeat => yield StreamItem::Heartbeat { head },
                    Wake::Draining => {
                        yield cursor.draining();
                        Err(Error::Draining)?;
                    }
                }
            }
        }
    }
}

/// Returns the sequence after which the stream starts.
fn check_start(session: &Session, query: &StreamQuery) -> Result<u64, Error> {
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

fn gap(page: &EventPage, after: u64, on_gap: GapPolicy) -> Result<Option<StreamItem>, Error> {
    if after.saturating_add(1) >= page.first || page.head == 0 {
        return Ok(None);
    }
    match on_gap {
        GapPolicy::Signal => Ok(Some(StreamItem::Gap { from: after + 1, to: page.first - 1 })),
        GapPolicy::Fail => Err(Error::SequenceTrimmed { after, first: page.first }),
    }
}

/// Divides a page into messages: few and large ones in a replay, one event each when few events are
/// published.
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
