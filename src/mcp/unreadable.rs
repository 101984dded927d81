//! Texts of a server that are of no use: counted, and logged at a bounded rate.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::telemetry::Metrics;

/// The span in which at most [`LOGGED_MAX`] texts are logged.
const SPAN: Duration = Duration::from_secs(60);
const LOGGED_MAX: u64 = 5;

/// The unreadable texts of one connection.
#[derive(Clone)]
pub(super) struct Unreadable(Arc<Inner>);

struct Inner {
    server: String,
    metrics: Metrics,
    rate: Mutex<Rate>,
}

#[derive(Default)]
struct Rate {
    /// The begin of the span, or `None` before the first text.
    since: Option<Instant>,
    logged: u64,
    /// The texts that were not logged since the last one that was.
    silent: u64,
}

impl Unreadable {
    pub(super) fn new(server: &str, metrics: &Metrics) -> Self {
        let (server, metrics) = (server.to_owned(), metrics.clone());
        Self(Arc::new(Inner { server, metrics, rate: Mutex::default() }))
    }

    /// Takes note of the reasons why texts are of no use.
    pub(super) fn note(&self, reasons: Vec<String>) {
        let Inner { server, metrics, rate } = &*self.0;
        for text in reasons {
            metrics.mcp_unreadable(server);
            let silent = rate.lock().unwrap_or_else(PoisonError::into_inner).next(Instant::now());
            if let Some(silent) = silent {
                tracing::warn!(
                    server,
                    text,
                    not_logged_before = silent,
                    "an MCP server has sent a text that is of no use"
                );
            }
        }
    }
}

impl Rate {
    /// Counts a text. Returns the number of silent ones before it if this one is logged.
    fn next(&mut self, now: Instant) -> Option<u64> {
        if self.since.is_none_or(|since| now.duration_since(since) >= SPAN) {
            (self.since, self.logged) = (Some(now), 0);
        }
        if self.logged == LOGGED_MAX {
            self.silent += 1;
            return None;
        }
        self.logged += 1;
        Some(std::mem::take(&mut self.silent))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let silent = self.rate.get_mut().unwrap_or_else(PoisonError::into_inner).silent;
        if silent > 0 {
            let server = &self.server;
            tracing::warn!(
                server,
                silent,
                "texts of an MCP server that are of no use were not logged"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_texts_of_a_span_are_logged_and_the_others_are_counted() {
        let begin = Instant::now();
        let mut rate = Rate::default();
        let logged = (0..100).filter_map(|_| rate.next(begin)).count() as u64;
        assert_eq!((logged, rate.silent), (LOGGED_MAX, 100 - LOGGED_MAX));
        assert_eq!(rate.next(begin + SPAN), Some(100 - LOGGED_MAX));
        assert_eq!(rate.next(begin + SPAN), Some(0));
    }
}
