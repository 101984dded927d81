//! A store whose appends take long, or end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use callpark::store::{Append, MemoryStore, Store as _, StoreError};

use super::appends::{Appends, StoreWith};

/// A store in memory, each append of which takes this time, as if the disk were slow. After so many of
/// them none returns, as if the server had been killed.
pub struct SlowStore {
    inner: Arc<MemoryStore>,
    append_time: Duration,
    appends_left: AtomicUsize,
    exhausted: tokio::sync::Notify,
    /// Appends are made one after the other.
    turn: tokio::sync::Mutex<()>,
}

impl SlowStore {
    /// An empty store.
    pub fn new(append_time: Duration) -> StoreWith<Self> {
        StoreWith(Self { append_time, ..Self::over(Arc::default()).0 })
    }

    /// A store over another one, which has what was appended before the end of this one.
    pub fn over(inner: Arc<MemoryStore>) -> StoreWith<Self> {
        StoreWith(Self {
            inner,
            append_time: Duration::ZERO,
            appends_left: AtomicUsize::new(usize::MAX),
            exhausted: Default::default(),
            turn: Default::default(),
        })
    }

    /// Ends it after so many more appends.
    pub fn end_after(&self, appends: usize) {
        self.appends_left.store(appends, Ordering::SeqCst);
    }

    /// Waits for the first append that does not return.
    pub async fn ended(&self) {
        self.exhausted.notified().await;
    }
}

#[async_trait]
impl Appends for SlowStore {
    fn store(&self) -> &MemoryStore {
        &self.inner
    }

    async fn append(&self, append: Append) -> Result<(), StoreError> {
        let _turn = self.turn.lock().await;
        tokio::time::sleep(self.append_time).await;
        if self.appends_left.load(Ordering::SeqCst) == 0 {
            self.exhausted.notify_one();
            return std::future::pending().await;
        }
        self.appends_left.fetch_sub(1, Ordering::SeqCst);
        self.inner.append(append).await
    }
}
