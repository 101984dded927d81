//! The connections of the gRPC server: accepted, counted, and with a deadline for their handshake.
//!
//! The accept loop of tonic has no limit on connections, waits forever for a silent peer, and can end
//! at an accept error. [`Incoming`] is a stream that replaces it. All of it is bounded: a connection
//! over a limit is closed at once and counted, and sockets queue in the kernel only.

mod accept;
mod bind;
mod connection;
mod gate;
mod handshake;
mod socket_file;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::Stream;
use rustls::ServerConfig;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Sleep;

use crate::auth::Peer;
use crate::http_server::is_of_one_connection;
use crate::model::limits::ACCEPT_PAUSE_MS;
use crate::telemetry::{ConnectionRefusal, Metrics};
use accept::{Accept, Socket};
use gate::Gate;
use handshake::Handshake;

pub(super) use accept::Listener;
pub(super) use bind::{BindError, bind, bind_tcp};
pub(super) use connection::Connection;

/// The pause in accepting when the system has run out of a resource, such as file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(ACCEPT_PAUSE_MS);

/// The bounds of a listener, and its TLS.
#[derive(Debug, Clone)]
pub(super) struct ListenerOptions {
    /// The most connections at the same time, including handshakes.
    pub connections_max: usize,
    /// The most connections of one peer: an IPv4 address, a /64 network of IPv6, or a user of this
    /// machine.
    pub connections_per_peer_max: usize,
    /// The most handshakes at the same time.
    pub pending_handshakes_max: usize,
    /// The time from the accept to the end of TLS and the first 24 bytes of HTTP/2.
    pub handshake_timeout: Duration,
    /// The configuration of TLS of new connections on addresses of the network, or `None` for plain text.
    pub tls: Option<watch::Receiver<Arc<ServerConfig>>>,
}

/// The connections of one or several addresses, for `serve_with_incoming` of tonic. The stream neither
/// ends nor fails. Dropping it closes the addresses and aborts the handshakes; the connections that it
/// has yielded stay open.
pub(super) struct Incoming {
    listeners: Vec<Box<dyn Accept>>,
    options: ListenerOptions,
    gate: Gate,
    metrics: Metrics,
    /// One task for each handshake, so that TLS is computed on all cores.
    handshakes: JoinSet<Option<Connection>>,
    /// The end of the pause in accepting.
    pause: Option<Pin<Box<Sleep>>>,
    /// `true` if the last attempt to accept failed for lack of a resource, which was logged.
    is_starved: bool,
}

impl Incoming {
    /// Creates the stream of connections of these listeners, all under the same bounds.
    pub(super) fn new(
        listeners: Vec<Listener>,
        options: ListenerOptions,
        metrics: Metrics,
    ) -> Self {
        let listeners = listeners.into_iter().map(|l| Box::new(l) as Box<dyn Accept>).collect();
        Self::from_sources(listeners, options, metrics)
    }

    fn from_sources(
        listeners: Vec<Box<dyn Accept>>,
        options: ListenerOptions,
        metrics: Metrics,
    ) -> Self {
        let gate = Gate::new(options.connections_max, options.connections_per_peer_max);
        let handshakes = JoinSet::new();
        Self { listeners, options, gate, metrics, handshakes, pause: None, is_starved: false }
    }

    /// Polls for a handshake that has succeeded.
    fn poll_handshakes(&mut self, cx: &mut Context<'_>) -> Poll<Connection> {
        loop {
            match ready_some(self.handshakes.poll_join_next(cx)) {
                Poll::Ready(Ok(Some(connection))) => return Poll::Ready(connection),
                // The handshake failed and has counted its failure.
                Poll::Ready(Ok(None)) => {}
                Poll::Ready(Err(error)) => tracing::error!(%error, "a handshake panicked"),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Accepts at most one socket from each listener. Returns whether there was any.
    fn accept_round(&mut self, cx: &mut Context<'_>) -> bool {
        let mut accepted = false;
        for index in 0..self.listeners.len() {
            match self.listeners[index].poll_accept(cx) {
                Poll::Ready(Ok((socket, peer))) => {
                    accepted = true;
                    self.is_starved = false;
                    self.admit(socket, peer);
                }
                Poll::Ready(Err(error)) => {
                    accepted = true;
                    self.failed(&error);
                }
                Poll::Pending => {}
            }
        }
        accepted
    }

    /// Starts the handshake, or closes the socket if a limit is reached.
    fn admit(&mut self, socket: Socket, peer: Peer) {
        let slot = if self.handshakes.len() >= self.options.pending_handshakes_max {
            Err(ConnectionRefusal::TooManyHandshakes)
        } else {
            self.gate.enter(peer)
        };
        match slot {
            Ok(slot) => {
                let handshake = Handshake {
                    socket,
                    peer,
                    slot,
                    tls: self.options.tls.as_ref().map(|tls| tls.borrow().clone()),
                    timeout: self.options.handshake_timeout,
                    metrics: self.metrics.clone(),
                };
                self.handshakes.spawn(handshake.run());
            }
            Err(reason) => {
                self.metrics.connection_refused(reason);
                tracing::debug!(%peer, reason = reason.as_str(), "connection refused");
            }
        }
    }

    /// Starts a pause, unless the error concerns only one connection.
    fn failed(&mut self, error: &io::Error) {
        self.metrics.accept_failed();
        if is_of_one_connection(error) {
            tracing::debug!(%error, "a connection was gone before it was accepted");
            return;
        }
        if !self.is_starved {
            tracing::warn!(
                %error,
                "cannot accept connections: is the limit of open files (`ulimit -n`) too low for \
                 `max-connections`? Trying again every {} ms",
                ACCEPT_PAUSE.as_millis()
            );
        }
        self.is_starved = true;
        self.pause = Some(Box::pin(tokio::time::sleep(ACCEPT_PAUSE)));
    }

    fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        Poll::Ready(())
    }
}

impl Stream for Incoming {
    type Item = Result<Connection, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Poll::Ready(connection) = self.poll_handshakes(cx) {
                return Poll::Ready(Some(Ok(connection)));
            }
            ready!(self.poll_pause(cx));
            if !self.accept_round(cx) {
                return Poll::Pending;
            }
            // Loops, because a new handshake wakes this task only after it has been polled.
        }
    }
}

/// Treats an empty set of tasks as pending.
fn ready_some<T>(polled: Poll<Option<T>>) -> Poll<T> {
    match polled {
        Poll::Ready(Some(value)) => Poll::Ready(value),
        Poll::Ready(None) | Poll::Pending => Poll::Pending,
    }
}
