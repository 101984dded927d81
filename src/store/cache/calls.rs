//! Records of calls that were appended last.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::generations::Generations;
use crate::model::limits::{RECENT_CALL_BYTES_MAX, RECENT_CALLS_MAX};
use crate::model::{Call, CallId, ContentKind, Outcome};
use crate::store::Append;

/// The records.
#[derive(Debug)]
pub(super) struct CallCache(Mutex<CallCacheState>);

#[derive(Debug)]
struct CallCacheState {
    known: Generations<CallId, Arc<Call>>,
    /// CallCache that appends under way touch.
    touched: HashMap<CallId, Touched>,
    /// How often everything was forgotten: what was under way then isn't remembered.
    clears: u64,
}

#[derive(Debug, Default)]
struct Touched {
    /// By how many appends.
    count: usize,
    /// The newest revision that one of them has made durable.
    revision: u64,
}

/// What a call that is deleted has for a revision: none is newer.
const DELETED: u64 = u64::MAX;

/// What an append will have changed once it is durable. Dropped without that, it leaves the calls
/// forgotten.
#[derive(Debug)]
pub(super) struct PendingCalls<'a> {
    calls: &'a CallCache,
    /// All that the append touches, with the revisions that it makes.
    touched: Vec<(CallId, u64)>,
    /// Those that are worth remembering.
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

    /// Forgets what the append touches.
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
        // What a panic left behind is whole: a map of records that are each true.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PendingCalls<'_> {
    /// The append is durable. What another one touches that is still under way isn't remembered:
    /// that one may be durable, too, and have been seen.
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

/// About how much of memory its variable parts take.
fn weight_bytes(call: &Call) -> usize {
    let outcome = match &call.outcome {
        Some(Outcome::Result(result)) => {
            let content = result.content.iter().map(|content| match &content.kind {
                // Its size isn't known without writing it.
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
