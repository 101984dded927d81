//! Texts of a server that are of no use: counted, and logged at a bounded rate.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use crate::telemetry::{LogRate, Metrics};

/// The unreadable texts of one connection.
#[derive(Clone)]
pub(super) struct Unreadable(Arc<Inner>);

struct Inner {
    server: String,
    metrics: Metrics,
    rate: Mutex<LogRate>,
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

impl Drop for Inner {
    fn drop(&mut self) {
        let silent = self.rate.get_mut().unwrap_or_else(PoisonError::into_inner).silent();
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
