//! The writer: one thread that owns the only connection that writes.
//!
//! Commits are grouped: the thread takes the appends that are waiting, writes them in one
//! transaction with one sync, and then answers them all. It never waits for more: a lone append is
//! committed alone.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::append::{Counters, WriteTransaction};
use super::continuity::ContinuityFile;
use super::error::{TransactionError, at_commit, at_statement};
use super::expire::expire;
use super::files::Watch;
use super::identity::Identity;
use super::lists::newest_change;
use super::open::{Lock, OpenedDatabase};
use super::session_cache::CachedSession;
use crate::model::limits::STORE_COMMIT_APPENDS_MAX;
use crate::store::session_cache::SessionCache;
use crate::store::writer_queue::PendingAppend;
use crate::store::{Expired, ExpiryPolicy, StoreError};
use crate::telemetry::Metrics;

/// The growth of the write-ahead log, in pages, after which it is copied to the database.
const CHECKPOINT_PAGES: u32 = 4_096;
/// The length of the write-ahead log, in pages, from which it is also restarted, which may wait for
/// readers.
const RESTART_PAGES: u32 = 16_384;

pub(super) enum WriterCommand {
    Append(PendingAppend),
    Expire(ExpiryPolicy, oneshot::Sender<Result<Expired, StoreError>>),
    /// Runs a function on the connection, for tests.
    #[cfg(test)]
    Visit(Box<dyn FnOnce(&mut Connection) + Send>),
}

/// The state of the writer thread. Fields are dropped in their order, the lock last.
pub(super) struct Writer {
    connection: Connection,
    sessions: SessionCache<CachedSession>,
    counters: Counters,
    /// The reason why nothing is written any more, shared with the store, which reports it.
    broken: Arc<OnceLock<String>>,
    /// The pages in the write-ahead log after the last commit.
    wal_pages: Arc<AtomicU32>,
    /// The pages in the write-ahead log at the last checkpoint.
    checkpoint_pages: u32,
    /// The disk was full at the last transaction.
    disk_full: bool,
    metrics: Metrics,
    identity: Identity,
    continuity: ContinuityFile,
    watch: Watch,
    _lock: Lock,
}

impl Writer {
    pub(super) fn new(
        database: OpenedDatabase,
        broken: Arc<OnceLock<String>>,
        metrics: Metrics,
    ) -> rusqlite::Result<Self> {
        let OpenedDatabase { files, writer: mut connection, identity, continuity, lock } = database;
        let change = newest_change(&connection)?;
        let counters = Counters { change, commit: identity.state.commit };
        let wal_pages = Arc::new(AtomicU32::new(0));
        let pages = Arc::clone(&wal_pages);
        // This replaces SQLite's own checkpoints, which run inside a commit and hide their errors.
        connection.wal_hook(Some(move |_: &mut _, count: i32| {
            pages.store(u32::try_from(count).unwrap_or(0), Ordering::Relaxed);
            Ok(())
        }))?;
        Ok(Self {
            connection,
            sessions: SessionCache::default(),
            counters,
            broken,
            wal_pages,
            checkpoint_pages: 0,
            disk_full: false,
            metrics,
            identity,
            continuity,
            watch: Watch::new(&files),
            _lock: lock,
        })
    }

    /// Runs until all senders of commands are dropped and the queue is empty.
    pub(super) fn run(mut self, mut inbox: mpsc::Receiver<WriterCommand>) {
        let mut batch = Vec::with_capacity(STORE_COMMIT_APPENDS_MAX);
        while let Some(command) = inbox.blocking_recv() {
            let mut next = Some(command);
            while let Some(command) = next.take() {
                match command {
                    WriterCommand::Append(pending) => {
                        batch.push(pending);
                        if batch.len() < STORE_COMMIT_APPENDS_MAX {
                            next = inbox.try_recv().ok();
                        }
                    }
                    WriterCommand::Expire(policy, reply) => {
                        self.commit(&mut batch);
                        drop(reply.send(self.expire(&policy)));
                    }
                    #[cfg(test)]
                    WriterCommand::Visit(visit) => {
                        self.commit(&mut batch);
                        visit(&mut self.connection);
                    }
                }
            }
            self.commit(&mut batch);
            self.checkpoint_if_due();
        }
        self.finish();
    }

    /// Writes a batch, and answers its appends.
    fn commit(&mut self, batch: &mut Vec<PendingAppend>) {
        let results = match batch.len() {
            0 => return,
            _ => self.write(batch),
        };
        self.metrics.store_committed(batch.len());
        for (pending, result) in batch.drain(..).zip(results) {
            // It fails if the caller has gone away.
            drop(pending.reply.send(result));
        }
    }

    /// Returns one result for each append. If one of several may have failed the others, each gets
    /// a transaction of its own.
    fn write(&mut self, batch: &[PendingAppend]) -> Vec<Result<(), StoreError>> {
        let all = self.transact(|transaction| {
            batch.iter().map(|pending| transaction.apply(&pending.prepared)).collect()
        });
        match all {
            Ok(results) => results,
            Err(TransactionError::Rejected(_)) if batch.len() > 1 => {
                batch.iter().map(|pending| self.write_one(pending)).collect()
            }
            Err(error) => {
                let error = self.store_error(error);
                batch.iter().map(|_| Err(error.clone())).collect()
            }
        }
    }

