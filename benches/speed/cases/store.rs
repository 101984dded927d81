//! The store without the service.

use std::sync::Arc;

use bytes::Bytes;
use callpark::internals::telemetry::Metrics;
use callpark::model::{
    Call, CallId, CallPolicy, Labels, Outcome, PayloadKind, Session, State, ToolKind, ToolResult,
};
use callpark::store::{Append, SqliteOptions, SqliteStore, Store, StoredEvent, Synchronous};
use tempfile::TempDir;

use crate::bare::EVENT_BYTES;
use crate::session::session;
use crate::{Result, child};

/// A store of the benchmark's own.
#[derive(Clone)]
pub(crate) struct Bare {
    store: Arc<SqliteStore>,
    _folder: Arc<TempDir>,
}

impl Bare {
    /// An empty one.
    pub(crate) fn new() -> Result<Self> {
        let folder = child::folder()?;
        let options =
            SqliteOptions { path: folder.path().to_owned(), synchronous: Synchronous::Full };
        let store = SqliteStore::open(&options, Metrics::new([""; 0]))?;
        Ok(Self { store: Arc::new(store), _folder: Arc::new(folder) })
    }
}

/// A session's log in it.
pub(crate) struct Log {
    store: Bare,
    session: Session,
    is_stored: bool,
}

impl Log {
    /// An empty log.
    pub(crate) fn new(store: &Bare) -> Self {
        let session = session();
        Self { store: store.clone(), session, is_stored: false }
    }

    /// Appends so many events and returns when they are durable.
    pub(crate) async fn append(&mut self, count: u64) -> Result<()> {
        self.append_with(count, Vec::new()).await
    }

    /// The appends of a call: its start and its end, each with an event.
    pub(crate) async fn append_call(&mut self) -> Result<()> {
        let call = self.call();
        let ended = Call {
            state: State::Succeeded,
            end_time: Some(call.create_time),
            expire_time: Some(call.create_time),
            outcome: Some(Outcome::Result(ToolResult::default())),
            revision: 2,
            ..call.clone()
        };
        self.append_with(1, vec![call]).await?;
        self.append_with(1, vec![ended]).await
    }

    fn call(&self) -> Call {
        let time = self.session.create_time;
        Call {
            id: CallId::random(),
            session_id: self.session.id,
            tenant: self.session.tenant.clone(),
            turn_id: None,
            tool: "nothing".to_owned(),
            kind: ToolKind::BuiltIn,
            description: String::new(),
            state: State::Running,
            reason: String::new(),
            create_time: time,
            start_time: Some(time),
            park_time: None,
            park_reason: None,
            end_time: None,
            update_time: time,
            expire_time: None,
            attempt: 1,
            run_owner: None,
            work_handle: None,
            parent: None,
            progress: None,
            outcome: None,
            turn: None,
            usage: None,
            cancellation: None,
            stopping: None,
            labels: Labels::new(),
            policy: CallPolicy::default(),
            accept_sequence: self.session.head_sequence + 1,
            acknowledge_time: None,
            revision: 1,
        }
    }

    async fn append_with(&mut self, count: u64, calls: Vec<Call>) -> Result<()> {
        let head = self.session.head_sequence;
        let event = |sequence| StoredEvent {
            sequence,
            kind: PayloadKind::ToolProgress,
            call_id: None,
            output: None,
            bytes: Bytes::from(vec![b'x'; EVENT_BYTES]),
        };
        self.session.head_sequence = head + count;
        let append = Append {
            session_id: self.session.id,
            expected_head: self.is_stored.then_some(head),
            events: (head + 1..=head + count).map(event).collect(),
            session: self.session.clone(),
            calls,
            deleted_calls: Vec::new(),
            messages: Vec::new(),
            follow_ups: Vec::new(),
            requests: Vec::new(),
        };
        self.store.store.append(append).await?;
        self.is_stored = true;
        Ok(())
    }
}
