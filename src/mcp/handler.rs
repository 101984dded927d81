//! What callpark says of itself, and what a server tells that concerns no call.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rmcp::ClientHandler;
use rmcp::model::{
    ClientCapabilities, ClientConfig, Implementation, JsonObject, ProtocolVersion,
    TASKS_EXTENSION_ID,
};
use rmcp::service::{NotificationContext, RoleClient};

/// The client's side of one connection.
#[derive(Clone, Default)]
pub(super) struct Handler(Arc<AtomicBool>);

impl Handler {
    /// Whether the tools have changed since this was asked last.
    pub(super) fn take_tools_changed(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }

    /// The tools have changed, or aren't known.
    pub(super) fn note_tools_changed(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl ClientHandler for Handler {
    async fn on_tool_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.note_tools_changed();
    }

    fn get_info(&self) -> ClientConfig {
        let (capabilities, information) = callpark();
        ClientConfig::new(capabilities, information)
            .with_protocol_version(ProtocolVersion::LATEST_WITH_INITIALIZE)
    }
}

/// What callpark understands, and its name.
pub(super) fn callpark() -> (ClientCapabilities, Implementation) {
    // A server answers with the handle of a task only to those who say that they understand it.
    let tasks = (TASKS_EXTENSION_ID.to_owned(), JsonObject::new());
    let mut capabilities = ClientCapabilities::default();
    capabilities.extensions = Some([tasks].into());
    (capabilities, Implementation::new("callpark", env!("CARGO_PKG_VERSION")))
}