    fn write_one(&mut self, pending: &PendingAppend) -> Result<(), StoreError> {
        let result = self.transact(|transaction| transaction.apply(&pending.prepared));
        result.unwrap_or_else(|error| Err(self.store_error(error)))
    }

    fn expire(&mut self, policy: &ExpiryPolicy) -> Result<Expired, StoreError> {
        // Expiry changes sessions without the cache.
        self.sessions.clear();
        let expired = self.transact(|transaction| expire(transaction.connection(), policy));
        let expired = expired.map_err(|error| self.store_error(error))?;
        if expired.events > 0 {
            tracing::warn!(events = expired.events, "trimmed logs that were too long");
        }
        Ok(expired)
    }

    /// Runs `work` in a transaction and commits it. After an error nothing of it is left, neither
    /// in the database nor in the cache.
    fn transact<T>(
        &mut self,
        work: impl FnOnce(&mut WriteTransaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, TransactionError> {
        if let Some(cause) = self.broken.get() {
            return Err(TransactionError::Broken(cause.clone()));
        }
        if let Some(path) = self.watch.missing() {
            let cause = format!("{} has been deleted or replaced", path.display());
            if self.watch.has_database() {
                // SQLite still has the log without a name, with commits that were acknowledged.
                self.checkpoint("PASSIVE");
            }
            return Err(TransactionError::Broken(cause));
        }
        let counters = self.counters;
        let result = self.try_transact(work);
        match result {
            Ok(_) if self.counters.commit != counters.commit => {
                self.disk_full = false;
                self.continuity.committed(self.counters.commit);
            }
            Ok(_) => self.disk_full = false,
            Err(_) => {
                self.counters = counters;
                self.sessions.clear();
            }
        }
        result
    }

    fn try_transact<T>(
        &mut self,
        work: impl FnOnce(&mut WriteTransaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, TransactionError> {
        let judge = |error| at_statement(&error);
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(judge)?;
        let mut batch =
            WriteTransaction::begin(&transaction, &mut self.sessions, &mut self.counters)
                .map_err(judge)?;
        let result = work(&mut batch).map_err(judge)?;
        batch.finish().map_err(judge)?;
        transaction.commit().map_err(|error| at_commit(&error))?;
        Ok(result)
    }

    /// Takes the consequences of an error, and returns the error for the callers.
    fn store_error(&mut self, error: TransactionError) -> StoreError {
        match error {
            TransactionError::Full(cause) => {
                if !self.disk_full {
                    tracing::warn!(cause, "the disk that holds the store is full");
                }
                self.disk_full = true;
                StoreError::Full(cause)
            }
            TransactionError::Broken(cause) => {
                self.stop_writing(&cause);
                StoreError::Broken(cause)
            }
            TransactionError::Busy(cause) | TransactionError::Rejected(cause) => {
                StoreError::Unavailable(cause)
            }
        }
    }

    fn stop_writing(&mut self, cause: &str) {
        if self.broken.set(cause.to_owned()).is_err() {
            return;
        }
        tracing::error!(cause, "the store failed and takes no more writes, restart the server");
        // Otherwise the close of the connection would write once more.
        let kept = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        if let Err(error) = kept {
            tracing::error!(%error, "the close of the store may write to it");
        }
    }

    /// Runs between batches, when all appends have been answered.
    fn checkpoint_if_due(&mut self) {
        let pages = self.wal_pages.load(Ordering::Relaxed);
        // The log may have been restarted since.
        self.checkpoint_pages = self.checkpoint_pages.min(pages);
        if pages - self.checkpoint_pages < CHECKPOINT_PAGES {
            return;
        }
        self.checkpoint_pages = pages;
        match pages < RESTART_PAGES {
            true => self.checkpoint("PASSIVE"),
            false => self.checkpoint("RESTART"),
        }
    }

    /// Copies the write-ahead log to the database. Committed data is safe without it, so a full
    /// disk only makes the log longer. A disk that fails to sync cannot be trusted.
    fn checkpoint(&mut self, mode: &str) {
        if self.broken.get().is_some() {
            return;
        }
        let sql = format!("PRAGMA wal_checkpoint({mode})");
        let Err(error) = self.connection.query_row(&sql, [], |_| Ok(())) else { return };
        match at_statement(&error) {
            TransactionError::Broken(cause) => self.stop_writing(&cause),
            TransactionError::Full(cause)
            | TransactionError::Busy(cause)
            | TransactionError::Rejected(cause) => {
                tracing::warn!(cause, "the store's write-ahead log could not be checkpointed");
            }
        }
    }

    fn finish(mut self) {
        if self.broken.get().is_none() && self.watch.missing().is_none() {
            self.identity.state.commit = self.counters.commit;
            match self.identity.set_clean(&self.connection, true) {
                Ok(()) => self.continuity.committed(self.identity.state.commit),
                Err(error) => tracing::warn!(%error, "the store could not be marked as closed"),
            }
        }
        self.checkpoint("TRUNCATE");
    }
}
