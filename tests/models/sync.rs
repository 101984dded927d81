//! Replacements for `tokio::sync`, `tokio_util::sync` and the engine's locks, by shuttle.

pub use shuttle::sync::{Mutex, MutexGuard};
pub use shuttle_tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
pub use shuttle_tokio_util::sync::CancellationToken;
pub use std::sync::PoisonError;

/// `tokio::sync::mpsc`, with the count of senders that shuttle's lacks.
pub mod mpsc {
    use std::fmt;
    use std::sync::Arc;

    use shuttle::sync::atomic::{AtomicUsize, Ordering};
    use shuttle_tokio::sync::mpsc as inner;

    pub use inner::Receiver;
    pub use inner::error::SendError;

    /// A channel for this many messages.
    pub fn channel<T>(messages_max: usize) -> (Sender<T>, Receiver<T>) {
        let (sender, receiver) = inner::channel(messages_max);
        (Sender { sender, count: Arc::new(AtomicUsize::new(1)) }, receiver)
    }

    pub struct Sender<T> {
        sender: inner::Sender<T>,
        count: Arc<AtomicUsize>,
    }

    impl<T> Sender<T> {
        pub async fn send(&self, message: T) -> Result<(), SendError<T>> {
            self.sender.send(message).await
        }

        pub async fn reserve(&self) -> Result<inner::Permit<'_, T>, SendError<()>> {
            self.sender.reserve().await
        }

        pub fn try_send(&self, message: T) -> Result<(), Unsent<T>> {
            self.sender.try_send(message).map_err(Unsent)
        }

        pub fn strong_count(&self) -> usize {
            self.count.load(Ordering::SeqCst)
        }
    }

    impl<T> Clone for Sender<T> {
        fn clone(&self) -> Self {
            self.count.fetch_add(1, Ordering::SeqCst);
            Self { sender: self.sender.clone(), count: self.count.clone() }
        }
    }

    /// As in tokio, a sender counts until it is dropped, and the channel ends after that.
    impl<T> Drop for Sender<T> {
        fn drop(&mut self) {
            self.count.fetch_sub(1, Ordering::SeqCst);
        }
    }

    impl<T> fmt::Debug for Sender<T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("Sender").finish_non_exhaustive()
        }
    }

    pub struct Unsent<T>(inner::error::TrySendError<T>);

    impl<T> Unsent<T> {
        pub fn into_inner(self) -> T {
            match self.0 {
                inner::error::TrySendError::Full(message)
                | inner::error::TrySendError::Closed(message) => message,
            }
        }
    }
}
