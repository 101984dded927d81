//! The writer: one thread that owns the only connection that writes.
//!
//! Group commit: it takes the appends that are waiting, writes them in one transaction with one
//! sync, and then answers them all. Nobody waits for company: a lone append is committed alone.

use std::fs::File;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::error::{TransactionError, at_commit, at_statement};
use super::expire::expire;
use super::lists::newest_change;
use super::open::Identity;
use super::session_cache::SessionCache;
use super::write::{Prepared, WriteTransaction};
use crate::model::limits::STORE_COMMIT_APPENDS_MAX;
use crate::store::{Expired, ExpiryPolicy, StoreError};
use crate::telemetry::Metrics;

/// The write-ahead log is copied to the database whenever it has grown by so many pages.
const CHECKPOINT_PAGES: u32 = 4_096;
/// Beyond so many pages it is also begun anew, which may wait for readers.
const RESTART_PAGES: u32 = 16_384;

/// What the writer is asked to do.
pub(super) enum WriterCommand {
    Append(PendingAppend),
    Expire(ExpiryPolicy, oneshot::Sender<Result<Expired, StoreError>>),
    /// Something that only tests do to the connection.
    #[cfg(test)]
    Visit(Box<dyn FnOnce(&mut Connection) + Send>),
}

/// An append and who waits for it. If nobody does any more, it is written all the same.
pub(super) struct PendingAppend {
    pub(super) prepared: Box<Prepared>,
    pub(super) reply: oneshot::Sender<Result<(), StoreError>>,
}

/// The thread's own state. Fields are dropped in their order: the lock goes last.
pub(super) struct Writer {
    connection: Connection,
    sessions: SessionCache,
    /// The newest change number.
    change: u64,
    /// Why nothing is written any more; shared with the store, which tells it.
    broken: Arc<OnceLock<String>>,
    /// Pages in the write-ahead log, as the last commit left it.
    wal_pages: Arc<AtomicU32>,
    /// How many there were at the last checkpoint.
    checkpoint_pages: u32,
    /// The last transaction found the disk full.
    full: bool,
    metrics: Metrics,
    identity: Identity,
    _lock: File,
}

impl Writer {
    pub(super) fn new(
        mut connection: Connection,
        lock: File,
        identity: Identity,
        broken: Arc<OnceLock<String>>,
        metrics: Metrics,
    ) -> rusqlite::Result<Self> {
        let change = newest_change(&connection)?;
        let wal_pages = Arc::new(AtomicU32::new(0));
        let pages = Arc::clone(&wal_pages);
        // Instead of SQLite's own checkpoints, which run inside a commit and hide their errors.
        connection.wal_hook(Some(move |_: &mut _, count: i32| {
            pages.store(u32::try_from(count).unwrap_or(0), Ordering::Relaxed);
            Ok(())
        }))?;
        Ok(Self {
            connection,
            sessions: SessionCache::default(),
            change,
            broken,
            wal_pages,
            checkpoint_pages: 0,
            full: false,
            metrics,
            identity,
            _lock: lock,
        })
    }

    /// Works until every sender of commands is gone and the queue is empty.
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

    /// Writes the batch and answers it.
    fn commit(&mut self, batch: &mut Vec<PendingAppend>) {
        let results = match batch.len() {
            0 => return,
            _ => self.write(batch),
        };
        self.metrics.store_committed(batch.len());
        for (pending, result) in batch.drain(..).zip(results) {
            // Nobody listens any more: the caller has gone away.
            drop(pending.reply.send(result));
        }
    }

    /// One result for each append. When one of several may have failed the others, each gets a
    /// transaction of its own.
    fn write(&mut self, batch: &[PendingAppend]) -> Vec<Result<(), StoreError>> {
        let all = self.transact(|transaction| {
            batch.iter().map(|pending| transaction.settle(&pending.prepared)).collect()
        });
        match all {
            Ok(results) => results,
            Err(TransactionError::Rejected(_)) if batch.len() > 1 => {
                batch.iter().map(|pending| self.write_one(pending)).collect()
            }
            Err(fault) => {
                let error = self.judge(fault);
                batch.iter().map(|_| Err(error.clone())).collect()
            }
        }
    }

    fn write_one(&mut self, pending: &PendingAppend) -> Result<(), StoreError> {
        let result = self.transact(|transaction| transaction.settle(&pending.prepared));
        result.unwrap_or_else(|fault| Err(self.judge(fault)))
    }

    fn expire(&mut self, policy: &ExpiryPolicy) -> Result<Expired, StoreError> {
        // It changes sessions behind the back of what is remembered of them.
        self.sessions.clear();
        let expired = self.transact(|transaction| expire(transaction.connection(), policy));
        let expired = expired.map_err(|fault| self.judge(fault))?;
        if expired.events > 0 {
            tracing::warn!(events = expired.events, "trimmed logs that were too long");
        }
        Ok(expired)
    }

    /// Does `work` in a transaction and commits it. After a failure nothing of it is there, in
    /// the database or in what the writer remembers.
    fn transact<T>(
        &mut self,
        work: impl FnOnce(&mut WriteTransaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, TransactionError> {
        if let Some(cause) = self.broken.get() {
            return Err(TransactionError::Broken(cause.clone()));
        }
        if !self.identity.is_there() {
            return Err(TransactionError::Broken(
                "somebody has deleted or replaced its file".to_owned(),
            ));
        }
        let change = self.change;
        let result = self.try_transact(work);
        match result {
            Ok(_) => self.full = false,
            Err(_) => {
                self.change = change;
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
        let mut batch = WriteTransaction::begin(&transaction, &mut self.sessions, &mut self.change)
            .map_err(judge)?;
        let result = work(&mut batch).map_err(judge)?;
        batch.finish().map_err(judge)?;
        transaction.commit().map_err(|error| at_commit(&error))?;
        Ok(result)
    }

    /// What a failure means from now on, and what its appends are told.
    fn judge(&mut self, fault: TransactionError) -> StoreError {
        match fault {
            TransactionError::Full(cause) => {
                if !self.full {
                    tracing::warn!(cause, "the disk that holds the store is full");
                }
                self.full = true;
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
        // Closing the connection would write once more.
        let kept = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        if let Err(error) = kept {
            tracing::error!(%error, "closing the store may write to it");
        }
    }

    /// Between batches, when everybody has been answered.
    fn checkpoint_if_due(&mut self) {
        let pages = self.wal_pages.load(Ordering::Relaxed);
        // The log has begun anew since.
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

    /// Copies the write-ahead log to the database. What is committed is safe without it, so a
    /// full disk only makes the log longer; but one that fails to sync is not to be trusted.
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
                tracing::warn!(cause, "the store's write-ahead log couldn't be checkpointed");
            }
        }
    }

    fn finish(mut self) {
        self.checkpoint("TRUNCATE");
    }
}
