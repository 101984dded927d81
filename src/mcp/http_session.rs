//! The session of the MCP protocol with a server at a URL, which can be begun again.

use std::sync::Arc;
use std::time::Instant;

use rmcp::model::{ClientJsonRpcMessage, ClientNotification, ClientRequest, JsonRpcMessage};
use tokio::sync::{Mutex, watch};

use super::http_request::Headers;

/// The session of one connection. rmcp knows the first one only: requests that are under way in an
/// earlier one go on when it is begun again.
pub(super) struct HttpSession {
    current: watch::Sender<Option<Arc<str>>>,
    /// Locked while the session is begun again.
    pub(super) beginning: Mutex<Beginning>,
}

/// The messages with which a session begins, and the last attempt to begin it again.
#[derive(Default)]
pub(super) struct Beginning {
    pub(super) initialize: Option<Sent>,
    pub(super) initialized: Option<Sent>,
    /// The end of the last attempt that failed, and the reason. Requests that waited for the attempt
    /// fail with it: one attempt each would add up to a long time.
    pub(super) failure: Option<(Instant, String)>,
}

/// A message as it was sent.
#[derive(Clone)]
pub(super) struct Sent {
    pub(super) message: ClientJsonRpcMessage,
    pub(super) headers: Headers,
}

impl HttpSession {
    pub(super) fn new() -> Self {
        Self { current: watch::Sender::new(None), beginning: Mutex::default() }
    }

    /// Takes note of a message if a session begins with it.
    pub(super) async fn sent(&self, message: &ClientJsonRpcMessage, headers: &Headers) {
        let sent = || Some(Sent { message: message.clone(), headers: headers.clone() });
        match message {
            JsonRpcMessage::Request(request)
                if matches!(request.request, ClientRequest::InitializeRequest(_)) =>
            {
                self.beginning.lock().await.initialize = sent();
            }
            JsonRpcMessage::Notification(notification)
                if matches!(
                    notification.notification,
                    ClientNotification::InitializedNotification(_)
                ) =>
            {
                self.beginning.lock().await.initialized = sent();
            }
            _ => {}
        }
    }

    pub(super) fn begin(&self, id: Option<&str>) {
        self.current.send_replace(id.map(Arc::from));
    }

    pub(super) fn current(&self) -> Option<Arc<str>> {
        self.current.borrow().clone()
    }

    /// Returns a receiver of the sessions after the current one.
    pub(super) fn changes(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.current.subscribe()
    }
}
