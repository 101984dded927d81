//! The other replicas, as this one asks them.

use async_trait::async_trait;

/// Asks the other replicas.
#[async_trait]
pub trait Peers: Send + Sync + 'static {
    /// Returns whether the replica at this address can write in the store, or `None` if it does not
    /// answer in time.
    async fn can_write(&self, address: &str) -> Option<bool>;
}
