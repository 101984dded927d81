//! Timers in a queue, as the actor of a session has them.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;

use super::{Instant, Sleep, sleep_until};

pub mod delay_queue {
    /// The key of a timer.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    pub struct Key(pub(super) u64);

    /// A timer that is due.
    pub struct Expired<T>(pub(super) T);

    impl<T> Expired<T> {
        pub fn into_inner(self) -> T {
            self.0
        }
    }
}

use delay_queue::{Expired, Key};

/// `tokio_util::time::DelayQueue`, for a task that is the only one to touch and to poll it.
pub struct DelayQueue<T> {
    timers: BTreeMap<Key, (Instant, T)>,
    count: u64,
    sleep: Option<Sleep>,
}

impl<T> DelayQueue<T> {
    pub fn new() -> Self {
        Self { timers: BTreeMap::new(), count: 0, sleep: None }
    }

    pub fn is_empty(&self) -> bool {
        self.timers.is_empty()
    }

    pub fn insert(&mut self, value: T, after: Duration) -> Key {
        self.count += 1;
        let key = Key(self.count);
        self.timers.insert(key, (Instant::now() + after, value));
        key
    }

    pub fn reset(&mut self, key: &Key, after: Duration) {
        let timer = self.timers.get_mut(key).expect("tokio_util panics without the timer, too");
        timer.0 = Instant::now() + after;
    }

    pub fn try_remove(&mut self, key: &Key) -> Option<Expired<T>> {
        // Nothing polls a timer that isn't there, so time must not leap to it.
        self.sleep = None;
        self.timers.remove(key).map(|(_, value)| Expired(value))
    }
}

impl<T: Unpin> Stream for DelayQueue<T> {
    type Item = Expired<T>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Expired<T>>> {
        let next = self.timers.iter().map(|(key, (due, _))| (*due, *key)).min();
        let Some((due, key)) = next else { return Poll::Ready(None) };
        let mut sleep = sleep_until(due);
        let woken = Pin::new(&mut sleep).poll(context);
        self.sleep = Some(sleep);
        woken.map(|()| self.timers.remove(&key).map(|(_, value)| Expired(value)))
    }
}
