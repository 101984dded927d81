//! Records of calls that were appended last.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::generations::Generations;
use crate::model::limits::{RECENT_CALL_BYTES_MAX, RECENT_CALLS_MAX};
use crate::model::{Call, CallId, ContentKind, Outcome};
use crate::store::Append;

/// The records.
#[derive(Debug)]
pub(super) struct Calls(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    known: Generations<CallId, Arc<Call>>,
    /// How often everything was forgotten: what was under way then isn't remembered.
    clears: u64,
}

/// What an append will have changed once it is durable.
#[derive(Debug)]
pub(super) struct Pending {
    calls: Vec<Arc<Call>>,
    clears: u64,
}

impl Default for Calls {
    fn default() -> Self {
        let known = Generations::new(RECENT_CALLS_MAX / 2);
        Self(Mutex::new(Inner { known, clears: 0 }))
    }
}

impl Calls {
    pub(super) fn get(&self, id: CallId) -> Option<Arc<Call>> {
        self.lock().known.get(&id).cloned()
    }

    /// Forgets what the append touches.
    pub(super) fn begin(&self, append: &Append) -> Pending {
        let is_small = |call: &&Call| weight_bytes(call) <= RECENT_CALL_BYTES_MAX;
        let calls = append.calls.iter().filter(is_small).cloned().map(Arc::new).collect();
        let mut inner = self.lock();
        for id in append.calls.iter().map(|call| call.id).chain(append.deleted_calls.clone()) {
            inner.known.remove(&id);
        }
        Pending { calls, clears: inner.clears }
    }

    /// The append is durable.
    pub(super) fn complete(&self, pending: Pending) {
        let mut inner = self.lock();
        if inner.clears != pending.clears {
            return;
        }
        for call in pending.calls {
            // A newer one was faster.
            if inner.known.get(&call.id).is_none_or(|known| known.revision <= call.revision) {
                inner.known.insert(call.id, call);
            }
        }
    }

    pub(super) fn clear(&self) {
        let mut inner = self.lock();
        inner.known.clear();
        inner.clears += 1;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // What a panic left behind is whole: a map of records that are each true.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// About how much of memory its variable parts take.
fn weight_bytes(call: &Call) -> usize {
    let outcome = match &call.outcome {
        Some(Outcome::Result(result)) => {
            let content = result.content.iter().map(|content| match &content.kind {
                ContentKind::Text(text) => text.len(),
                ContentKind::Image { data, .. } | ContentKind::Binary { data, .. } => data.len(),
                // Its size isn't known without writing it.
                ContentKind::Json(_) => RECENT_CALL_BYTES_MAX,
            });
            content.sum::<usize>() + result.error_message.len()
        }
        Some(Outcome::Failure(failure)) => failure.message.len(),
        None => 0,
    };
    outcome + call.description.len() + call.reason.len()
}
