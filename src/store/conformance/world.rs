//! The sessions, calls and events of the cases.

use bytes::Bytes;

use crate::model::{
    Call, CallId, Delivery, FollowUp, FollowUpPut, Labels, OutputPosition, OutputStream,
    ParkReason, PayloadKind, Session, SessionId, State, Tenant, Timestamp, ToolKind,
};
use crate::store::{
    Append, EventPage, EventQuery, ExpiryPolicy, LogEvent, RequestEffect, RequestRecord, Store,
    StoreError, StoredEvent,
};

/// Returns the time this many microseconds after the beginning of the case.
pub(crate) fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(1_000_000 + micros)
}

pub(crate) fn tenant() -> Tenant {
    Tenant::new("tenant")
}

pub(crate) fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// The writer of a session, which knows its head.
pub(crate) struct SessionWriter {
    pub(crate) session: Session,
    pub(crate) head: Option<u64>,
}

impl SessionWriter {
    /// Creates a session that is not stored.
    pub(crate) fn new(create_time: i64) -> Self {
        let session = Session::new(SessionId::random(), tenant(), "epoch", at(create_time));
        Self { session, head: None }
    }

    /// Creates a session and stores it.
    pub(crate) async fn stored(store: &dyn Store, create_time: i64) -> Self {
        let mut log = Self::new(create_time);
        log.commit(store, log.append()).await;
        log
    }

    pub(crate) fn id(&self) -> SessionId {
        self.session.id
    }

    /// Returns an append that follows the head and changes nothing.
    pub(crate) fn append(&self) -> Append {
        Append {
            session_id: self.session.id,
            expected_head: self.head,
            events: Vec::new(),
            session: self.session.clone(),
            calls: Vec::new(),
            deleted_calls: Vec::new(),
            messages: Vec::new(),
            follow_ups: Vec::new(),
            requests: Vec::new(),
        }
    }

    /// Makes an append, which must succeed.
    pub(crate) async fn commit(&mut self, store: &dyn Store, append: Append) {
        let head = self.head.unwrap_or(0) + append.events.len() as u64;
        store.append(append).await.unwrap();
        self.head = Some(head);
    }

    pub(crate) async fn put(&mut self, store: &dyn Store, calls: &[Call]) {
        let append = Append { calls: calls.to_vec(), ..self.append() };
        self.commit(store, append).await;
    }

    pub(crate) async fn put_one(&mut self, store: &dyn Store, call: &Call) {
        self.put(store, std::slice::from_ref(call)).await;
    }

    /// Adds the follow-up of a task that has none.
    pub(crate) async fn add_follow_up(
        &mut self,
        store: &dyn Store,
        record: &FollowUp,
        task: &Call,
    ) {
        let follow_ups = vec![new_put(record, task)];
        self.commit(store, Append { follow_ups, ..self.append() }).await;
    }

    /// Replaces stored follow-ups.
    pub(crate) async fn put_follow_ups(&mut self, store: &dyn Store, records: &[FollowUp]) {
        let follow_ups = records.iter().map(later_put).collect();
        self.commit(store, Append { follow_ups, ..self.append() }).await;
    }

    /// Stores the current state of the session.
    pub(crate) async fn save(&mut self, store: &dyn Store) {
        self.commit(store, self.append()).await;
    }

    /// Appends `count` events that belong to no call.
    pub(crate) async fn write(&mut self, store: &dyn Store, count: u64) {
        let first = self.head.unwrap_or(0) + 1;
        let events = (first..first + count).map(event).collect();
        self.commit(store, Append { events, ..self.append() }).await;
    }

    /// Appends pieces of output, each with its stream, the bytes dropped before it, and its length.
    pub(crate) async fn write_output(
        &mut self,
        store: &dyn Store,
        call_id: CallId,
        pieces: &[(OutputStream, u64, u64)],
    ) -> Vec<StoredEvent> {
        let first = self.head.unwrap_or(0) + 1;
        let events = output_events(call_id, first, pieces);
        self.commit(store, Append { events: events.clone(), ..self.append() }).await;
        events
    }

    /// Returns a call of this session that runs in the foreground.
    pub(crate) fn call(&self, create_time: i64) -> Call {
        let now = at(create_time);
        Call {
            state: State::Running,
            start_time: Some(now),
            accept_sequence: 1,
            ..Call::new(CallId::random(), &self.session, "bash", ToolKind::Command, now)
        }
    }

