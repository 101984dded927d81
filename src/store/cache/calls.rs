//! The records of the calls that were appended last.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::generations::Generations;
use crate::model::limits::{RECENT_CALL_BYTES_MAX, RECENT_CALLS_MAX};
use crate::model::{Call, CallId, ContentKind, Outcome};
use crate::store::Append;

#[derive(Debug)]
pub(super) struct CallCache(Mutex<CallCacheState>);

#[derive(Debug)]
struct CallCacheState {
    known: Generations<CallId, Arc<Call>>,
    /// The calls that appends under way touch.
    touched: HashMap<CallId, Touched>,
    /// The number of times that the cache was cleared. Appends that were under way then add
    /// nothing.
    clears: u64,
}

#[derive(Debug, Default)]
struct Touched {
    /// The number of appends under way that touch the call.
    count: usize,
    /// The newest revision that one of them has made durable.
    revision: u64,
}

/// The revision of a deleted call: none is newer.
const DELETED: u64 = u64::MAX;

/// The calls that an append under way changes. If this is dropped before the append is durable, the
/// calls are not cached.
#[derive(Debug)]
pub(super) struct PendingCalls<'a> {
    calls: &'a CallCache,
    /// All calls that the append touches, with their new revisions.
    touched: Vec<(CallId, u64)>,
    /// The calls that are small enough to be cached.
    records: Vec<Arc<Call>>,
    clears: u64,
}

impl Default for CallCache {
    fn default() -> Self {
        let known = Generations::new(RECENT_CALLS_MAX / 2);
        Self(Mutex::new(CallCacheState { known, touched: HashMap::new(), clears: 0 }))
    }
}

impl CallCache {
    pub(super) fn get(&self, id: CallId) -> Option<Arc<Call>> {
        self.lock().known.get(&id).cloned()
    }

    /// Removes the calls that the append touches.
    pub(super) fn begin(&self, append: &Append) -> PendingCalls<'_> {
        let is_small = |call: &&Call| weight_bytes(call) <= RECENT_CALL_BYTES_MAX;
        let records = append.calls.iter().filter(is_small).cloned().map(Arc::new).collect();
        let changed = append.calls.iter().map(|call| (call.id, call.revision));
        let deleted = append.deleted_calls.iter().map(|id| (*id, DELETED));
        let touched: Vec<(CallId, u64)> = changed.chain(deleted).collect();
        let mut inner = self.lock();
        for (id, _) in &touched {
            inner.known.remove(id);
            inner.touched.entry(*id).or_default().count += 1;
        }
        PendingCalls { calls: self, touched, records, clears: inner.clears }
    }

    pub(super) fn clear(&self) {
        let mut inner = self.lock();
        inner.known.clear();
        inner.clears += 1;
    }

    fn lock(&self) -> MutexGuard<'_, CallCacheState> {
        // A panic leaves a map of records that are each correct.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PendingCalls<'_> {
    /// Adds the calls of an append that is durable. A call that another append under way touches is
    /// not added: that append may be durable as well, and its state may have been read.
    pub(super) fn complete(self) {
        let mut inner = self.calls.lock();
        for (id, revision) in &self.touched {
            if let Some(touched) = inner.touched.get_mut(id) {
                touched.revision = touched.revision.max(*revision);
            }
        }
        if inner.clears != self.clears {
            return;
        }
        for call in &self.records {
            let newest =
                |touched: &Touched| touched.count == 1 && touched.revision == call.revision;
            if inner.touched.get(&call.id).is_some_and(newest) {
                inner.known.insert(call.id, call.clone());
            }
        }
    }
}

impl Drop for PendingCalls<'_> {
    fn drop(&mut self) {
        let mut inner = self.calls.lock();
        for (id, _) in &self.touched {
            if let Some(touched) = inner.touched.get_mut(id) {
                touched.count -= 1;
                if touched.count == 0 {
                    inner.touched.remove(id);
                }
            }
        }
    }
}

/// Returns about how many bytes of memory the variable parts of a call take.
fn weight_bytes(call: &Call) -> usize {
    let outcome = match &call.outcome {
        Some(Outcome::Result(result)) => {
            let content = result.content.iter().map(|content| match &content.kind {
                // The size of JSON is not known without writing it.
                ContentKind::Json(_) => RECENT_CALL_BYTES_MAX,
                kind => kind.size_bytes(),
            });
            let structured = result.structured.as_ref().map_or(0, |_| RECENT_CALL_BYTES_MAX);
            content.sum::<usize>() + structured + result.error_message.len()
        }
        Some(Outcome::Failure(failure)) => failure.message.len(),
        None => 0,
    };
    outcome + call.description.len() + call.reason.len()
}
