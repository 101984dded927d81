//! The readers: connections that cannot write, each used by one read at a time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tokio::task::JoinHandle;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::error::{SqliteError, for_reader};
use super::files::Files;
use crate::model::limits::STORE_READERS_MAX;
use crate::store::StoreError;

/// The time after which a read is interrupted. A snapshot that is held for long keeps the
/// write-ahead log from being emptied.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(1);
/// The steps of SQLite's virtual machine between two checks of the clock.
const CLOCK_STEPS: i32 = 1_000;

#[derive(Debug)]
pub(super) struct ReaderPool {
    files: Files,
    read_timeout: Duration,
    /// One permit for each reader. When there is none, reads wait.
    permits: Arc<Semaphore>,
    /// The reads that wait for a permit.
    waiting: TaskTracker,
    /// Readers that are not in use. All are opened at the start, so that a database whose files
    /// have lost their names can still be read.
    idle: Mutex<Vec<Connection>>,
}

impl ReaderPool {
    pub(super) fn new(files: Files, read_timeout: Duration) -> rusqlite::Result<Self> {
        let permits = Arc::new(Semaphore::new(STORE_READERS_MAX));
        let idle = (0..STORE_READERS_MAX).map(|_| files.open_reader());
        let idle = Mutex::new(idle.collect::<Result<_, _>>()?);
        Ok(Self { files, read_timeout, permits, waiting: TaskTracker::new(), idle })
    }

    /// Runs `read` in one read transaction on a blocking thread. If the caller goes away, the read
    /// ends by itself and its reader is returned to the pool.
    ///
    /// The wait for a reader is a task of its own. The caller may be the body of a response, which
    /// is not polled while its client has no window: a permit that such a future was given would be
    /// lost to all others.
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
                let waiting = self.waiting.spawn(async move {
                    let permit = Arc::clone(&pool.permits).acquire_owned().await;
                    let permit = permit.map_err(|_| closed())?;
                    Ok::<_, StoreError>(pool.read_blocking(permit, read).await)
                });
                // A caller that goes away stops waiting.
                AbortOnDropHandle::new(waiting).await.map_err(failed)??
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
            // A reader that failed was dropped.
            None => self.files.open_reader()?,
        };
        let (start, read_timeout) = (Instant::now(), self.read_timeout);
        reader.progress_handler(CLOCK_STEPS, Some(move || start.elapsed() >= read_timeout))?;
        let snapshot = reader.transaction_with_behavior(TransactionBehavior::Deferred)?;
        let result = read(&snapshot);
        drop(snapshot);
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(reader);
        result
    }

    /// Waits for the reads under way, and refuses later ones.
    pub(super) async fn close(&self) {
        let all = u32::try_from(STORE_READERS_MAX).unwrap_or(u32::MAX);
        // It fails if another caller has closed the pool.
        let all = self.permits.acquire_many(all).await;
        self.permits.close();
        self.waiting.close();
        self.waiting.wait().await;
        if all.is_ok() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }
}
