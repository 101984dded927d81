//! The opening of a store: the first connection, the lock, and the schema.

use std::fmt;
use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::error::SqlState;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::columns::get;
use super::error::PostgresError;
use super::identity::{self, Keys};
use super::open_error::OpenError;
use super::options::Target;
use super::ownership;
use super::schema;

/// The time after which a statement of the writer is given up.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// The pause between two attempts to reach the database.
pub(super) const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// The timeout of the wait for the lock. A server that was killed has it until the database has
/// noticed.
const LOCK_TIMEOUT: Duration = Duration::from_secs(3);
/// The key of the lock: `callpark` in ASCII. A server that has the database alone locks it for itself, and
/// replicas share the lock.
const LOCK_KEY: i64 = i64::from_be_bytes(*b"callpark");
/// The key of the lock of the schema, which one replica at a time migrates.
const SCHEMA_LOCK_KEY: i64 = i64::from_be_bytes(*b"callpars");

/// The connection of the writer, which holds the lock of the store. What is written on it is written
/// under the lock: the database releases the lock when the connection ends, and not before.
pub(super) struct WriterConnection {
    pub(super) client: ClientWrapper,
    /// Cancelled when the connection has ended.
    pub(super) ended: CancellationToken,
    sharing: Sharing,
}

/// The way in which a server has a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    /// No other server uses it.
    Alone,
    /// Several replicas share it.
    Replicas,
}

impl Sharing {
    /// The end of the names of the functions that lock.
    const fn suffix(self) -> &'static str {
        match self {
            Self::Alone => "",
            Self::Replicas => "_shared",
        }
    }
}

/// Connects the writer of a server, without the lock.
pub(super) async fn connect(
    target: &Target,
    server: Uuid,
    sharing: Sharing,
) -> Result<WriterConnection, PostgresError> {
    let (config, tls) = target.connection(&application(server), WRITE_TIMEOUT);
    let (client, connection) = timeout(WRITE_TIMEOUT, config.connect(tls))
        .await
        .map_err(|_| super::error::timed_out(WRITE_TIMEOUT))??;
    let ended = CancellationToken::new();
    let end = ended.clone().drop_guard();
    // The client ends the task when it is dropped.
    let task = TaskTracker::new().spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "the writer's connection to the database has ended");
        }
        drop(end);
    });
    Ok(WriterConnection { client: ClientWrapper::new(client, task), ended, sharing })
}

/// The name of a server's writer among the connections of the database.
fn application(server: Uuid) -> String {
    format!("callpark {}", server.simple())
}

/// The reason why a connection has no lock.
pub(super) enum LockError {
    /// Another server has it.
    Taken {
        /// The holder of the lock.
        holder: String,
    },
    Failed(PostgresError),
}

impl From<PostgresError> for LockError {
    fn from(error: PostgresError) -> Self {
        Self::Failed(error)
    }
}

impl From<tokio_postgres::Error> for LockError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl WriterConnection {
    /// Acquires the lock of the store. Ends earlier connections of this server, which the database may
    /// not have noticed to be lost.
    pub(super) async fn lock(&self, server: Uuid) -> Result<(), LockError> {
        let suffix = self.sharing.suffix();
        let acquire = format!("SELECT pg_try_advisory_lock{suffix}($1)");
        let row = self.client.query_one(&acquire, &[&LOCK_KEY]).await?;
        if get(&row, 0)? {
            return Ok(());
        }
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE application_name = $1 AND pid <> pg_backend_pid()";
        self.client.query(end, &[&application(server)]).await?;
        let bound = format!("SET lock_timeout = {}", LOCK_TIMEOUT.as_millis());
        self.client.batch_execute(&bound).await?;
        let acquire = format!("SELECT pg_advisory_lock{suffix}($1)");
        let acquired = self.client.query(&acquire, &[&LOCK_KEY]).await;
        self.client.batch_execute("RESET lock_timeout").await?;
        match acquired {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                let lost = "an earlier connection of this server has not ended";
                let holder =
                    self.holder().await?.filter(|holder| holder.application != application(server));
                Err(holder.map_or_else(
                    || LockError::Failed(PostgresError::Lost(lost.to_owned())),
                    |holder| LockError::Taken { holder: holder.to_string() },
                ))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the holder of the lock, or `None` if it is free.
    pub(super) async fn holder(&self) -> Result<Option<Holder>, PostgresError> {
        let sql = "SELECT coalesce(host(client_addr), 'the same machine'), pid, application_name
             FROM pg_locks JOIN pg_stat_activity USING (pid)
             WHERE locktype = 'advisory' AND granted AND objsubid = 1
                 AND (classid::bigint << 32 | objid::bigint) = $1
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
             LIMIT 1";
        let Some(row) = self.client.query_opt(sql, &[&LOCK_KEY]).await? else { return Ok(None) };
        let (address, pid, application) = (get(&row, 0)?, get(&row, 1)?, get(&row, 2)?);
        Ok(Some(Holder { address, pid, application }))
    }
}

/// The holder of the lock. Its text is an addition to a sentence.
pub(super) struct Holder {
    address: String,
    /// The process of the database that serves the holder.
    pid: i32,
    application: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " (at {}, process {} of the database)", self.address, self.pid)
    }
}

/// Connects, and acquires the lock. Waits for a database that cannot be reached.
pub(super) async fn acquire(
    target: &Target,
    server: Uuid,
    sharing: Sharing,
    wait: Duration,
) -> Result<WriterConnection, OpenError> {
    let start = Instant::now();
    let connection = loop {
        match connect(target, server, sharing).await {
            Ok(connection) => break connection,
            Err(PostgresError::Lost(cause)) if start.elapsed() + RETRY_PAUSE < wait => {
                tracing::info!(cause, database = target.name, "waiting for the database");
                sleep(RETRY_PAUSE).await;
            }
            Err(error) => return Err(target.failed(error)),
        }
    };
    connection.lock(server).await.map_err(|error| match error {
        LockError::Taken { holder } => OpenError::Locked { name: target.name.clone(), holder },
        LockError::Failed(error) => target.failed(error),
    })?;
    Ok(connection)
}

/// Opens the database, and migrates it. Waits for one that cannot be reached.
pub(super) async fn open(
    target: &Target,
    server: Uuid,
    sharing: Sharing,
    wait: Duration,
) -> Result<(WriterConnection, Keys), OpenError> {
    let mut connection = acquire(target, server, sharing, wait).await?;
    let failed = |error| target.failed(error);
    // Released at the end of the connection, too.
    let lock = connection.client.execute("SELECT pg_advisory_lock($1)", &[&SCHEMA_LOCK_KEY]);
    lock.await.map_err(|error| failed(error.into()))?;
    schema::migrate(&mut connection.client, &target.name).await?;
    let keys = identity::load(&mut connection.client).await.map_err(failed)?;
    if sharing == Sharing::Alone {
        ownership::forget_all(&connection.client).await.map_err(failed)?;
    }
    let unlock = connection.client.execute("SELECT pg_advisory_unlock($1)", &[&SCHEMA_LOCK_KEY]);
    unlock.await.map_err(|error| failed(error.into()))?;
    // The commits of servers that have ended. One that waits for the database may still ask for its
    // own.
    let forget = "DELETE FROM writers WHERE commit_time < now() - interval '7 days'";
    connection.client.execute(forget, &[]).await.map_err(|error| failed(error.into()))?;
    Ok((connection, keys))
}
