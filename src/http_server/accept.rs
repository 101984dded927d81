//! Accepting the connections of a service, within its bounds.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::connection_places::{ConnectionPlace, Places};
use crate::model::limits::{ACCEPT_PAUSE_MS, HTTP_STOP_MS};
use crate::telemetry::{HttpService, Metrics};

const ACCEPT_PAUSE: Duration = Duration::from_millis(ACCEPT_PAUSE_MS);
const STOP_TIMEOUT: Duration = Duration::from_millis(HTTP_STOP_MS);

/// Accepts the connections of a service. Those that find no place are closed at once.
pub struct ConnectionAcceptor {
    service: HttpService,
    places: Arc<Places>,
}

impl ConnectionAcceptor {
    /// Creates the acceptor of a service, whose connections these metrics count.
    pub fn new(service: HttpService, metrics: Metrics) -> Self {
        Self { service, places: Places::new(service, metrics) }
    }

    /// Accepts connections until `stop` is cancelled, and runs the future of `serve` for each in a
    /// task of its own. Futures that have not ended a second after the stop are dropped.
    pub async fn run<S>(
        self,
        listener: TcpListener,
        stop: &CancellationToken,
        serve: impl Fn(TcpStream, ConnectionPlace) -> S,
    ) where
        S: Future<Output = ()> + Send + 'static,
    {
        let mut connections = JoinSet::new();
        let mut is_starved = false;
        while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
            while connections.try_join_next().is_some() {}
            match accepted {
                Ok((stream, _)) => {
                    is_starved = false;
                    if let Some(place) = self.places.take() {
                        connections.spawn(serve(stream, place));
                    }
                }
                Err(error) if is_of_one_connection(&error) => self.places.accept_failed(),
                Err(error) => {
                    self.places.accept_failed();
                    if !std::mem::replace(&mut is_starved, true) {
                        let service = self.service.as_str();
                        tracing::warn!(%error, service, "cannot accept connections");
                    }
                    let pause = tokio::time::sleep(ACCEPT_PAUSE);
                    let _stopped = stop.run_until_cancelled(pause).await;
                }
            }
        }
        drop(listener);
        let all_ended = async { while connections.join_next().await.is_some() {} };
        // An answer that is aborted here goes to a peer that has stopped reading.
        let _aborted = tokio::time::timeout(STOP_TIMEOUT, all_ended).await;
    }
}

/// Returns whether the error concerns the accepted connection, not the listener.
pub fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionRefused
            | ErrorKind::Interrupted
            | ErrorKind::TimedOut
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::NetworkDown
    )
}