    /// Returns a call of this session that runs in the background.
    pub(crate) fn task(&self, create_time: i64) -> Call {
        Call {
            park_time: Some(at(create_time)),
            park_reason: Some(ParkReason::Budget),
            ..self.call(create_time)
        }
    }

    /// Returns a task that has ended and expires at `expire_time`.
    pub(crate) fn ended(&self, create_time: i64, expire_time: i64) -> Call {
        Call {
            state: State::Succeeded,
            end_time: Some(at(create_time)),
            expire_time: Some(at(expire_time)),
            ..self.task(create_time)
        }
    }

    /// Returns a follow-up of a task of this session that the engine delivers at `due_time`.
    pub(crate) fn follow_up(&self, task: &Call, due_time: i64) -> FollowUp {
        let create_time = task.end_time.unwrap_or(task.create_time);
        FollowUp {
            due_time: Some(at(due_time)),
            ..FollowUp::new(task, Delivery::Engine, create_time)
        }
    }
}

/// Returns the change that adds a follow-up with its task.
pub(crate) fn new_put(record: &FollowUp, task: &Call) -> FollowUpPut {
    FollowUpPut { record: record.clone(), task: Some(Box::new(task.clone())) }
}

/// Returns the change that replaces a stored follow-up.
pub(crate) fn later_put(record: &FollowUp) -> FollowUpPut {
    FollowUpPut { record: record.clone(), task: None }
}

pub(crate) fn event(sequence: u64) -> StoredEvent {
    let bytes = Bytes::from(format!("event {sequence}"));
    StoredEvent { sequence, kind: PayloadKind::ToolProgress, call_id: None, output: None, bytes }
}

/// Returns the same event as a reader gets it.
pub(crate) fn log_event(sequence: u64) -> LogEvent {
    LogEvent::from(&event(sequence))
}

/// Returns pieces of output from the beginning of a call's streams.
pub(crate) fn output_events(
    call_id: CallId,
    first: u64,
    pieces: &[(OutputStream, u64, u64)],
) -> Vec<StoredEvent> {
    let mut ends = [0, 0];
    let mut combined_offset = 0;
    let mut events = Vec::new();
    for (sequence, (stream, dropped_bytes_before, length)) in (first..).zip(pieces) {
        let end = &mut ends[*stream as usize];
        let offset = *end + dropped_bytes_before;
        combined_offset += dropped_bytes_before;
        let position = OutputPosition {
            stream: *stream,
            offset,
            combined_offset,
            dropped_bytes_before: *dropped_bytes_before,
        };
        *end = offset + length;
        combined_offset += length;
        events.push(StoredEvent {
            kind: PayloadKind::ToolOutput,
            call_id: Some(call_id),
            output: Some((position, *length)),
            ..event(sequence)
        });
    }
    events
}

pub(crate) fn request(id: &str, effect: RequestEffect, create_time: i64) -> RequestRecord {
    RequestRecord {
        tenant: tenant(),
        request_id: id.to_owned(),
        fingerprint: [7; 32],
        effect,
        create_time: at(create_time),
    }
}

/// Returns whether the request id is stored.
pub(crate) async fn knows_request(store: &dyn Store, id: &str) -> bool {
    store.request(&tenant(), id).await.unwrap().is_some()
}

/// Returns a query for the whole log.
pub(crate) fn whole(session_id: SessionId) -> EventQuery {
    let (scan_max, bytes_max) = (usize::MAX, usize::MAX);
    EventQuery { session_id, after: 0, kinds: vec![], call_id: None, scan_max, bytes_max }
}

pub(crate) async fn read_log(store: &dyn Store, session_id: SessionId) -> EventPage {
    store.events(whole(session_id)).await.unwrap()
}

pub(crate) fn sequences(page: &EventPage) -> Vec<u64> {
    page.events.iter().map(|event| event.sequence).collect()
}

/// Returns a policy by which nothing expires.
pub(crate) fn keep_all() -> ExpiryPolicy {
    ExpiryPolicy {
        now: at(-1_000),
        older_than: at(-1_000),
        session_events_max: u64::MAX,
        rows_max: u32::MAX,
    }
}

pub(crate) fn conflict(head: Option<u64>) -> Result<(), StoreError> {
    Err(StoreError::Conflict { head })
}
