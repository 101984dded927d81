//! The metrics of a replica.

use std::collections::HashMap;

use metrics::Counter;

use super::label::ForwardOutcome;
use super::name;
use super::registry::{MetricRegistry, by_value, increment};

/// The counters of a replica.
pub struct ReplicaMetrics {
    rpcs_forwarded: HashMap<ForwardOutcome, Counter>,
    leases_lost: Counter,
    sessions_taken_over: Counter,
}

impl ReplicaMetrics {
    pub(super) fn new(registry: &MetricRegistry) -> Self {
        Self {
            rpcs_forwarded: by_value(ForwardOutcome::ALL, |outcome| {
                registry.counter(name::RPC_FORWARDED, &[("outcome", outcome.as_str())])
            }),
            leases_lost: registry.counter(name::LEASES_LOST, &[]),
            sessions_taken_over: registry.counter(name::SESSIONS_TAKEN_OVER, &[]),
        }
    }

    /// Counts a request that was forwarded to another replica.
    pub fn rpc_forwarded(&self, outcome: ForwardOutcome) {
        increment(self.rpcs_forwarded.get(&outcome), 1);
    }

    /// Counts a loss of the lease of this replica.
    pub fn lease_lost(&self) {
        self.leases_lost.increment(1);
    }

    /// Counts sessions of replicas that are gone.
    pub fn sessions_taken_over(&self, sessions: usize) {
        self.sessions_taken_over.increment(sessions as u64);
    }
}
