//! The connection to a server, from its start to its end.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rmcp::service::{Peer, RoleClient, RunningService, ServiceError};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::config::ServerConfig;
use super::convert::{root_cause, service_error};
use super::handler::McpClientHandler;
use super::notifications::Notifications;
use super::subscriptions::follow_tool_changes;
use crate::exec::{FirstError, LastLines, ProcessLife, describe_exit};
use crate::model::Exit;

/// The timeout for reading the last lines of a process that has ended, and for closing a
/// connection.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The timeout for sending a cancellation.
pub(super) const CANCEL_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection that calls and requests share.
pub(super) struct ServerConnection {
    pub(super) config: Arc<ServerConfig>,
    pub(super) peer: Peer<RoleClient>,
    pub(super) handler: McpClientHandler,
    pub(super) notifications: Notifications,
    /// The reason why the connection is of no use any more.
    first_error: FirstError,
    /// Cancelled when the server will send nothing more.
    silent: CancellationToken,
    /// Cancelled when the connection is closed, after `close_reason` is set.
    closed: CancellationToken,
    close_reason: OnceLock<String>,
}

/// The parts of a new connection that only its keeper needs.
pub(super) struct ConnectionParts {
    pub(super) service: RunningService<RoleClient, McpClientHandler>,
    pub(super) notifications: Notifications,
    /// Cancelled when the server will send nothing more.
    pub(super) silent: CancellationToken,
    /// The process, or `None` if the server is at a URL.
    pub(super) life: Option<ProcessLife>,
    pub(super) first_error: FirstError,
    pub(super) last_lines: LastLines,
}

impl ServerConnection {
    pub(super) fn new(config: &Arc<ServerConfig>, parts: &ConnectionParts) -> Arc<Self> {
        Arc::new(Self {
            config: config.clone(),
            peer: parts.service.peer().clone(),
            handler: parts.service.service().clone(),
            notifications: parts.notifications.clone(),
            first_error: parts.first_error.clone(),
            silent: parts.silent.clone(),
            closed: CancellationToken::new(),
            close_reason: OnceLock::new(),
        })
    }

    /// Ends the server, for this reason unless there is an earlier one. Another one may be started
    /// afterwards.
    pub(super) fn give_up(&self, reason: &str) {
        self.first_error.record(reason.to_owned());
        self.silent.cancel();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// Waits until the connection is closed, and returns the reason.
    pub(super) async fn closed(&self) -> &str {
        self.closed.cancelled().await;
        self.close_reason()
    }

    pub(super) fn close_reason(&self) -> &str {
        self.close_reason.get().map_or("its connection is closed", String::as_str)
    }

    /// Runs `work` until the connection is closed. Returns `None` if that came first.
    pub(super) async fn until_closed<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.closed.run_until_cancelled(work).await
    }

    /// Returns the reason why a request was not answered. If the connection has failed, waits until
    /// it is closed.
    pub(super) async fn request_error(&self, error: &ServiceError) -> String {
        match error {
            ServiceError::TransportClosed if self.config.url.is_some() => {
                self.give_up("the connection is closed");
                self.closed().await.to_owned()
            }
            // Each request has a connection of its own, so the others go on.
            ServiceError::TransportSend(cause) if self.config.url.is_some() => {
                self.handler.mark_stale();
                format!("the request failed: {}", root_cause(cause.error.as_ref()))
            }
            // No pipe fails before the process has closed its end. The keeper knows whether the
            // process has ended, and with which exit.
            ServiceError::TransportClosed | ServiceError::TransportSend(_) => {
                self.silent.cancel();
                self.closed().await.to_owned()
            }
            other => service_error(other),
        }
    }

    /// Returns the message for an error of this server.
    pub(super) fn error(&self, reason: &str) -> String {
        server_error(&self.config.name, reason)
    }

    /// Holds the server until it ends or `closing` is cancelled, and ends its process.
    pub(super) async fn keep(self: Arc<Self>, parts: ConnectionParts, closing: CancellationToken) {
        let ConnectionParts { service, life, last_lines, silent, .. } = parts;
        let stop = service.cancellation_token();
        let mut quit = Box::pin(service.waiting());
        let following = follow_tool_changes(&self.peer, &self.handler);
        let (reason, has_quit) = tokio::select! {
            // The exit of a process says more than its silence.
            biased;
            exit = ended(life.as_ref()) => {
                let has_quit = timeout(CLOSE_TIMEOUT, &mut quit).await.is_ok();
                (format!("it ended with {}{}", describe_exit(exit), last_lines.suffix()), has_quit)
            }
            _ = &mut quit => (self.end_reason(life.as_ref(), &last_lines).await, true),
            () = silent.cancelled() => (self.end_reason(life.as_ref(), &last_lines).await, false),
            () = closing.cancelled() => ("callpark is stopping".to_owned(), false),
            never = following => match never {},
        };
        if !closing.is_cancelled() {
            tracing::warn!(server = self.config.name, reason, "an MCP server has ended");
        }
        // Set only here.
        let _ = self.close_reason.set(reason);
        self.closed.cancel();
        if !has_quit {
            stop.cancel();
            // The end of the service closes the standard input of the process.
            let _closed = timeout(CLOSE_TIMEOUT, &mut quit).await;
        }
        drop(quit);
        if let Some(life) = life {
            life.end().await;
        }
    }

    /// Returns the reason why a server sends nothing more. Without a recorded error the process is
    /// probably about to end, and its exit is worth a short wait.
    async fn end_reason(&self, life: Option<&ProcessLife>, last_lines: &LastLines) -> String {
        if let Some(error) = self.first_error.get() {
            return error;
        }
        match timeout(CLOSE_TIMEOUT, ended(life)).await {
            Ok(exit) => format!("it ended with {}{}", describe_exit(exit), last_lines.suffix()),
            Err(_) => "it closed the connection".to_owned(),
        }
    }
}

/// Returns the message for an error of the server with this name.
pub(super) fn server_error(server: &str, reason: &str) -> String {
    format!("the MCP server `{server}` failed: {reason}")
}

async fn ended(life: Option<&ProcessLife>) -> Exit {
    match life {
        Some(life) => life.ended().await,
        None => std::future::pending().await,
    }
}
