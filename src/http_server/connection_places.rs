//! The places for the connections of a service: how many it has, and which one a new connection closes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::model::limits::{HTTP_CONNECTIONS_MAX, HTTP_STRANGERS_MAX};
use crate::telemetry::{GaugeGuard, HttpRefusal, HttpService, LogRate, Metrics};

/// The places of the connections of a service, and a count of those that were refused.
pub(super) struct Places {
    service: HttpService,
    metrics: Metrics,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    next_id: u64,
    connections: HashMap<u64, Connection>,
    log_rate: LogRate,
}

/// The state of one connection.
struct Connection {
    is_authenticated: bool,
    /// The number of requests since its begin.
    requests: u64,
    /// The number of requests that are not answered.
    open_requests: usize,
    /// The time since which it has been idle, or its begin.
    since: Instant,
    /// Cancelled if a newer connection needs the place.
    displaced: CancellationToken,
}

impl Connection {
    fn is_idle(&self) -> bool {
        self.open_requests == 0
    }
}

impl Table {
    /// Returns the connection that a newer one displaces, `None` if there is room, or the reason why
    /// there is neither.
    fn to_displace(&self) -> Result<Option<u64>, HttpRefusal> {
        let strangers = || self.connections.iter().filter(|(_, c)| !c.is_authenticated);
        if strangers().count() >= HTTP_STRANGERS_MAX {
            // One that waits for an answer is spared as long as others wait for nothing.
            let displaced = strangers().min_by_key(|(_, c)| (!c.is_idle(), c.since));
            return Ok(displaced.map(|(id, _)| *id));
        }
        if self.connections.len() < HTTP_CONNECTIONS_MAX {
            return Ok(None);
        }
        let idle = self.connections.iter().filter(|(_, c)| c.is_idle());
        let displaced = idle.min_by_key(|(_, c)| (c.is_authenticated, c.since));
        displaced.map(|(id, _)| Some(*id)).ok_or(HttpRefusal::TooManyConnections)
    }
}

impl Places {
    pub(super) fn new(service: HttpService, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self { service, metrics, table: Mutex::default() })
    }

    /// Returns a place for a new connection, or `None` if all are in use. The connection that it
    /// displaces is notified.
    pub(super) fn take(self: &Arc<Self>) -> Option<ConnectionPlace> {
        let mut table = self.lock();
        let displaced = match table.to_displace() {
            Ok(displaced) => displaced,
            Err(reason) => {
                drop(table);
                self.refused(reason);
                return None;
            }
        };
        let displaced = displaced.and_then(|id| table.connections.remove(&id));
        let id = table.next_id;
        table.next_id += 1;
        let token = CancellationToken::new();
        let connection = Connection {
            is_authenticated: false,
            requests: 0,
            open_requests: 0,
            since: Instant::now(),
            displaced: token.clone(),
        };
        table.connections.insert(id, connection);
        drop(table);
        if let Some(displaced) = displaced {
            self.refused(HttpRefusal::Displaced);
            displaced.displaced.cancel();
        }
        let handle = ConnectionHandle { places: self.clone(), id };
        let counted = self.metrics.open_http_connection(self.service);
        Some(ConnectionPlace { handle, displaced: token, _counted: counted })
    }

    /// Counts a connection that the server has closed, and logs some of them.
    pub(super) fn refused(&self, reason: HttpRefusal) {
        self.metrics.http_connection_refused(self.service, reason);
        let silent = self.lock().log_rate.next(Instant::now());
        if let Some(silent) = silent {
            tracing::warn!(
                service = self.service.as_str(),
                reason = reason.as_str(),
                not_logged_before = silent,
                "a connection was closed"
            );
        }
    }

    pub(super) fn accept_failed(&self) {
        self.metrics.accept_failed();
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // No holder of the lock can leave the table half changed.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of a connection, which is free again when this is dropped.
pub struct ConnectionPlace {
    handle: ConnectionHandle,
    displaced: CancellationToken,
    _counted: GaugeGuard,
}

impl ConnectionPlace {
    /// Returns a handle to the connection.
    pub fn handle(&self) -> &ConnectionHandle {
        &self.handle
    }

    /// Waits until a newer connection needs the place.
    pub async fn displaced(&self) {
        self.displaced.cancelled().await;
    }

    /// Counts the connection as closed by the server for this reason.
    pub fn refuse(self, reason: HttpRefusal) {
        self.handle.places.refused(reason);
    }
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        self.handle.places.lock().connections.remove(&self.handle.id);
    }
}

