//! The client's side of a connection: its name, its capabilities, and the mark of a stale catalog.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rmcp::ClientHandler;
use rmcp::model::{
    ClientCapabilities, ClientConfig, Implementation, JsonObject, ProtocolVersion,
    TASKS_EXTENSION_ID,
};
use rmcp::service::{NotificationContext, RoleClient};

/// The handler of one connection. It knows whether the catalog is stale.
#[derive(Clone, Default)]
pub(super) struct McpClientHandler(Arc<AtomicBool>);

impl McpClientHandler {
    /// Returns a refresh to carry out, or `None` if the catalog is up to date.
    pub(super) fn take_refresh(&self) -> Option<CatalogRefresh<'_>> {
        // Made only if there is one: a refresh that is dropped marks the catalog as stale.
        self.0.swap(false, Ordering::Relaxed).then(|| CatalogRefresh { handler: self })
    }

    /// Marks the catalog as stale.
    pub(super) fn mark_stale(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A refresh of the catalog that is under way. If it is dropped, the catalog stays stale.
pub(super) struct CatalogRefresh<'a> {
    handler: &'a McpClientHandler,
}

impl CatalogRefresh<'_> {
    /// Ends a refresh that succeeded. A change since its begin keeps the catalog stale.
    pub(super) fn complete(self) {
        std::mem::forget(self);
    }
}

impl Drop for CatalogRefresh<'_> {
    fn drop(&mut self) {
        self.handler.mark_stale();
    }
}

impl ClientHandler for McpClientHandler {
    async fn on_tool_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.mark_stale();
    }

    fn get_info(&self) -> ClientConfig {
        let (capabilities, information) = client_info();
        ClientConfig::new(capabilities, information)
            .with_protocol_version(ProtocolVersion::LATEST_WITH_INITIALIZE)
    }
}

/// Returns the capabilities and the name of callpark as a client.
pub(super) fn client_info() -> (ClientCapabilities, Implementation) {
    // A server answers with the handle of a task only to a client that supports tasks.
    let tasks = (TASKS_EXTENSION_ID.to_owned(), JsonObject::new());
    let mut capabilities = ClientCapabilities::default();
    capabilities.extensions = Some([tasks].into());
    (capabilities, Implementation::new("callpark", env!("CARGO_PKG_VERSION")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refresh_stays_due_until_it_is_completed() {
        let handler = McpClientHandler::default();
        assert!(handler.take_refresh().is_none(), "nothing has changed");
        assert!(handler.take_refresh().is_none(), "to ask changes nothing");
        handler.mark_stale();
        // The request was given up.
        drop(handler.take_refresh().expect("a refresh"));
        let refresh = handler.take_refresh().expect("still due");
        handler.mark_stale();
        refresh.complete();
        handler.take_refresh().expect("another change").complete();
        assert!(handler.take_refresh().is_none());
    }
}
