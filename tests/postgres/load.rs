//! A load of appends whose every answer is checked against the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use callpark::model::{
    Call, CallId, PayloadKind, Session, SessionId, State, Tenant, Timestamp, ToolKind,
};
use callpark::store::{
    Append, CallQuery, EventQuery, PostgresStore, RequestEffect, RequestRecord, Store, StoreError,
    StoredEvent,
};
use tokio_util::task::TaskTracker;

pub(crate) fn tenant() -> Tenant {
    Tenant::new("tenant")
}

pub(crate) fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(1_000_000 + micros)
}

/// Returns a session that is not stored.
pub(crate) fn session() -> Session {
    Session::new(SessionId::random(), tenant(), "epoch", at(0))
}

/// Returns the append that adds one event to a session with this head, with a call that it changes.
pub(crate) fn append(session: &Session, head: Option<u64>) -> Append {
    let sequence = head.unwrap_or(0) + 1;
    let text = format!("{} {sequence}", session.id);
    let kind = PayloadKind::ToolProgress;
    let bytes = Bytes::from(text.clone());
    let now = at(i64::try_from(sequence).expect("a small number"));
    let call = Call {
        state: State::Running,
        park_time: Some(now),
        ..Call::new(CallId::random(), session, "bash", ToolKind::Command, now)
    };
    Append {
        session_id: session.id,
        expected_head: head,
        events: vec![StoredEvent { sequence, kind, call_id: None, output: None, bytes }],
        session: session.clone(),
        calls: vec![call.clone()],
        deleted_calls: Vec::new(),
        messages: Vec::new(),
        follow_ups: Vec::new(),
        requests: vec![RequestRecord {
            tenant: tenant(),
            request_id: text,
            fingerprint: [7; 32],
            effect: RequestEffect::CallStarted { session_id: session.id, call_id: call.id },
            create_time: now,
        }],
    }
}

/// A load by many writers, each of a session of its own.
pub(crate) struct Load {
    writers: TaskTracker,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
    sessions: Arc<std::sync::Mutex<Vec<(SessionId, u64)>>>,
}

impl Load {
    pub(crate) fn start(store: &Arc<PostgresStore>, writers: usize) -> Self {
        let load = Self {
            writers: TaskTracker::new(),
            stop: Arc::default(),
            acknowledged: Arc::default(),
            failed: Arc::default(),
            sessions: Arc::default(),
        };
        for _ in 0..writers {
            let store = Arc::clone(store);
            let (stop, sessions) = (Arc::clone(&load.stop), Arc::clone(&load.sessions));
            let (acknowledged, failed) = (Arc::clone(&load.acknowledged), Arc::clone(&load.failed));
            load.writers.spawn(async move {
                let session = session();
                let mut head = None;
                while !stop.load(Ordering::Relaxed) {
                    match store.append(append(&session, head)).await {
                        Ok(()) => {
                            head = Some(head.unwrap_or(0) + 1);
                            acknowledged.fetch_add(1, Ordering::Relaxed);
                        }
                        // It has changed nothing: the same head is expected again.
                        Err(StoreError::Unavailable(_)) => {
                            failed.fetch_add(1, Ordering::Relaxed);
                            tokio::time::sleep(Duration::from_millis(20)).await;
                        }
                        Err(other) => panic!("after {head:?}: {other}"),
                    }
                }
                let head = head.unwrap_or(0);
                sessions.lock().expect("no panic").push((session.id, head));
            });
        }
        load.writers.close();
        load
    }

    /// Waits for so many more acknowledged appends.
    pub(crate) async fn progress(&self, appends: u64) {
        let wanted = self.acknowledged.load(Ordering::Relaxed) + appends;
        let progress = async {
            while self.acknowledged.load(Ordering::Relaxed) < wanted {
                assert!(!self.writers.is_empty(), "a writer has panicked");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), progress).await.expect("progress");
    }

    /// Stops the writers, and returns the number of appends that failed.
    pub(crate) async fn stop(&self, writers: usize) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.writers.wait().await;
        assert_eq!(self.sessions.lock().expect("no panic").len(), writers, "a writer has panicked");
        self.failed.load(Ordering::Relaxed)
    }

    /// Checks that the store has what was acknowledged, once, and nothing else.
    pub(crate) async fn check(&self, store: &PostgresStore) {
        let sessions = self.sessions.lock().expect("no panic").clone();
        let mut total = 0;
        for (session_id, head) in sessions {
            let (mut after, mut sequences) = (0, Vec::new());
            loop {
                let (scan_max, bytes_max) = (1_000, usize::MAX);
                let kinds = Vec::new();
                let query =
                    EventQuery { session_id, after, kinds, call_id: None, scan_max, bytes_max };
                let page = store.events(query).await.expect("events");
                assert_eq!(page.head, head, "what was acknowledged, and nothing else");
                for event in &page.events {
                    let text = format!("{session_id} {}", event.sequence);
                    assert_eq!(event.bytes, text.as_bytes());
                    assert!(
                        store.request(&tenant(), &text).await.expect("a request").is_some(),
                        "{text}"
                    );
                    sequences.push(event.sequence);
                }
                if page.scanned_to >= page.head {
                    break;
                }
                after = page.scanned_to;
            }
            assert!(sequences.into_iter().eq(1..=head));
            let session = store.session(session_id).await.expect("a session");
            let live = session.map_or(0, |session| u64::from(session.live_tasks));
            assert_eq!(live, head, "each append has started one call");
            total += head;
        }
        assert_eq!(total, self.acknowledged.load(Ordering::Relaxed));
        let calls = store.calls(CallQuery::newest(tenant(), 1)).await.expect("calls");
        assert_eq!(calls.change, total, "each call has changed once");
    }
}
