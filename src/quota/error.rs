//! The errors of limits.

use std::time::Duration;

use crate::model::Tenant;
use crate::telemetry::TenantLimit;

/// The error of a tenant that has reached a limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("tenant `{tenant}` has reached its limit of {}; {}", describe(*.limit, .maximum), advice(*.limit))]
pub struct Exceeded {
    /// The tenant.
    pub tenant: Tenant,
    /// The limit.
    pub limit: TenantLimit,
    /// The value of the limit, as it is configured.
    pub maximum: String,
    /// The time after which the same request may pass.
    pub retry_after: Duration,
}

impl Exceeded {
    /// Returns the limit in words, such as `50 calls that have not ended (max_live_calls)`.
    pub fn description(&self) -> String {
        describe(self.limit, &self.maximum)
    }
}

fn describe(limit: TenantLimit, maximum: &str) -> String {
    let unit = match limit {
        TenantLimit::StartsPerSecond => "requests per second that start something",
        TenantLimit::RequestsPerSecond => "requests per second",
        TenantLimit::Streams => "open streams",
        TenantLimit::LiveCalls => "calls and turns that have not ended",
        TenantLimit::RunningCalls => "running calls",
        TenantLimit::OpenSessions => "open sessions",
    };
    format!("{maximum} {unit} ({limit})")
}

fn advice(limit: TenantLimit) -> &'static str {
    match limit {
        TenantLimit::StartsPerSecond | TenantLimit::RequestsPerSecond => "repeat the request later",
        TenantLimit::Streams => "end some, or repeat the request later",
        TenantLimit::LiveCalls | TenantLimit::RunningCalls => {
            "cancel some, or repeat the request when some have ended"
        }
        TenantLimit::OpenSessions => "close some that are not used any more",
    }
}
