//! The history of a run, as its clients have seen it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use callpark::model::{Call, CallId, FollowUpPolicy, SessionId};

/// A request for a call.
#[derive(Debug, Clone)]
pub struct Request {
    /// The request id, which is the mark of its work, too.
    pub key: String,
    pub tool: &'static str,
    pub follow_up: FollowUpPolicy,
}

/// All that clients were answered.
#[derive(Debug, Clone, Default)]
pub struct History {
    pub requests: Vec<Request>,
    /// The calls that were answered for each request id.
    pub accepted: BTreeMap<String, BTreeSet<CallId>>,
    /// The sessions that were answered for each request id.
    pub sessions: BTreeMap<String, BTreeSet<SessionId>>,
    /// Records of calls that have ended.
    pub seen: Vec<Call>,
    pub closed: BTreeSet<SessionId>,
    /// The numbers of acknowledgements that had an effect.
    pub acknowledged: BTreeMap<CallId, usize>,
    /// The events that readers got.
    pub read: Vec<(SessionId, Vec<Bytes>)>,
    /// Answers that no client may get.
    pub wrong: Vec<String>,
    /// Requests that an engine passed on to another one.
    pub forwarded: usize,
}

/// The history that clients write.
#[derive(Default)]
pub struct Chronicle(Mutex<History>);

impl Chronicle {
    fn lock(&self) -> MutexGuard<'_, History> {
        self.0.lock().expect("no panic")
    }

    pub fn history(&self) -> History {
        self.lock().clone()
    }

    pub fn requested(&self, request: Request) {
        self.lock().requests.push(request);
    }

    pub fn accepted(&self, key: &str, call_id: CallId) {
        self.lock().accepted.entry(key.to_owned()).or_default().insert(call_id);
    }

    pub fn session(&self, key: &str, session_id: SessionId) {
        self.lock().sessions.entry(key.to_owned()).or_default().insert(session_id);
    }

    pub fn seen(&self, call: &Call) {
        self.lock().seen.push(call.clone());
    }

    pub fn closed(&self, session_id: SessionId) {
        self.lock().closed.insert(session_id);
    }

    pub fn acknowledged(&self, call_id: CallId, replayed: bool) {
        *self.lock().acknowledged.entry(call_id).or_default() += usize::from(!replayed);
    }

    pub fn read(&self, session_id: SessionId, events: Vec<Bytes>) {
        self.lock().read.push((session_id, events));
    }

    pub fn wrong(&self, answer: String) {
        self.lock().wrong.push(answer);
    }

    pub fn forwarded(&self) {
        self.lock().forwarded += 1;
    }
}
