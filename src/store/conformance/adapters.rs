//! The adapters of this crate, each tested with each case.

use std::sync::Arc;

use crate::store::{CachedStore, MemoryStore, SqliteOptions, SqliteStore, Store, Synchronous};
use crate::telemetry::Metrics;

/// A new, empty store.
pub(super) struct Fixture {
    pub(super) store: Box<dyn Store>,
    /// Removed when the case is over.
    _directory: Option<tempfile::TempDir>,
}

pub(super) fn in_memory() -> Fixture {
    Fixture { store: Box::new(MemoryStore::new()), _directory: None }
}

pub(super) fn in_sqlite() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    // No case is about a loss of power, and syncs make the suite slow.
    let options = SqliteOptions { path, synchronous: Synchronous::Normal };
    let store = Box::new(SqliteStore::open(&options, Metrics::default()).unwrap());
    Fixture { store, _directory: Some(directory) }
}

/// A cache must not change any answer of the store behind it.
pub(super) fn in_memory_cached() -> Fixture {
    let store = CachedStore::new(Arc::new(MemoryStore::new()), Metrics::default());
    Fixture { store: Box::new(store), _directory: None }
}

macro_rules! test_adapter {
    ($adapter:ident, $open:ident, $($file:ident { $($case:ident)* })*) => {
        mod $adapter {
            $(mod $file {
                $(
                    #[tokio::test]
                    async fn $case() {
                        let fixture = super::super::adapters::$open();
                        super::super::$file::$case(&*fixture.store).await;
                        fixture.store.close().await;
                    }
                )*
            })*
        }
    };
}

macro_rules! test_each_adapter {
    ($($cases:tt)*) => {
        $crate::store::conformance::adapters::test_adapter!(memory, in_memory, $($cases)*);
        $crate::store::conformance::adapters::test_adapter!(sqlite, in_sqlite, $($cases)*);
        $crate::store::conformance::adapters::test_adapter!(cached, in_memory_cached, $($cases)*);
    };
}

pub(super) use {test_adapter, test_each_adapter};
