//! The connections to all replicas.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::Shared;
use hyper::rt::Executor as _;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::connection::{Connection, Slot, Tasks};
use super::connector::connect;
use crate::telemetry::LogRate;

/// The largest number of addresses with connections. One more takes the place of the one that was used
/// least recently.
const ADDRESSES_MAX: usize = 64;

/// The largest number of connections to one address. Requests beyond them are not forwarded.
const CONNECTIONS_MAX: usize = 64;

/// The time that a new connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The time between two looks at a connection. It is closed if it was idle from one to the next.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// The connections to all replicas. They are made when they are needed.
pub(super) struct Pool(Arc<Inner>);

struct Inner {
    tls: Option<watch::Receiver<TlsConnector>>,
    addresses: Mutex<HashMap<String, Connections>>,
    failures: Mutex<LogRate>,
    tasks: Tasks,
}

/// The connections to one address.
struct Connections {
    open: Vec<Arc<Connection>>,
    /// The connection that is being made: `true` once it is open, `false` if it failed. All requests
    /// without a place wait for the same one.
    next: Option<Next>,
    last_use: Instant,
}

type Next = Shared<oneshot::Receiver<bool>>;

/// The state of an address, for a request that needs a place.
enum Found {
    Slot(Slot),
    Next(Next),
    Full,
}

impl Pool {
    /// Creates a pool without connections.
    pub(super) fn new(tls: Option<watch::Receiver<TlsConnector>>) -> Self {
        Self(Arc::new(Inner {
            tls,
            addresses: Mutex::default(),
            failures: Mutex::default(),
            tasks: Tasks::default(),
        }))
    }

    /// Returns a place on a connection to the address, or `None` if it cannot be reached.
    pub(super) async fn slot(&self, address: &str) -> Option<Slot> {
        loop {
            let next = match self.0.find(address) {
                Found::Slot(slot) => return Some(slot),
                Found::Next(next) => next,
                Found::Full => return None,
            };
            if next.await != Ok(true) {
                return None;
            }
        }
    }

    /// Logs that an address cannot be used, a few times a minute.
    pub(super) fn log_failure(&self, address: &str, failure: &dyn fmt::Display) {
        self.0.log_failure(address, failure);
    }

    /// Closes all connections.
    pub(super) async fn close(&self) {
        self.0.tasks.stop().await;
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Connections>> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a place on an open connection, else the connection that is being made, which it begins if
    /// there is none.
    fn find(self: &Arc<Self>, address: &str) -> Found {
        if self.tasks.are_stopped() {
            return Found::Full;
        }
        let mut addresses = self.lock();
        if !addresses.contains_key(address) && addresses.len() >= ADDRESSES_MAX {
            let oldest = addresses.iter().min_by_key(|(_, connections)| connections.last_use);
            let oldest = oldest.map(|(address, _)| address.clone());
            oldest.map(|oldest| addresses.remove(&oldest));
        }
        let now = Instant::now();
        let connections = addresses.entry(address.to_owned()).or_insert_with(|| Connections {
            open: Vec::new(),
            next: None,
            last_use: now,
        });
        connections.last_use = now;
        connections.open.retain(|connection| !connection.is_closed());
        if let Some(slot) = connections.open.iter().find_map(Connection::slot) {
            return Found::Slot(slot);
        }
        if let Some(next) = &connections.next {
            return Found::Next(next.clone());
        }
        if connections.open.len() >= CONNECTIONS_MAX {
            return Found::Full;
        }
        let (done, next) = oneshot::channel();
        let next = next.shared();
        connections.next = Some(next.clone());
        self.tasks.execute(self.clone().connect(address.to_owned(), done));
        Found::Next(next)
    }

    /// Makes a connection, and moves its bytes until it is closed.
    async fn connect(self: Arc<Self>, address: String, done: oneshot::Sender<bool>) {
        let connected = timeout(CONNECT_TIMEOUT, async {
            let tls = self.tls.as_ref().map(|tls| tls.borrow().clone());
            let socket = connect(&address, tls.as_ref()).await?;
            Connection::new(socket, &self.tasks).await.map_err(io::Error::other)
        });
        let connected = connected.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let connected = connected.map_err(|error| self.log_failure(&address, &error)).ok();
        let connected = connected.map(|(connection, driver)| (Arc::new(connection), driver));
        if let Entry::Occupied(mut entry) = self.lock().entry(address.clone()) {
            let connections = entry.get_mut();
            connections.next = None;
            connections.open.extend(connected.as_ref().map(|(connection, _)| connection.clone()));
        }
        // All requests that waited may have gone.
        let _ = done.send(connected.is_some());
        let Some((connection, driver)) = connected else { return };
        let connection = Arc::downgrade(&connection);
        let pool = Arc::downgrade(&self);
        // The driver ends when nothing refers to the connection, which the pool does.
        drop(self);
        drive(driver, connection, pool, address).await;
    }

    fn log_failure(&self, address: &str, failure: &dyn fmt::Display) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(left_out) = failures.next(Instant::now()) {
            tracing::warn!(address, error = %failure, left_out, "another server of the store can't be reached");
        }
    }

    /// Removes a connection from the pool if it is idle and has had no request after the first `uses`
    /// ones. Returns the number of its requests.
    fn remove_idle(&self, address: &str, connection: &Arc<Connection>, uses: usize) -> usize {
        let mut addresses = self.lock();
        let Some(now) = connection.uses_if_idle() else { return uses };
        if now == uses
            && let Some(connections) = addresses.get_mut(address)
        {
            connections.open.retain(|open| !Arc::ptr_eq(open, connection));
            if connections.open.is_empty() && connections.next.is_none() {
                addresses.remove(address);
            }
        }
        now
    }
}

/// Moves the bytes of a connection until it is closed. A connection that is idle leaves the pool.
async fn drive(
    mut driver: Pin<Box<dyn Future<Output = ()> + Send>>,
    connection: Weak<Connection>,
    pool: Weak<Inner>,
    address: String,
) {
    let mut uses = 0;
    while timeout(IDLE_TIMEOUT, &mut driver).await.is_err() {
        if let (Some(pool), Some(connection)) = (pool.upgrade(), connection.upgrade()) {
            uses = pool.remove_idle(&address, &connection, uses);
        }
    }
}
