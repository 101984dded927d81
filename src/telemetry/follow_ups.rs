//! The metrics of follow-ups.

use metrics::Counter;

use super::name;
use super::registry::MetricRegistry;
use crate::model::FollowUpState;

/// The counters of follow-ups by outcome.
pub struct FollowUpMetrics {
    scheduled: Counter,
    delivered: Counter,
    suppressed: Counter,
    dead_lettered: Counter,
    failed: Counter,
}

impl FollowUpMetrics {
    pub(super) fn new(registry: &MetricRegistry) -> Self {
        let outcome = |outcome| registry.counter(name::FOLLOW_UPS, &[("outcome", outcome)]);
        Self {
            scheduled: outcome("scheduled"),
            delivered: outcome("delivered"),
            suppressed: outcome("suppressed"),
            dead_lettered: outcome("dead_lettered"),
            failed: outcome("failed"),
        }
    }

    /// Counts a follow-up that was scheduled, whose attempt failed, or that has reached `state`.
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
}
