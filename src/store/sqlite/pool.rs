//! Readers: connections that can't write, each used by one read at a time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::Semaphore;

use super::error::{Error, for_reader};
use super::open::Files;
use crate::model::limits::STORE_READERS_MAX;
use crate::store::StoreError;

/// A read that takes longer is interrupted: a snapshot that is held for long keeps the
/// write-ahead log from being emptied.
pub(super) const READ_MAX: Duration = Duration::from_secs(1);
/// Steps of SQLite's machine between two looks at the clock.
const CLOCK_STEPS: i32 = 1_000;

/// The readers.
#[derive(Debug)]
pub(super) struct Pool {
    files: Files,
    read_max: Duration,
    /// One permit for each reader. When there is none, reads wait.
    permits: Arc<Semaphore>,
    /// Readers that nobody uses. Opened when they are first needed.
    idle: Mutex<Vec<Connection>>,
}

impl Pool {
    pub(super) fn new(files: Files, read_max: Duration) -> Self {
        let permits = Arc::new(Semaphore::new(STORE_READERS_MAX));
        Self { files, read_max, permits, idle: Mutex::default() }
    }

    /// Runs `read` in one read transaction on a thread where it may block. When the caller goes
    /// away, the read ends by itself and its reader comes back.
    pub(super) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        let closed = |_| StoreError::Unavailable("it is closed".to_owned());
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(closed)?;
        let pool = Arc::clone(self);
        let task = tokio::task::spawn_blocking(move || {
            let result = pool.read_now(read);
            drop(permit);
            result
        });
        let failed = |cause| StoreError::Unavailable(format!("a read failed: {cause}"));
        task.await.map_err(failed)?.map_err(for_reader)
    }

    fn read_now<T>(&self, read: impl FnOnce(&Connection) -> Result<T, Error>) -> Result<T, Error> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut reader = match idle {
            Some(reader) => reader,
            None => self.files.open_reader()?,
        };
        let (start, read_max) = (Instant::now(), self.read_max);
        reader.progress_handler(CLOCK_STEPS, Some(move || start.elapsed() >= read_max))?;
        let snapshot = reader.transaction_with_behavior(TransactionBehavior::Deferred)?;
        let result = read(&snapshot);
        drop(snapshot);
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(reader);
        result
    }

    /// Waits for the reads under way; later ones are refused.
    pub(super) async fn close(&self) {
        let all = u32::try_from(STORE_READERS_MAX).unwrap_or(u32::MAX);
        // An error says that somebody else has closed it.
        let all = self.permits.acquire_many(all).await;
        self.permits.close();
        if all.is_ok() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }
}
