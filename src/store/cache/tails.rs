//! The newest events of the sessions that have readers.
//!
//! A tail begins when a reader reaches the head of a log, and ends when many events are appended
//! that no reader reads.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::model::limits::{
    RECENT_LOG_BYTES_MAX, RECENT_LOG_EVENTS_MAX, RECENT_LOGS_BYTES_MAX, RECENT_LOGS_MAX,
};
use crate::model::{SessionId, SessionState};
use crate::store::{Append, EventPage, EventQuery, StoredEvent};

#[derive(Debug, Default)]
pub(super) struct Tails(Mutex<TailsState>);

#[derive(Debug, Default)]
struct TailsState {
    logs: HashMap<SessionId, CachedLog>,
    bytes: usize,
    /// The number of reads that have begun.
    readings: u64,
}

#[derive(Debug)]
enum CachedLog {
    /// The log is being read from the store. An append ends this state: the page may or may not
    /// have its events.
    Reading {
        /// The number of the read, which differs from that of a read after an append.
        reading: u64,
        readers: usize,
    },
    Known(Tail),
}

/// The events up to the head, without a gap.
#[derive(Debug)]
struct Tail {
    events: VecDeque<StoredEvent>,
    bytes: usize,
    /// The number of events since the last read.
    unread: usize,
    head: u64,
    /// The oldest sequence of the log, not of the tail.
    first: u64,
    closed: bool,
}

/// The events of an append under way. If this is dropped before the append is durable, the tail is
/// dropped as well: the append may or may not be stored.
pub(super) struct PendingTail<'a> {
    tails: &'a Tails,
    session_id: SessionId,
    /// The events, or `None` if the session has no tail.
    events: Option<Vec<StoredEvent>>,
    closed: bool,
    is_complete: bool,
}

/// A read of a log that may begin its tail.
pub(super) struct TailRead<'a> {
    tails: &'a Tails,
    session_id: SessionId,
    /// The number of the read, or `None` if the log has a tail already.
    reading: Option<u64>,
}

impl Tails {
    /// Returns the page, or `None` if the tail does not have all of it.
    pub(super) fn read(&self, query: &EventQuery) -> Option<EventPage> {
        match self.lock().logs.get_mut(&query.session_id)? {
            CachedLog::Reading { .. } => None,
            CachedLog::Known(tail) => tail.read(query),
        }
    }

    /// Begins a read of the log from the store.
    pub(super) fn begin_read(&self, session_id: SessionId) -> TailRead<'_> {
        let mut inner = self.lock();
        if inner.logs.len() >= RECENT_LOGS_MAX {
            inner.clear();
        }
        inner.readings += 1;
        let newest = inner.readings;
        let forming = CachedLog::Reading { reading: newest, readers: 0 };
        let reading = match inner.logs.entry(session_id).or_insert(forming) {
            CachedLog::Known(_) => None,
            CachedLog::Reading { reading, readers } => {
                *readers += 1;
                Some(*reading)
            }
        };
        TailRead { tails: self, session_id, reading }
    }

    /// Keeps the events of an append that is under way, if the session has a tail or is being read.
    pub(super) fn begin(&self, append: &Append) -> PendingTail<'_> {
        let is_followed = self.lock().logs.contains_key(&append.session_id);
        PendingTail {
            tails: self,
            session_id: append.session_id,
            events: is_followed.then(|| append.events.clone()),
            closed: append.session.state == SessionState::Closed,
            is_complete: false,
        }
    }

    /// Removes the tail of a session.
    pub(super) fn forget(&self, session_id: SessionId) {
        self.lock().forget(session_id);
    }

    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, TailsState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TailsState {
    fn forget(&mut self, session_id: SessionId) {
        if let Some(CachedLog::Known(tail)) = self.logs.remove(&session_id) {
            self.bytes -= tail.bytes;
        }
    }

    fn clear(&mut self) {
        self.logs.clear();
        self.bytes = 0;
    }
}

