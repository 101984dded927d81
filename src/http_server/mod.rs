//! HTTP/1 services of callpark: the page for operators and the tools for agents.
//!
//! All of them have the same bounds, which are in `model/limits.rs`: on connections, on the time to the
//! first request and between requests, on the head and the body of a request, and on the time of a
//! stop. Connections that have not authenticated have a small share of the places. A newer one of them
//! closes the oldest, so that they never take a place from those that have authenticated.

mod accept;
mod body;
mod connection;
mod connection_places;
#[cfg(test)]
mod tests;

use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::telemetry::{HttpService, Metrics};

pub use accept::{ConnectionAcceptor, is_of_one_connection};
pub use connection_places::{ConnectionHandle, ConnectionPlace, OpenRequest};

/// The callers that a service is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody who reaches it.
    Open,
    /// Callers whose requests its router authenticates. For each of these it calls
    /// [`ConnectionHandle::set_authenticated`] of the handle in the extensions of the request.
    Authenticated,
}

/// A service on HTTP/1.
pub struct HttpServer {
    /// The name of the service, for metrics and logs.
    pub service: HttpService,
    /// The callers that it is for.
    pub access: Access,
    /// The handlers of requests. Requests have a [`ConnectionHandle`] among their extensions.
    pub router: Router,
    /// The metrics that count its connections.
    pub metrics: Metrics,
}

impl HttpServer {
    /// Serves the connections of a listener until `stop` is cancelled. Answers under way then have a
    /// second to finish.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let Self { service, access, router, metrics } = self;
        let acceptor = ConnectionAcceptor::new(service, metrics);
        let serve =
            |stream, place| connection::serve(stream, place, access, router.clone(), stop.clone());
        acceptor.run(listener, &stop, serve).await;
    }
}
