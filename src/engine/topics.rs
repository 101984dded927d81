//! Topics: subscriptions to the newest version of a value.
//!
//! A topic carries the version, never the value. A slow subscriber misses versions but not the
//! newest one, and reads the store when it is ready. A topic exists only while it has a subscriber.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use tokio::sync::watch;

use crate::sync::{Mutex, MutexGuard, PoisonError};

/// The number of locks. Each is held for a map look-up only, so waiting for one is unlikely.
const SHARDS: usize = 64;

type Shard<K, V> = Mutex<HashMap<K, watch::Sender<V>>>;

/// The topics of one kind of value.
#[derive(Debug)]
pub(crate) struct Topics<K, V> {
    shards: Arc<[Shard<K, V>]>,
    hasher: RandomState,
}

impl<K, V> Clone for Topics<K, V> {
    fn clone(&self) -> Self {
        Self { shards: self.shards.clone(), hasher: self.hasher.clone() }
    }
}

impl<K: Hash + Eq + Clone, V: Default + PartialOrd> Default for Topics<K, V> {
    fn default() -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::new(HashMap::new())).collect();
        Self { shards, hasher: RandomState::new() }
    }
}

impl<K: Hash + Eq + Clone, V: Default + PartialOrd> Topics<K, V> {
    /// Subscribes to the versions that are published from now on. Subscribe before reading the
    /// value, or a change in between is missed.
    pub(crate) fn subscribe(&self, key: &K) -> Subscription<K, V> {
        let mut shard = self.shard(key);
        let receiver = match shard.get(key) {
            Some(sender) => sender.subscribe(),
            None => {
                let (sender, receiver) = watch::channel(V::default());
                shard.insert(key.clone(), sender);
                receiver
            }
        };
        Subscription { topics: self.clone(), key: key.clone(), receiver: Some(receiver) }
    }

    /// Publishes a version to subscribers, unless a newer one has been published.
    pub(crate) fn publish(&self, key: &K, version: V) {
        if let Some(sender) = self.shard(key).get(key) {
            sender.send_if_modified(|newest| {
                let newer = version > *newest;
                if newer {
                    *newest = version;
                }
                newer
            });
        }
    }

    /// Publishes a version to the subscribers of all keys.
    pub(crate) fn publish_to_all(&self, version: V)
    where
        V: Copy,
    {
        for shard in self.shards.iter() {
            for sender in shard.lock().unwrap_or_else(PoisonError::into_inner).values() {
                sender.send_if_modified(|newest| {
                    let newer = version > *newest;
                    if newer {
                        *newest = version;
                    }
                    newer
                });
            }
        }
    }

    fn shard(&self, key: &K) -> MutexGuard<'_, HashMap<K, watch::Sender<V>>> {
        let hash = self.hasher.hash_one(key) as usize;
        let shard = &self.shards[hash % self.shards.len()];
        // The map is consistent after a panic: every change to it is one call.
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A subscription to one topic. The topic is removed with its last subscription.
#[derive(Debug)]
pub(crate) struct Subscription<K: Hash + Eq + Clone, V: Default + PartialOrd> {
    topics: Topics<K, V>,
    key: K,
    receiver: Option<watch::Receiver<V>>,
}

impl<K: Hash + Eq + Clone, V: Default + PartialOrd + Copy> Subscription<K, V> {
    /// Returns the newest version that was published since the topic was created, or the default if
    /// there was none.
    pub(crate) fn newest(&mut self) -> V {
        self.receiver.as_mut().map(|receiver| *receiver.borrow_and_update()).unwrap_or_default()
    }

    /// Waits for a version that [`Subscription::newest`] has not returned yet, and returns it.
    pub(crate) async fn changed(&mut self) -> V {
        if let Some(receiver) = &mut self.receiver
            && receiver.changed().await.is_ok()
        {
            return *receiver.borrow_and_update();
        }
        // The map holds the sender while this subscription exists.
        std::future::pending().await
    }
}

impl<K: Hash + Eq + Clone, V: Default + PartialOrd> Drop for Subscription<K, V> {
    fn drop(&mut self) {
        let mut shard = self.topics.shard(&self.key);
        drop(self.receiver.take());
        if shard.get(&self.key).is_some_and(|sender| sender.receiver_count() == 0) {
            shard.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_version_between_two_reads_is_not_missed() {
        let topics = Topics::<u8, u64>::default();
        let mut subscription = topics.subscribe(&1);
        assert_eq!(subscription.newest(), 0);
        topics.publish(&1, 7);
        topics.publish(&2, 9);
        assert_eq!(subscription.changed().await, 7);
        topics.publish(&1, 6);
        topics.publish(&1, 8);
        assert_eq!(subscription.changed().await, 8);
    }

    #[tokio::test]
    async fn a_topic_is_removed_with_its_last_subscription() {
        let topics = Topics::<u8, u64>::default();
        let first = topics.subscribe(&1);
        let second = topics.subscribe(&1);
        drop(first);
        assert_eq!(topics.shard(&1).len(), 1);
        drop(second);
        assert_eq!(topics.shard(&1).len(), 0);
    }
}
