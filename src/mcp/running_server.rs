//! A server that was started, with the catalog of its tools, which is kept until the server says that it has
//! changed. `tool_list` fetches it.

use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::connection::ServerConnection;
use super::tool_list;
use crate::tool::Catalog;

/// A server that was started, with the catalog of its tools.
pub(super) struct RunningServer {
    pub(super) connection: Arc<ServerConnection>,
    /// Locked while the catalog is fetched.
    known: Mutex<KnownCatalog>,
}

#[derive(Default)]
struct KnownCatalog {
    /// The catalog that was fetched last.
    catalog: Option<Arc<Catalog>>,
    /// The end of the last fetch and the reason, if it failed.
    failure: Option<(Instant, String)>,
}

impl RunningServer {
    /// Creates a server whose catalog is not known yet.
    pub(super) fn new(connection: Arc<ServerConnection>) -> Self {
        connection.handler.mark_stale();
        Self { connection, known: Mutex::default() }
    }

    /// Returns the catalog, fetched again if the server has said that it has changed. If that fails,
    /// it is the one from before, which says so.
    pub(super) async fn catalog(&self) -> Result<Arc<Catalog>, String> {
        let asked = Instant::now();
        // Held over the request: all callers wait for the same answer.
        let mut known = self.known.lock().await;
        // A failure is an answer, too: otherwise each of them would wait for one of its own.
        if let Some((ended, reason)) = &known.failure
            && asked < *ended
        {
            return self.catalog_before(known.catalog.as_ref(), reason);
        }
        let refresh = self.connection.handler.take_refresh();
        if let (None, Some(catalog)) = (&refresh, &known.catalog) {
            return Ok(catalog.clone());
        }
        let limit = self.connection.config.start_timeout();
        let fetched = timeout(limit, tool_list::fetch(&self.connection)).await;
        let fetched =
            fetched.unwrap_or_else(|_| Err(format!("it did not list its tools in {limit:?}")));
        let server = &self.connection.config.name;
        match fetched {
            Ok(fetched) => {
                // A server may say often that something has changed.
                let before = known.catalog.as_ref();
                let is_new = before.is_none_or(|before| before.left_out != fetched.left_out);
                if is_new && !fetched.left_out.is_empty() {
                    let left_out = fetched.left_out.join("; ");
                    tracing::warn!(server, left_out, "tools of an MCP server are left out");
                }
                let fetched = Arc::new(fetched);
                *known = KnownCatalog { catalog: Some(fetched.clone()), failure: None };
                if let Some(refresh) = refresh {
                    refresh.complete();
                }
                Ok(fetched)
            }
            Err(reason) => {
                let catalog = self.catalog_before(known.catalog.as_ref(), &reason);
                if catalog.is_ok() {
                    tracing::warn!(
                        server,
                        reason,
                        "the changed tools of an MCP server are not known"
                    );
                }
                known.failure = Some((Instant::now(), reason));
                catalog
            }
        }
    }

    /// Returns the catalog from before a fetch that failed. Fails if there is none, or if the server
    /// has ended.
    fn catalog_before(
        &self,
        known: Option<&Arc<Catalog>>,
        reason: &str,
    ) -> Result<Arc<Catalog>, String> {
        match known {
            Some(known) if !self.connection.is_closed() => Ok(Arc::new(outdated(known, reason))),
            Some(_) | None => Err(self.connection.error(reason)),
        }
    }
}

/// Returns a catalog that says that it may be outdated.
fn outdated(known: &Catalog, reason: &str) -> Catalog {
    let left_out = format!("what has changed since its tools were listed last: {reason}");
    let left_out = known.left_out.iter().cloned().chain([left_out]).collect();
    Catalog { registry: known.registry.clone(), left_out }
}
