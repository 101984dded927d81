//! Readers: connections that can't write, each used by one read at a time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tokio::task::JoinHandle;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::error::{SqliteError, for_reader};
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
pub(super) struct ReaderPool {
    files: Files,
    read_max: Duration,
    /// One permit for each reader. When there is none, reads wait.
    permits: Arc<Semaphore>,
    /// Reads that wait for a permit.
    turns: TaskTracker,
    /// Readers that nobody uses. All of them are opened at the start: what they read from can be
    /// read also when its files have lost their names.
    idle: Mutex<Vec<Connection>>,
}

impl ReaderPool {
    pub(super) fn new(files: Files, read_max: Duration) -> rusqlite::Result<Self> {
        let permits = Arc::new(Semaphore::new(STORE_READERS_MAX));
        let idle = (0..STORE_READERS_MAX).map(|_| files.open_reader());
        let idle = Mutex::new(idle.collect::<Result<_, _>>()?);
        Ok(Self { files, read_max, permits, turns: TaskTracker::new(), idle })
    }

    /// Runs `read` in one read transaction on a thread where it may block. When the caller goes
    /// away, the read ends by itself and its reader comes back.
    ///
    /// The wait for a reader is a task of its own. The caller may be the body of an answer, which
    /// nobody polls while its client has no window: a permit that such a future was given in its
    /// turn would be lost to all others.
    pub(super) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Connection) -> Result<T, SqliteError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let closed = || StoreError::Unavailable("it is closed".to_owned());
        let failed = |cause| StoreError::Unavailable(format!("a read failed: {cause}"));
        let result = match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => self.read_blocking(permit, read).await,
            Err(TryAcquireError::Closed) => return Err(closed()),
            Err(TryAcquireError::NoPermits) => {
                let pool = Arc::clone(self);
                let turn = self.turns.spawn(async move {
                    let permit = Arc::clone(&pool.permits).acquire_owned().await;
                    let permit = permit.map_err(|_| closed())?;
                    Ok(pool.read_blocking(permit, read).await)
                });
                // Who goes away gives up its turn.
                AbortOnDropHandle::new(turn).await.map_err(failed)??
            }
        };
        result.map_err(failed)?.map_err(for_reader)
    }

    fn read_blocking<T: Send + 'static>(
        self: &Arc<Self>,
        permit: OwnedSemaphorePermit,
        read: impl FnOnce(&Connection) -> Result<T, SqliteError> + Send + 'static,
    ) -> JoinHandle<Result<T, SqliteError>> {
        let pool = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let result = pool.read_now(read);
            drop(permit);
            result
        })
    }

    fn read_now<T>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, SqliteError>,
    ) -> Result<T, SqliteError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut reader = match idle {
            Some(reader) => reader,
            // One that failed is gone.
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
        self.turns.close();
        self.turns.wait().await;
        if all.is_ok() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }
}
