//! The metrics of limits per tenant.

use std::collections::HashMap;

use metrics::Counter;

use super::label::TenantLimit;
use super::name;
use super::registry::{MetricRegistry, by_value, increment};

/// The counters of what was refused because of a limit of a tenant. No label names the tenant: their number
/// has no bound.
pub struct QuotaMetrics {
    refused: HashMap<TenantLimit, Counter>,
}

impl QuotaMetrics {
    pub(super) fn new(registry: &MetricRegistry) -> Self {
        Self {
            refused: by_value(TenantLimit::ALL, |limit| {
                registry.counter(name::QUOTA_REFUSED, &[("limit", limit.as_str())])
            }),
        }
    }

    /// Counts a request, a call or a session that was refused.
    pub fn refused(&self, limit: TenantLimit) {
        increment(self.refused.get(&limit), 1);
    }
}
