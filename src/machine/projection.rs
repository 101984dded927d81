//! What the log of a session adds up to, as far as decisions need it.

use std::collections::HashMap;
use std::time::Duration;

use crate::model::{Call, CallId, Session, State};

/// Spans that the machine uses, from the server's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// From TERM to KILL where nobody said otherwise.
    pub grace: Duration,
    /// How long finished calls are kept.
    pub retention: Duration,
    /// Half of what lies between the first attempt at delivering a follow-up and the second, at most.
    pub follow_up_delay: Duration,
}

/// A session and its live calls. Finished calls are in the store only, so the size of a
/// projection, and the cost of a decision, doesn't grow with the session's history.
#[derive(Debug, Clone, PartialEq)]
pub struct Projection {
    /// The session.
    pub session: Session,
    /// Spans from the configuration.
    pub settings: Settings,
    /// A record is large, and a table has room for more than it holds.
    pub(super) live: HashMap<CallId, Box<Call>>,
    pub(super) pending: usize,
}

impl Projection {
    /// The projection of a session that holds these live calls.
    pub fn new(session: Session, live: Vec<Call>, settings: Settings) -> Self {
        let pending = live.iter().filter(|call| call.state == State::Pending).count();
        let live = live.into_iter().map(|call| (call.id, Box::new(call))).collect();
        Self { session, settings, live, pending }
    }

    /// A call that hasn't ended.
    pub fn call(&self, id: CallId) -> Option<&Call> {
        self.live.get(&id).map(Box::as_ref)
    }

    /// Calls that haven't ended, in no order.
    pub fn live_calls(&self) -> impl Iterator<Item = &Call> + Clone {
        self.live.values().map(Box::as_ref)
    }

    /// No call is live.
    pub fn is_idle(&self) -> bool {
        self.live.is_empty()
    }

    /// Calls that are waiting for their turn and may have it now, oldest first, in a session
    /// from which `ended` are going.
    pub(super) fn released_by(&self, ended: &[CallId]) -> Vec<CallId> {
        if self.pending == 0 {
            return Vec::new();
        }
        let mut free: Vec<&Call> = self
            .live_calls()
            .filter(|call| call.state == State::Pending && !ended.contains(&call.id))
            .filter(|call| !self.is_blocked(call, ended))
            .collect();
        free.sort_by_key(|call| call.start_sequence);
        free.into_iter().map(|call| call.id).collect()
    }

    /// An older call that `call` must not run beside is live, those in `ended` aside.
    pub(super) fn is_blocked(&self, call: &Call, ended: &[CallId]) -> bool {
        let policy = &call.policy;
        if !policy.exclusive && !policy.queued {
            return false;
        }
        self.live_calls().any(|other| {
            other.id != call.id
                && !ended.contains(&other.id)
                && other.start_sequence < call.start_sequence
                && ((policy.exclusive && other.tool == call.tool)
                    || (policy.queued
                        && other.park_time.is_some_and(|time| time <= call.create_time)))
        })
    }
}
