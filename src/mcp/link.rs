//! A server that is there: what is asked of it, until it is gone.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rmcp::service::{Peer, RoleClient, RunningService};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::config::ServerConfig;
use super::handler::Handler;
use super::hearing::Hearing;
use super::news::listen;
use super::offer::offer;
use crate::exec::{Fault, LastLines, PeerLife, exit_words};
use crate::model::Exit;
use crate::tool::Offer;

/// How long what a process has said last may take to be read once it has ended, and how long a
/// connection may take to close.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(1);

/// A server that is there.
pub(super) struct Link {
    pub(super) config: Arc<ServerConfig>,
    pub(super) peer: Peer<RoleClient>,
    pub(super) handler: Handler,
    pub(super) hearing: Hearing,
    /// The connection is of no use any more: why.
    fault: Fault,
    gone: CancellationToken,
    /// What it offered when it was asked last. Held while it is asked again.
    offer: Mutex<Arc<Offer>>,
    /// It is gone.
    closed: CancellationToken,
    why: OnceLock<String>,
}

/// What becomes of a link once it is made.
pub(super) struct Running {
    pub(super) service: RunningService<RoleClient, Handler>,
    pub(super) hearing: Hearing,
    /// It will say nothing more.
    pub(super) gone: CancellationToken,
    /// Of a server that is a process.
    pub(super) life: Option<PeerLife>,
    pub(super) fault: Fault,
    pub(super) last_lines: LastLines,
}

impl Link {
    /// A link to a server whose tools aren't known yet.
    pub(super) fn new(config: &Arc<ServerConfig>, running: &Running) -> Arc<Self> {
        let handler = running.service.service().clone();
        handler.note_tools_changed();
        Arc::new(Self {
            config: config.clone(),
            peer: running.service.peer().clone(),
            handler,
            hearing: running.hearing.clone(),
            fault: running.fault.clone(),
            gone: running.gone.clone(),
            offer: Mutex::default(),
            closed: CancellationToken::new(),
            why: OnceLock::new(),
        })
    }

    /// The connection is of no use any more, for this reason if there is no better one: the server
    /// is ended, and another one may be started.
    pub(super) fn give_up(&self, reason: &str) {
        self.fault.note(reason.to_owned());
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
    pub(super) async fn offer(self: &Arc<Self>) -> Result<Arc<Offer>, String> {
        // Held over the question: the answer is waited for by all who ask.
        let mut offered = self.offer.lock().await;
        if let Some(question) = self.handler.question() {
            let asking = offer(&self.peer, &self.config, Arc::downgrade(self));
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
    pub(super) async fn keep(self: Arc<Self>, running: Running, closing: CancellationToken) {
        let Running { service, life, last_lines, gone, .. } = running;
        let stop = service.cancellation_token();
        let mut quit = Box::pin(service.waiting());
        let listening = listen(&self.peer, &self.handler);
        let (reason, is_quit) = tokio::select! {
            // A process that has ended says more than its silence.
            biased;
            exit = ended(life.as_ref()) => {
                let is_quit = timeout(LAST_WORDS, &mut quit).await.is_ok();
                (format!("it ended with {}{}", exit_words(exit), last_lines.told()), is_quit)
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

impl Link {
    /// Why a server says nothing more. One that has a fault of its own isn't waited for; another one
    /// is probably about to end, and how it does is worth a moment.
    async fn parting(&self, life: Option<&PeerLife>, last_lines: &LastLines) -> String {
        if let Some(fault) = self.fault.get() {
            return fault;
        }
        match timeout(LAST_WORDS, ended(life)).await {
            Ok(exit) => format!("it ended with {}{}", exit_words(exit), last_lines.told()),
            Err(_) => "it closed the connection".to_owned(),
        }
    }
}

/// A sentence about what a server did wrong.
pub(super) fn blame(server: &str, reason: &str) -> String {
    format!("the MCP server `{server}` failed: {reason}")
}

async fn ended(life: Option<&PeerLife>) -> Exit {
    match life {
        Some(life) => life.ended().await,
        None => std::future::pending().await,
    }
}
