//! The connection of the writer: its loss, the next one, and the outcome of a commit in between.

use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::types::ToSql;

use super::columns::get;
use super::error::{PostgresError, timed_out};
use super::open::{LockError, RETRY_PAUSE, WRITE_TIMEOUT, WriterConnection, connect};
use super::writer::Writer;
use crate::store::StoreError;

impl Writer {
    /// Drops the connection. The database then releases the lock.
    pub(super) fn lose(&mut self, cause: &str) {
        if self.connection.take().is_some() {
            tracing::warn!(cause, database = self.target.name, "the store has lost its database");
        }
        self.bodies.clear();
        self.retry = Instant::now();
        self.availability.set(Some(cause.to_owned()));
    }

    pub(super) async fn reconnect_if_lost(&mut self) -> Result<(), PostgresError> {
        let is_lost = |connection: &WriterConnection| connection.ended.is_cancelled();
        if self.connection.as_ref().is_some_and(is_lost) {
            self.lose("the connection has ended");
        }
        if self.connection.is_some() {
            return Ok(());
        }
        if Instant::now() < self.retry {
            let cause = self.availability.cause().unwrap_or_default();
            return Err(StoreError::Unavailable(cause).into());
        }
        self.reconnect().await
    }

    /// Connects, and acquires the lock.
    pub(super) async fn reconnect(&mut self) -> Result<(), PostgresError> {
        let connected = match connect(&self.target, self.server, self.sharing()).await {
            Ok(connection) => match connection.lock(self.server).await {
                Ok(()) => Ok(connection),
                Err(LockError::Failed(error)) => Err(error),
                Err(LockError::Taken { holder }) => Err(taken(&holder)),
            },
            Err(error) => Err(error),
        };
        self.retry = Instant::now() + RETRY_PAUSE;
        match connected {
            Ok(connection) => {
                tracing::info!(database = self.target.name, "the store has its database again");
                self.connection = Some(connection);
                self.availability.set(None);
                Ok(())
            }
            Err(error) => {
                let error = StoreError::from(error);
                if let StoreError::Unavailable(cause) = &error {
                    self.availability.set(Some(cause.clone()));
                }
                Err(error.into())
            }
        }
    }

    /// Returns whether the commit after the newest one was made. Waits for the database, since no
    /// answer is right until it is known.
    pub(super) async fn was_committed(&mut self) -> Result<bool, PostgresError> {
        loop {
            let found = self.find_commit().await;
            match found {
                Ok(number) => return Ok(number > self.commit),
                Err(error) if self.closing.is_cancelled() => {
                    let cause = error.cause();
                    return Err(StoreError::Broken(format!(
                        "the connection was lost during a commit, and the store was closed before \
                         the database was back: {cause}"
                    ))
                    .into());
                }
                Err(error) => tracing::debug!(?error, "the outcome of a commit is not known"),
            }
            tokio::select! {
                () = sleep(RETRY_PAUSE) => {}
                () = self.closing.cancelled() => {}
            }
        }
    }

    /// Returns the number of the newest commit of this server, on a new connection that has the lock, or
    /// on one that cannot have it because another server does. In either case the lost connection has
    /// ended.
    async fn find_commit(&mut self) -> Result<i64, PostgresError> {
        let connection = connect(&self.target, self.server, self.sharing()).await?;
        let lock = match connection.lock(self.server).await {
            Err(LockError::Failed(error)) => return Err(error),
            lock => lock,
        };
        let sql = "SELECT number FROM writers WHERE id = $1";
        let params: [&(dyn ToSql + Sync); 1] = [&self.server];
        let query = timeout(WRITE_TIMEOUT, connection.client.query_opt(sql, &params));
        let row = query.await.map_err(|_| timed_out(WRITE_TIMEOUT))??;
        let number = row.as_ref().map_or(Ok(0), |row| get(row, 0))?;
        match lock {
            Ok(()) => {
                self.connection = Some(connection);
                self.availability.set(None);
            }
            Err(LockError::Taken { holder }) => self.availability.set(Some(taken(&holder).cause())),
            Err(LockError::Failed(_)) => {}
        }
        Ok(number)
    }
}

/// Returns the error of a server that has lost its database to another one.
fn taken(holder: &str) -> PostgresError {
    StoreError::Unavailable(format!(
        "another server{holder} has taken the database: stop one of them"
    ))
    .into()
}