/// A handle to a connection, whose place may be gone.
#[derive(Clone)]
pub struct ConnectionHandle {
    places: Arc<Places>,
    id: u64,
}

impl ConnectionHandle {
    /// Sets whether the peer has shown that it may use the service.
    pub fn set_authenticated(&self, is_authenticated: bool) {
        self.change(|connection| connection.is_authenticated = is_authenticated);
    }

    /// Returns whether the peer has shown that it may use the service.
    pub(super) fn is_authenticated(&self) -> bool {
        self.places.lock().connections.get(&self.id).is_some_and(|c| c.is_authenticated)
    }

    /// Returns whether the peer has sent a request.
    pub(super) fn has_requested(&self) -> bool {
        self.places.lock().connections.get(&self.id).is_some_and(|c| c.requests > 0)
    }

    /// Counts a request as not answered until the guard is dropped. The connection is not idle
    /// meanwhile.
    pub fn begin_request(&self) -> OpenRequest {
        self.change(|connection| {
            connection.requests += 1;
            connection.open_requests += 1;
        });
        OpenRequest(self.clone())
    }

    fn change(&self, change: impl FnOnce(&mut Connection)) {
        if let Some(connection) = self.places.lock().connections.get_mut(&self.id) {
            change(connection);
        }
    }
}

/// A request that is not answered.
pub struct OpenRequest(ConnectionHandle);

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.change(|connection| {
            connection.open_requests -= 1;
            connection.since = Instant::now();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Arc<Places> {
        Places::new(HttpService::Agents, Metrics::default())
    }

    fn is_displaced(place: &ConnectionPlace) -> bool {
        place.displaced.is_cancelled()
    }

    fn authenticated(places: &Arc<Places>, count: usize) -> Vec<ConnectionPlace> {
        let take = |_| {
            let place = places.take().unwrap();
            place.handle().set_authenticated(true);
            place
        };
        (0..count).map(take).collect()
    }

    #[test]
    fn a_stranger_displaces_the_oldest_stranger_that_waits_for_nothing() {
        let places = places();
        let known = authenticated(&places, 3);
        let strangers: Vec<_> = (0..HTTP_STRANGERS_MAX).map(|_| places.take().unwrap()).collect();
        let asking = strangers[0].handle().begin_request();
        let next = places.take().unwrap();
        assert!(is_displaced(&strangers[1]), "the oldest but one, which has asked for something");
        let displaced = || strangers.iter().filter(|place| is_displaced(place)).count();
        assert_eq!(displaced(), 1);
        assert!(!known.iter().any(is_displaced) && !is_displaced(&next));
        // The end of a displaced connection frees no second place.
        assert_eq!(places.lock().connections.len(), 3 + HTTP_STRANGERS_MAX);
        drop(asking);
        drop((strangers, next));
        assert_eq!(places.lock().connections.len(), 3);
    }

    #[test]
    fn an_idle_connection_is_displaced_and_one_at_work_is_not() {
        let places = places();
        let known = authenticated(&places, HTTP_CONNECTIONS_MAX);
        let work: Vec<_> = known.iter().skip(1).map(|p| p.handle().begin_request()).collect();
        let next = places.take().unwrap();
        assert!(is_displaced(&known[0]));
        let _asking = next.handle().begin_request();
        assert!(places.take().is_none(), "all of them are at work");
        drop(work);
        assert!(places.take().is_some());
        assert!(!is_displaced(&next));
    }
}
