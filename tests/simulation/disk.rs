//! A store that outlives its server, has delays, and fails on request.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use callpark::store::{Append, MemoryStore, Store as _, StoreError};
use rand::RngExt as _;
use rand::rngs::StdRng;

use crate::appends::{Appends, StoreWith};

/// The longest delay until an append is durable, and until its writer is notified.
const DELAY_MAX_MS: u64 = 8;

/// The stored data, and the state of the disk.
pub struct Disk {
    pub store: MemoryStore,
    delays: Mutex<StdRng>,
    /// Appends fail, and change nothing.
    fails: AtomicBool,
}

impl Disk {
    pub fn new(delays: StdRng) -> Self {
        Self { store: MemoryStore::new(), delays: Mutex::new(delays), fails: false.into() }
    }

    /// From now on appends fail, or don't.
    pub fn fail(&self, fails: bool) {
        self.fails.store(fails, Ordering::Relaxed);
    }

    fn delay(&self) -> Duration {
        let mut delays = self.delays.lock().expect("no panic");
        Duration::from_millis(delays.random_range(0..=DELAY_MAX_MS))
    }
}

/// The disk, as one life of the server sees it.
pub struct Mounted {
    disk: Arc<Disk>,
    /// Appends become durable in the order in which they are made.
    turn: tokio::sync::Mutex<()>,
}

impl Mounted {
    pub fn new(disk: &Arc<Disk>) -> StoreWith<Self> {
        StoreWith(Self { disk: disk.clone(), turn: tokio::sync::Mutex::default() })
    }
}

#[async_trait]
impl Appends for Mounted {
    fn store(&self) -> &MemoryStore {
        &self.disk.store
    }

    async fn append(&self, append: Append) -> Result<(), StoreError> {
        let appended = {
            let _turn = self.turn.lock().await;
            tokio::time::sleep(self.disk.delay()).await;
            if self.disk.fails.load(Ordering::Relaxed) {
                return Err(StoreError::Unavailable("the simulation says so".to_owned()));
            }
            self.disk.store.append(append).await
        };
        // A crash in this span: durable, but not acknowledged.
        tokio::time::sleep(self.disk.delay()).await;
        appended
    }

    /// The disk stays: the next life of the server finds it.
    async fn close(&self) {}
}
