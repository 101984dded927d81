//! What is counted of follow-ups.

use metrics::Counter;

use super::metrics::Registry;
use super::name;
use crate::model::FollowUpState;

/// Counts of what becomes of follow-ups.
pub struct FollowUpMetrics {
    scheduled: Counter,
    delivered: Counter,
    suppressed: Counter,
    dead_lettered: Counter,
    failed: Counter,
    unreadable: Counter,
}

impl FollowUpMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let outcome = |word| registry.counter(name::FOLLOW_UPS, &[("outcome", word)]);
        Self {
            scheduled: outcome("scheduled"),
            delivered: outcome("delivered"),
            suppressed: outcome("suppressed"),
            dead_lettered: outcome("dead_lettered"),
            failed: outcome("failed"),
            unreadable: registry.counter(name::FOLLOW_UPS_UNREADABLE, &[]),
        }
    }

    /// A follow-up was made, an attempt at it failed, or it has come to this state.
    pub fn changed(&self, is_new: bool, failed: bool, state: FollowUpState) {
        if is_new {
            self.scheduled.increment(1);
        }
        match state {
            FollowUpState::Delivered => self.delivered.increment(1),
            FollowUpState::Suppressed => self.suppressed.increment(1),
            FollowUpState::DeadLettered => self.dead_lettered.increment(1),
            FollowUpState::Pending if failed => self.failed.increment(1),
            FollowUpState::Pending | FollowUpState::Leased => {}
        }
    }

    /// A follow-up could not be read back.
    pub fn unreadable(&self) {
        self.unreadable.increment(1);
    }
}