impl PendingTail<'_> {
    /// Adds the events of an append that is durable to the tail.
    pub(super) fn complete(mut self) {
        let mut inner = self.tails.lock();
        let TailsState { logs, bytes, .. } = &mut *inner;
        // A page that is being read may or may not have the events.
        let Some(CachedLog::Known(tail)) = logs.get_mut(&self.session_id) else { return };
        let Some(events) = self.events.take() else { return };
        *bytes -= tail.bytes;
        let is_whole = tail.push(events, self.closed);
        *bytes += tail.bytes;
        self.is_complete = is_whole && tail.unread <= 2 * RECENT_LOG_EVENTS_MAX;
        if *bytes > RECENT_LOGS_BYTES_MAX {
            inner.clear();
        }
    }
}

impl Drop for PendingTail<'_> {
    fn drop(&mut self) {
        if !self.is_complete {
            self.tails.lock().forget(self.session_id);
        }
    }
}

impl TailRead<'_> {
    /// Begins the tail, if the page reaches the head and nothing was appended meanwhile.
    pub(super) fn complete(self, page: &EventPage) {
        let mut inner = self.tails.lock();
        let mine = match inner.logs.get(&self.session_id) {
            Some(CachedLog::Reading { reading, .. }) => Some(*reading) == self.reading,
            _ => false,
        };
        if mine && page.scanned_to == page.head && page.head > 0 {
            let EventPage { head, first, closed, .. } = *page;
            let events = VecDeque::new();
            let tail = Tail { events, bytes: 0, unread: 0, head, first, closed };
            inner.logs.insert(self.session_id, CachedLog::Known(tail));
        }
    }
}

impl Drop for TailRead<'_> {
    fn drop(&mut self) {
        let mut inner = self.tails.lock();
        let Some(CachedLog::Reading { reading, readers }) = inner.logs.get_mut(&self.session_id)
        else {
            return;
        };
        if Some(*reading) == self.reading {
            *readers -= 1;
            if *readers == 0 {
                inner.logs.remove(&self.session_id);
            }
        }
    }
}

impl Tail {
    fn read(&mut self, query: &EventQuery) -> Option<EventPage> {
        let oldest = self.head + 1 - self.events.len() as u64;
        if query.after > self.head || query.after + 1 < oldest {
            return None;
        }
        self.unread = 0;
        let EventQuery { bytes_max, scan_max, .. } = *query;
        let mut page = EventPage {
            events: Vec::new(),
            scanned_to: query.after,
            head: self.head,
            first: self.first,
            closed: self.closed,
            stream_epoch: None,
        };
        let skipped = usize::try_from(query.after + 1 - oldest).unwrap_or(usize::MAX);
        let mut bytes = 0;
        for event in self.events.iter().skip(skipped).take(scan_max) {
            let is_asked_for = query.kinds.is_empty() || query.kinds.contains(&event.kind);
            if is_asked_for && (query.call_id.is_none() || query.call_id == event.call_id) {
                bytes += event.bytes.len();
                if bytes > bytes_max && !page.events.is_empty() {
                    break;
                }
                page.events.push(event.into());
            }
            page.scanned_to = event.sequence;
        }
        Some(page)
    }

    /// Adds events. Returns whether they follow the ones that are here.
    fn push(&mut self, events: Vec<StoredEvent>, closed: bool) -> bool {
        let known = self.head;
        for event in events.into_iter().skip_while(|event| event.sequence <= known) {
            if event.sequence != self.head + 1 {
                return false;
            }
            self.head = event.sequence;
            self.unread += 1;
            self.bytes += event.bytes.len();
            self.events.push_back(event);
        }
        while self.events.len() > RECENT_LOG_EVENTS_MAX || self.bytes > RECENT_LOG_BYTES_MAX {
            let Some(oldest) = self.events.pop_front() else { break };
            self.bytes -= oldest.bytes.len();
        }
        self.closed |= closed;
        true
    }
}
