//! A position in a session's log that moves forward page by page, and what wakes its reader: new events, a
//! heartbeat, the maximum age of a stream, the end of the server.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::StreamItem;
use crate::engine::replica::term::Term;
use crate::engine::topics::Subscription;
use crate::engine::{Error, Shared, sleep_until};
use crate::model::SessionId;
use crate::model::limits::{LOG_PAGE_BYTES_MAX, LOG_PAGE_EVENTS_MAX};
use crate::store::{EventPage, EventQuery, StoreError};

/// The delay after which a client should attach again.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// A position in a log that moves forward.
pub(super) struct Cursor {
    shared: Arc<Shared>,
    /// The term in which this server has the session, and publishes its heads.
    term: Term,
    pub(super) query: EventQuery,
    heads: Subscription<SessionId, u64>,
    /// The start of the page after the newest one, or `None` if the log has no such page.
    next: Option<u64>,
    /// The read of that page, once it has begun.
    ahead: Option<AbortOnDropHandle<Result<EventPage, StoreError>>>,
    /// The time at which the stream must send a heartbeat.
    heartbeat_due: Instant,
    /// The time at which the stream must end, or `None` if its age is not limited.
    expires: Option<Instant>,
}

/// The reason for the end of a wait for events.
pub(super) enum Wake {
    NewEvents,
    Heartbeat,
    Draining,
}

impl Cursor {
    pub(super) fn new(
        shared: &Arc<Shared>,
        session_id: SessionId,
        after: u64,
        expires: Option<Instant>,
    ) -> Self {
        let query = EventQuery {
            session_id,
            after,
            kinds: Vec::new(),
            call_id: None,
            scan_max: LOG_PAGE_EVENTS_MAX,
            bytes_max: LOG_PAGE_BYTES_MAX,
        };
        Self {
            shared: shared.clone(),
            term: shared.ownership.term(),
            query,
            heads: shared.heads.subscribe(&session_id),
            next: None,
            ahead: None,
            heartbeat_due: Instant::now() + shared.options.heartbeat,
            expires,
        }
    }

    /// Returns the next page.
    pub(super) async fn page(&mut self) -> Result<EventPage, Error> {
        let mut page = match self.ahead.take() {
            Some(read) => read.await.map_err(|cause| Error::Internal(cause.to_string()))??,
            None => {
                self.heads.newest();
                self.shared.store.events(self.query.clone()).await?
            }
        };
        if let Some(epoch) = page.stream_epoch.take() {
            for event in &mut page.events {
                event.bytes = self.shared.codec.with_epoch(&event.bytes, &epoch);
            }
        }
        self.next = (page.scanned_to < page.head).then_some(page.scanned_to);
        Ok(page)
    }

    /// Starts to read the page after the newest one, if there is one. A client that takes a message
    /// of one page will soon need the next; for a client that takes none, none is read.
    fn read_ahead(&mut self) {
        let Some(after) = self.next.take() else { return };
        // The read may miss what is published from here on, so that must wake the stream again.
        self.heads.newest();
        let store = self.shared.store.clone();
        let query = EventQuery { after, ..self.query.clone() };
        let read = async move { store.events(query).await };
        self.ahead = Some(AbortOnDropHandle::new(self.shared.tracker.spawn(read)));
    }

    /// Notes that the client has taken a message.
    pub(super) fn message_taken(&mut self) {
        self.heartbeat_due = Instant::now() + self.shared.options.heartbeat;
        self.read_ahead();
    }

    pub(super) async fn wait(&mut self) -> Wake {
        tokio::select! {
            _ = self.heads.changed() => Wake::NewEvents,
            () = tokio::time::sleep_until(self.heartbeat_due) => {
                self.message_taken();
                Wake::Heartbeat
            }
            () = sleep_until(self.expires) => Wake::Draining,
            () = self.shared.draining.cancelled() => Wake::Draining,
            () = self.term.ended() => Wake::Draining,
        }
    }

    /// Returns whether the stream must end now, although it has not reached the head.
    pub(super) fn must_end(&self) -> bool {
        self.shared.draining.is_cancelled()
            || self.expires.is_some_and(|expires| Instant::now() >= expires)
    }

    /// Returns the last item of a stream that ends before its end.
    pub(super) fn draining(&self) -> StreamItem {
        StreamItem::Draining { retry_after: RETRY_AFTER, last_sequence: self.query.after }
    }
}
