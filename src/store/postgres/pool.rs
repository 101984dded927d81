//! The readers: connections that only read, each used by one read at a time.

use std::time::Duration;

use deadpool_postgres::{
    ClientWrapper, Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime, Timeouts,
    Transaction,
};
use futures::future::BoxFuture;
use tokio_postgres::IsolationLevel;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::error::PostgresError;
use super::open_error::OpenError;
use super::options::Target;
use crate::model::limits::STORE_READERS_MAX;
use crate::store::StoreError;

/// The time after which the database interrupts a read.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// The timeout of a new connection, and of the wait for a free one.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);

/// A read with a connection.
pub(super) type Read<'a, T> = BoxFuture<'a, Result<T, PostgresError>>;

pub(super) struct ReaderPool {
    pool: Pool,
    reads: TaskTracker,
}

impl ReaderPool {
    pub(super) fn new(target: &Target) -> Result<Self, OpenError> {
        let (config, tls) = target.connection("callpark reader", READ_TIMEOUT);
        let manager = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let timeout = Some(CONNECTION_TIMEOUT);
        let pool = Pool::builder(Manager::from_config(config, tls, manager))
            .max_size(STORE_READERS_MAX)
            .runtime(Runtime::Tokio1)
            .timeouts(Timeouts { wait: timeout, create: timeout, recycle: timeout })
            .build()
            .map_err(|error| OpenError::Unusable {
                name: target.name.clone(),
                cause: error.to_string(),
            })?;
        Ok(Self { pool, reads: TaskTracker::new() })
    }

    /// Runs a read of one statement, which sees one state of the database.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl for<'a> Fn(&'a ClientWrapper) -> Read<'a, T> + Send + Sync + 'static,
    ) -> Result<T, StoreError> {
        let pool = self.pool.clone();
        self.run(async move {
            loop {
                let client = pool.get().await?;
                match read(&client).await {
                    Err(PostgresError::Lost(_)) if discard_lost(client) => {}
                    result => return result,
                }
            }
        })
        .await
    }

    /// Runs a read of several statements, which see one state of the database.
    pub(super) async fn snapshot<T: Send + 'static>(
        &self,
        read: impl for<'a> Fn(&'a Transaction<'a>) -> Read<'a, T> + Send + Sync + 'static,
    ) -> Result<T, StoreError> {
        let pool = self.pool.clone();
        self.run(async move {
            loop {
                let mut client = pool.get().await?;
                let result = async {
                    let snapshot = client
                        .build_transaction()
                        .isolation_level(IsolationLevel::RepeatableRead)
                        .read_only(true)
                        .start()
                        .await?;
                    let result = read(&snapshot).await?;
                    snapshot.commit().await?;
                    Ok(result)
                }
                .await;
                match result {
                    Err(PostgresError::Lost(_)) if discard_lost(client) => {}
                    result => return result,
                }
            }
        })
        .await
    }

    /// Runs a read as a task of its own. The caller may be the body of a response, which is not polled
    /// while its client has no window: a connection that such a future has would be lost to all others.
    async fn run<T: Send + 'static>(
        &self,
        read: impl Future<Output = Result<T, PostgresError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        if self.pool.is_closed() {
            return Err(StoreError::Unavailable("it is closed".to_owned()));
        }
        // A caller that goes away ends its read.
        let read = AbortOnDropHandle::new(self.reads.spawn(read));
        let failed = |cause| StoreError::Unavailable(format!("a read failed: {cause}"));
        Ok(read.await.map_err(failed)??)
    }

    /// Waits for the reads under way, and refuses later ones.
    pub(super) async fn close(&self) {
        self.reads.close();
        self.reads.wait().await;
        self.pool.close();
    }
}

/// Removes a connection that is lost from the pool. Returns whether the read should be made again: each
/// lost connection is one less, and a new one is an error if the database is away.
fn discard_lost(client: Object) -> bool {
    let is_lost = client.is_closed();
    drop(Object::take(client));
    is_lost
}
