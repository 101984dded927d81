//! A server that is there: what is asked of it, until it is gone.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rmcp::service::{Peer, RoleClient, RunningService};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::catalog::fetch_catalog;
use super::config::ServerConfig;
use super::handler::McpClientHandler;
use super::notifications::Notifications;
use super::subscriptions::listen;
use crate::exec::{FirstError, LastLines, ProcessLife, describe_exit};
use crate::model::Exit;
use crate::tool::Catalog;

/// How long what a process has said last may take to be read once it has ended, and how long a
/// connection may take to close.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(1);

/// A server that is there.
pub(super) struct ServerConnection {
    pub(super) config: Arc<ServerConfig>,
    pub(super) peer: Peer<RoleClient>,
    pub(super) handler: McpClientHandler,
    pub(super) notifications: Notifications,
    /// The connection is of no use any more: why.
    first_error: FirstError,
    gone: CancellationToken,
    /// What it offered when it was asked last. Held while it is asked again.
    catalog: Mutex<Arc<Catalog>>,
    /// It is gone.
    closed: CancellationToken,
    why: OnceLock<String>,
}

/// What becomes of a connection once it is made.
pub(super) struct ConnectionParts {
    pub(super) service: RunningService<RoleClient, McpClientHandler>,
    pub(super) notifications: Notifications,
    /// It will say nothing more.
    pub(super) gone: CancellationToken,
    /// Of a server that is a process.
    pub(super) life: Option<ProcessLife>,
    pub(super) first_error: FirstError,
    pub(super) last_lines: LastLines,
}

impl ServerConnection {
    /// A connection to a server whose tools aren't known yet.
    pub(super) fn new(config: &Arc<ServerConfig>, running: &ConnectionParts) -> Arc<Self> {
        let handler = running.service.service().clone();
        handler.note_tools_changed();
        Arc::new(Self {
            config: config.clone(),
            peer: running.service.peer().clone(),
            handler,
            notifications: running.notifications.clone(),
            first_error: running.first_error.clone(),
            gone: running.gone.clone(),
            catalog: Mutex::default(),
            closed: CancellationToken::new(),
            why: OnceLock::new(),
        })
    }

    /// The connection is of no use any more, for this reason if there is no better one: the server
    /// is ended, and another one may be started.
    pub(super) fn give_up(&self, reason: &str) {
        self.first_error.note(reason.to_owned());
        self.gone.cancel();
    }

    /// The server is gone.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// Waits until the server is gone: why it is.
    pub(super) async fn closed(&self) -> &str {
        self.closed.cancelled().await;
        self.why()
    }

    /// Why it is gone.
    pub(super) fn why(&self) -> &str {
        self.why.get().map_or("it is gone", String::as_str)
    }

    /// Does something with the server as long as it is there.
    pub(super) async fn while_there<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.closed.run_until_cancelled(work).await
    }

    /// What the server offers, asked again where it has said that it has changed.
    pub(super) async fn catalog(self: &Arc<Self>) -> Result<Arc<Catalog>, String> {
        // Held over the question: the answer is waited for by all who ask.
        let mut offered = self.catalog.lock().await;
        if let Some(question) = self.handler.question() {
            let asking = fetch_catalog(&self.peer, &self.config, Arc::downgrade(self));
            let asking = timeout(self.config.start_timeout(), asking);
            let asked = asking.await.unwrap_or_else(|_| {
                Err(format!("it didn't list its tools in {:?}", self.config.start_timeout()))
            });
            *offered = Arc::new(asked.map_err(|reason| self.blame(&reason))?);
            question.answered();
        }
        Ok(offered.clone())
    }

    /// A sentence about what the server did wrong.
    pub(super) fn blame(&self, reason: &str) -> String {
        blame(&self.config.name, reason)
    }

    /// Holds the server until it ends, or until nobody wants it any more.
    pub(super) async fn keep(
        self: Arc<Self>,
        running: ConnectionParts,
        closing: CancellationToken,
    ) {
        let ConnectionParts { service, life, last_lines, gone, .. } = running;
        let stop = service.cancellation_token();
        let mut quit = Box::pin(service.waiting());
        let listening = listen(&self.peer, &self.handler);
        let (reason, is_quit) = tokio::select! {
            // A process that has ended says more than its silence.
            biased;
            exit = ended(life.as_ref()) => {
                let is_quit = timeout(LAST_WORDS, &mut quit).await.is_ok();
                (format!("it ended with {}{}", describe_exit(exit), last_lines.suffix()), is_quit)
            }
            _ = &mut quit => (self.parting(life.as_ref(), &last_lines).await, true),
            () = gone.cancelled() => (self.parting(life.as_ref(), &last_lines).await, false),
            () = closing.cancelled() => ("callpark stops".to_owned(), false),
            never = listening => match never {},
        };
        if !closing.is_cancelled() {
            tracing::warn!(server = self.config.name, reason, "an MCP server is gone");
        }
        // Nobody else sets it.
        let _ = self.why.set(reason);
        self.closed.cancel();
        if !is_quit {
            stop.cancel();
            // Its end closes what the process reads.
            let _closed = timeout(LAST_WORDS, &mut quit).await;
        }
        drop(quit);
        if let Some(life) = life {
            life.end().await;
        }
    }
}

impl ServerConnection {
    /// Why a server says nothing more. One that has a fault of its own isn't waited for; another one
    /// is probably about to end, and how it does is worth a moment.
    async fn parting(&self, life: Option<&ProcessLife>, last_lines: &LastLines) -> String {
        if let Some(error) = self.first_error.get() {
            return error;
        }
        match timeout(LAST_WORDS, ended(life)).await {
            Ok(exit) => format!("it ended with {}{}", describe_exit(exit), last_lines.suffix()),
            Err(_) => "it closed the connection".to_owned(),
        }
    }
}

/// A sentence about what a server did wrong.
pub(super) fn blame(server: &str, reason: &str) -> String {
    format!("the MCP server `{server}` failed: {reason}")
}

async fn ended(life: Option<&ProcessLife>) -> Exit {
    match life {
        Some(life) => life.ended().await,
        None => std::future::pending().await,
    }
}
