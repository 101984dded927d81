//! The connections to all endpoints, and the choice of one for each request.
//!
//! Requests take the connected addresses in turn. What is not connected is dialed beside them, in tasks
//! of the pool: a request waits for a connection only if there is none at all. Nothing is dialed without
//! a request that asks for a connection, and one address is never dialed twice at the same time.

mod route;
mod table;
#[cfg(test)]
mod tests;

use std::{
    error::Error as StdError,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll},
};

use futures::future::{BoxFuture, join_all};
use http::{Request, Response};
use tokio::{sync::Notify, task::JoinSet, time::Instant};
use tonic::{Status, body::Body};
use tower::Service;

use crate::{
    error::Error,
    options::ClientOptions,
    transport::{
        address::Endpoint,
        connect::Connector,
        connection_handle::ConnectionHandle,
        dial::{cannot_connect, dial},
        fault::{ConnectFault, Unreachable},
        http_answer::{BoxError, CheckedChannel, of_fault},
    },
};

pub(crate) use route::Route;
use table::{Backoff, Choice, ConnectionId, Scope, Table, Work};

/// The connections for one kind of request.
pub(crate) struct Pool {
    endpoints: Arc<[Endpoint]>,
    table: Mutex<Table<CheckedChannel>>,
    /// Wakes requests that wait for a connection, in the order in which they came.
    changed: Notify,
    /// Resolves names and opens connections. Ends with the pool.
    tasks: Mutex<JoinSet<()>>,
}

/// Two pools, so that unread streams never delay a call.
pub(crate) struct Pools {
    pub(crate) unary: PooledChannel,
    pub(crate) streams: PooledChannel,
}

impl Pools {
    pub(crate) fn new(
        options: &ClientOptions,
        connector: Option<&Connector>,
    ) -> Result<Self, Error> {
        Ok(Self::of(Endpoint::list(options, connector)?.into(), options))
    }

    fn of(endpoints: Arc<[Endpoint]>, options: &ClientOptions) -> Self {
        let pool = || PooledChannel(Arc::new(Pool::new(Arc::clone(&endpoints), options)));
        Self { unary: pool(), streams: pool() }
    }

    /// Returns pools for each address alone, with its label and the name of its endpoint. An endpoint
    /// that cannot be resolved is one address.
    pub(crate) async fn split(&self, options: &ClientOptions) -> Vec<(String, String, Self)> {
        let split = join_all(self.unary.0.endpoints.iter().map(Endpoint::split)).await;
        let alone = split.into_iter().flatten().map(|(label, endpoint)| {
            let name = endpoint.name.clone();
            (label, name, Self::of(Arc::new([endpoint]), options))
        });
        alone.collect()
    }
}

impl Pool {
    fn new(endpoints: Arc<[Endpoint]>, options: &ClientOptions) -> Self {
        let backoff = Backoff { first: options.backoff, max: options.backoff_max };
        let named = endpoints.iter().map(|endpoint| (endpoint.name.as_str(), endpoint.fixed()));
        let table = Mutex::new(Table::new(named, backoff));
        Self { endpoints, table, changed: Notify::new(), tasks: Mutex::default() }
    }

    fn table(&self) -> MutexGuard<'_, Table<CheckedChannel>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the connection for the next request of a route. If there is none, waits for the first
    /// one, or until no address can be reached.
    async fn connection(self: &Arc<Self>, route: &Route) -> Result<CheckedChannel, Status> {
        route.enter(self);
        let mut changed = std::pin::pin!(self.changed.notified());
        let mut scope = Some(Scope::All);
        loop {
            // Before the look at the table, so that no change is missed.
            changed.as_mut().enable();
            let (choice, work) = {
                let mut table = self.table();
                let choice = table.choose(&mut route.tried());
                let scope = if choice.is_some() { Some(Scope::Due) } else { scope.take() };
                let work = scope.map(|scope| table.begin(scope, Instant::now()));
                if choice.is_none() && !table.is_connecting() {
                    return Err(unreachable(&table));
                }
                (choice, work)
            };
            self.run(work.unwrap_or_default());
            if let Some(Choice { address: _, label, channel }) = choice {
                route.chosen(label);
                return Ok(channel);
            }
            changed.as_mut().await;
            changed.set(self.changed.notified());
        }
    }

    /// Returns whether a request of a route that has tried these addresses has another one to try.
    fn has_other(&self, tried: &[table::AddressId]) -> bool {
        self.table().has_other(tried)
    }

