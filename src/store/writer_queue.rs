//! The queue of the one that writes in a store: a thread or a task.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};

use super::prepared::Prepared;
use super::{Append, StoreError};
use crate::model::limits::STORE_QUEUE_APPENDS_MAX;

/// An append, and the channel for its result. It is written even if its caller has gone away.
pub(super) struct PendingAppend {
    pub(super) prepared: Box<Prepared>,
    pub(super) reply: oneshot::Sender<Result<(), StoreError>>,
}

/// The sending end of the queue of a writer, which takes commands of the type `C`. When the queue is full,
/// callers wait.
pub(super) struct WriterQueue<C> {
    /// `None` once the store is closing.
    sender: Mutex<Option<mpsc::Sender<C>>>,
}

impl<C> fmt::Debug for WriterQueue<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriterQueue").finish_non_exhaustive()
    }
}

impl<C> WriterQueue<C> {
    /// Creates a queue. Returns its end for the writer, too.
    pub(super) fn new() -> (Self, mpsc::Receiver<C>) {
        let (sender, commands) = mpsc::channel(STORE_QUEUE_APPENDS_MAX);
        (Self { sender: Mutex::new(Some(sender)) }, commands)
    }

    /// Prepares an append, sends it to the writer as a command, and waits for its result.
    pub(super) async fn append(
        &self,
        append: Append,
        command: impl FnOnce(PendingAppend) -> C,
    ) -> Result<(), StoreError> {
        let prepared = Box::new(Prepared::new(append)?);
        self.ask(|reply| command(PendingAppend { prepared, reply })).await
    }

    /// Sends a command to the writer, and waits for its answer.
    pub(super) async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> C,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(command(reply)).await?;
        answer.await.map_err(|_| ended())?
    }

    /// Sends a command to the writer.
    pub(super) async fn send(&self, command: C) -> Result<(), StoreError> {
        // A sender that is kept longer would keep the writer from ending.
        self.sender()?.send(command).await.map_err(|_| ended())
    }

    /// Returns an error if the writer has ended, or the store is closing.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        if self.sender()?.is_closed() { Err(ended()) } else { Ok(()) }
    }

    /// Takes no more commands. The writer ends after those that are in the queue.
    pub(super) fn close(&self) {
        drop(self.lock().take());
    }

    /// Returns a sender. The writer does not end while it is kept.
    pub(super) fn sender(&self) -> Result<mpsc::Sender<C>, StoreError> {
        let closed = || StoreError::Unavailable("it is closed".to_owned());
        self.lock().clone().ok_or_else(closed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<mpsc::Sender<C>>> {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ended() -> StoreError {
    StoreError::Unavailable("its writer has ended".to_owned())
}
