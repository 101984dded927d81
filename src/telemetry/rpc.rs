//! The metrics of one RPC method.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metrics::{Counter, Histogram};

use super::name;
use super::registry::MetricRegistry;

/// The names of the gRPC status codes, by number.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];
/// The number of UNKNOWN, which also stands for numbers that gRPC doesn't define.
const UNKNOWN: usize = 2;

/// The metrics of one method.
pub struct RpcMetrics {
    method: Arc<str>,
    registry: MetricRegistry,
    /// Registered at the first use, because most methods return few of the codes.
    requests: [OnceLock<Counter>; CODES.len()],
    seconds: Histogram,
}

impl RpcMetrics {
    pub(super) fn new(registry: &MetricRegistry, method: &str) -> Self {
        Self {
            method: method.into(),
            registry: registry.clone(),
            requests: [const { OnceLock::new() }; CODES.len()],
            seconds: registry.histogram(name::RPC_SECONDS, &[("method", method)]),
        }
    }

    /// Returns the name of a gRPC code.
    pub fn code_name(code: i32) -> &'static str {
        CODES[index(code)]
    }

    /// Counts a request that ended with this gRPC code, `elapsed` after its head had arrived. Numbers
    /// outside of 0 to 16 count as UNKNOWN.
    pub fn finished(&self, code: i32, elapsed: Duration) {
        let code = index(code);
        self.requests[code]
            .get_or_init(|| {
                let labels = [("method", &*self.method), ("code", CODES[code])];
                self.registry.counter(name::RPC_REQUESTS, &labels)
            })
            .increment(1);
        self.seconds.record(elapsed);
    }
}

/// Returns the index of a code among the names.
fn index(code: i32) -> usize {
    usize::try_from(code).ok().filter(|code| *code < CODES.len()).unwrap_or(UNKNOWN)
}
