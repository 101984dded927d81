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
pub(super) struct McpClientHandler(Arc<AtomicBool>);

impl McpClientHandler {
    /// A question for the tools, if they have changed since the last one that was answered.
    pub(super) fn question(&self) -> Option<CatalogRefresh<'_>> {
        self.0.swap(false, Ordering::Relaxed).then_some(CatalogRefresh { handler: self })
    }

    /// The tools have changed, or aren't known.
    pub(super) fn note_tools_changed(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A question for the tools. One that is dropped without an answer is asked again by the next one.
pub(super) struct CatalogRefresh<'a> {
    handler: &'a McpClientHandler,
}

impl CatalogRefresh<'_> {
    /// The tools are known, but for what has changed since it was asked.
    pub(super) fn answered(self) {
        std::mem::forget(self);
    }
}

impl Drop for CatalogRefresh<'_> {
    fn drop(&mut self) {
        self.handler.note_tools_changed();
    }
}

impl ClientHandler for McpClientHandler {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_asked_until_it_is_answered() {
        let handler = McpClientHandler::default();
        assert!(handler.question().is_none(), "nothing has changed");
        handler.note_tools_changed();
        // Whoever asked has stopped waiting.
        drop(handler.question().expect("a question"));
        let question = handler.question().expect("it is still open");
        handler.note_tools_changed();
        question.answered();
        handler.question().expect("another change").answered();
        assert!(handler.question().is_none());
    }
}
