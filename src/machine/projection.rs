//! The projection of a session's log that decisions need.

use std::collections::HashMap;
use std::time::Duration;

use crate::model::{Call, CallId, RunOwner, Session, State, ToolKind};

/// The part of the server that decisions depend on: durations of its configuration, and the owner of
/// its runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// The time between TERM and KILL, unless a request says otherwise.
    pub grace: Duration,
    /// The time for which finished calls are kept.
    pub retention: Duration,
    /// Half of the longest pause between the first and the second attempt to deliver a follow-up.
    pub follow_up_delay: Duration,
    /// The owner of the processes that are started now, or `None` if they end with this server.
    pub run_owner: Option<RunOwner>,
}

impl Settings {
    /// Returns the owner of the run of a call, if it is under way and outlives this server.
    pub(super) fn owner_of(&self, call: &Call) -> Option<RunOwner> {
        let is_command = call.kind == ToolKind::Command && call.state == State::Running;
        self.run_owner.filter(|_| is_command)
    }
}

/// A session and its live calls.
///
/// Finished calls are only in the store. So neither the size of a projection nor the cost of a
/// decision grows with the session's history.
#[derive(Debug, Clone, PartialEq)]
pub struct Projection {
    /// The session.
    pub session: Session,
    /// The settings of the server.
    pub settings: Settings,
    /// Boxed, because records are large and a hash table has unused entries.
    pub(super) live: HashMap<CallId, Box<Call>>,
    pub(super) pending: usize,
}

impl Projection {
    /// Creates the projection of a session with these live calls.
    pub fn new(session: Session, live: Vec<Call>, settings: Settings) -> Self {
        let pending = live.iter().filter(|call| call.state == State::Pending).count();
        let live = live.into_iter().map(|call| (call.id, Box::new(call))).collect();
        Self { session, settings, live, pending }
    }

    /// Returns a live call, or `None` if no live call has this id.
    pub fn call(&self, id: CallId) -> Option<&Call> {
        self.live.get(&id).map(Box::as_ref)
    }

    /// Returns the live calls in no particular order.
    pub fn live_calls(&self) -> impl Iterator<Item = &Call> + Clone {
        self.live.values().map(Box::as_ref)
    }

    /// Returns `true` if no call is live.
    pub fn is_idle(&self) -> bool {
        self.live.is_empty()
    }

    /// Returns the pending calls that nothing blocks once `ended` have ended, oldest first.
    pub(super) fn released_by(&self, ended: &[CallId]) -> Vec<CallId> {
        if self.pending == 0 {
            return Vec::new();
        }
        let mut free: Vec<&Call> = self
            .live_calls()
            .filter(|call| call.state == State::Pending && !ended.contains(&call.id))
            .filter(|call| !self.is_blocked(call, ended))
            .collect();
        free.sort_by_key(|call| call.accept_sequence);
        free.into_iter().map(|call| call.id).collect()
    }

    /// Returns `true` if an older live call that isn't in `ended` blocks the run of `call`.
    pub(super) fn is_blocked(&self, call: &Call, ended: &[CallId]) -> bool {
        let policy = &call.policy;
        if !policy.exclusive && !policy.queued {
            return false;
        }
        self.live_calls().any(|other| {
            other.id != call.id
                && !ended.contains(&other.id)
                && other.accept_sequence < call.accept_sequence
                && ((policy.exclusive && other.tool == call.tool)
                    || (policy.queued
                        && other.park_time.is_some_and(|time| time <= call.create_time)))
        })
    }
}
