//! Replacements for `tokio::task` and `tokio_util::task`, by shuttle.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use shuttle_tokio::task::{JoinError, JoinHandle};

pub use shuttle_tokio::task::spawn_blocking;
pub use shuttle_tokio_util::task::TaskTracker;

/// As in tokio-util: dropping it ends its task.
pub struct AbortOnDropHandle<T>(JoinHandle<T>);

impl<T> AbortOnDropHandle<T> {
    pub fn new(task: JoinHandle<T>) -> Self {
        Self(task)
    }
}

impl<T> Future for AbortOnDropHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx)
    }
}

impl<T> Drop for AbortOnDropHandle<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
