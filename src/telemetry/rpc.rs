//! What is counted of one method.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metrics::{Counter, Histogram};

use super::metrics::Registry;
use super::name;

/// The codes of gRPC, by their number.
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
/// The number of UNKNOWN, which also takes numbers that gRPC doesn't have.
const UNKNOWN: usize = 2;

/// The counters of one method. Keep it beside the method: it needs no look-up.
pub struct RpcMetrics {
    method: Arc<str>,
    registry: Registry,
    /// Registered at the first use: most methods meet few of the codes, and a page of zeros
    /// helps nobody.
    requests: [OnceLock<Counter>; CODES.len()],
    seconds: Histogram,
}

impl RpcMetrics {
    pub(super) fn new(registry: &Registry, method: &str) -> Self {
        Self {
            method: method.into(),
            registry: registry.clone(),
            requests: [const { OnceLock::new() }; CODES.len()],
            seconds: registry.histogram(name::RPC_SECONDS, &[("method", method)]),
        }
    }

    /// A request ended with this code of gRPC (0 to 16; others count as UNKNOWN), `elapsed` after
    /// its head had come.
    pub fn finished(&self, code: i32, elapsed: Duration) {
        let code = usize::try_from(code).ok().filter(|code| *code < CODES.len()).unwrap_or(UNKNOWN);
        self.requests[code]
            .get_or_init(|| {
                let labels = [("method", &*self.method), ("code", CODES[code])];
                self.registry.counter(name::RPC_REQUESTS, &labels)
            })
            .increment(1);
        self.seconds.record(elapsed);
    }
}