    fn run(self: &Arc<Self>, work: Vec<Work>) {
        if work.is_empty() {
            return;
        }
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        for work in work {
            let (pool, endpoints) = (Arc::downgrade(self), Arc::clone(&self.endpoints));
            match work {
                Work::Resolve { endpoint, scope } => {
                    let step = Step::Resolve { endpoint };
                    let unfinished = Unfinished { pool, step: Some(step) };
                    tasks.spawn(resolve(endpoints, endpoint, scope, unfinished));
                }
                Work::Dial { endpoint, connection, target } => {
                    let losing = pool.clone();
                    let handle = ConnectionHandle::new(move |has_answered, fault| {
                        if let Some(pool) = losing.upgrade() {
                            pool.lost(connection, has_answered, fault);
                        }
                    });
                    let step = Step::Dial { connection };
                    let unfinished = Unfinished { pool, step: Some(step) };
                    tasks.spawn(async move {
                        let Some(endpoint) = endpoints.get(endpoint) else { return };
                        let dialed = dial(endpoint, &target, handle).await;
                        if let Some(pool) = unfinished.finish() {
                            pool.dialed(connection, dialed);
                        }
                    });
                }
            }
        }
    }

    fn dialed(&self, connection: ConnectionId, result: Result<CheckedChannel, Status>) {
        self.table().dialed(connection, result, Instant::now(), rand::random());
        self.changed.notify_waiters();
    }

    fn lost(&self, connection: ConnectionId, has_answered: bool, fault: Option<ConnectFault>) {
        let status = fault.map_or_else(|| interrupted("the connection was lost"), of_fault);
        let lost =
            self.table().lost(connection, has_answered, status, Instant::now(), rand::random());
        // Outside of the lock, because a connection reports its end when it is dropped.
        drop(lost);
        self.changed.notify_waiters();
    }
}

fn interrupted(message: &str) -> Status {
    cannot_connect(io::Error::new(io::ErrorKind::ConnectionReset, message))
}

async fn resolve(endpoints: Arc<[Endpoint]>, index: usize, scope: Scope, unfinished: Unfinished) {
    let Some(endpoint) = endpoints.get(index) else { return };
    let found = endpoint.resolve().await.map_err(cannot_connect);
    let Some(pool) = unfinished.finish() else { return };
    let (work, dropped) =
        pool.table().resolved(index, found, scope, Instant::now(), rand::random());
    drop(dropped);
    pool.run(work);
    pool.changed.notify_waiters();
}

/// Returns the failure of a request for which there is no connection: that of the only address, or one
/// that stands for all of them.
fn unreachable(table: &Table<CheckedChannel>) -> Status {
    let mut failures = table.failures();
    if let [(_, status)] = failures.as_mut_slice()
        && table.len() == 1
    {
        return std::mem::replace(status, Status::unavailable(""));
    }
    let fault = |(_, status): &(Arc<str>, Status)| {
        let cause = StdError::source(status)?;
        cause.downcast_ref::<ConnectFault>().cloned()
    };
    let first = failures.first().and_then(fault);
    let fault = first.filter(|first| failures.iter().all(|one| fault(one).as_ref() == Some(first)));
    let error = Unreachable { addresses: table.len(), fault };
    let mut status = Status::unavailable(error.to_string());
    status.set_source(Arc::new(error));
    status
}

/// A step of a task of the pool. If the task does not come to its end, as when its runtime stops, the
/// step has failed, as nothing waits for it.
struct Unfinished {
    pool: Weak<Pool>,
    step: Option<Step>,
}

enum Step {
    Resolve { endpoint: usize },
    Dial { connection: ConnectionId },
}

impl Unfinished {
    fn finish(mut self) -> Option<Arc<Pool>> {
        self.step = None;
        self.pool.upgrade()
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let (Some(step), Some(pool)) = (self.step.take(), self.pool.upgrade()) else { return };
        let status = interrupted("connecting was interrupted");
        match step {
            Step::Resolve { endpoint } => {
                pool.table().unresolved(endpoint, status, Instant::now(), rand::random());
            }
            Step::Dial { connection } => {
                pool.table().dialed(connection, Err(status), Instant::now(), rand::random());
            }
        }
        pool.changed.notify_waiters();
    }
}

/// A service that sends each request over the connection that is its turn.
#[derive(Clone)]
pub(crate) struct PooledChannel(Arc<Pool>);

impl Service<Request<Body>> for PooledChannel {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let pool = Arc::clone(&self.0);
        Box::pin(async move {
            let route = request.extensions_mut().remove::<Arc<Route>>().unwrap_or_default();
            let channel = pool.connection(&route).await?;
            channel.send(request).await
        })
    }
}
