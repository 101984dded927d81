//! The appends of an actor that are under way.
//!
//! Two appends may be under way, so that the store has work while the actor decides the next batch.
//! The second one depends on the first: it names the head that the first will leave, so the store
//! refuses it if the first fails. That only works if the first one adds events. After an append
//! that only changes records, the actor waits.

use std::collections::VecDeque;

use futures::future::{BoxFuture, FutureExt as _};
use futures::stream::{FuturesOrdered, StreamExt as _};

use super::batch::Batch;
use crate::model::limits::ACTOR_APPENDS_MAX;
use crate::store::StoreError;

/// The result of an append.
pub(super) type Appended = Result<(), StoreError>;

/// Batches in the order in which they were decided, each with its append.
#[derive(Default)]
pub(super) struct AppendPipeline {
    batches: VecDeque<Batch>,
    results: FuturesOrdered<BoxFuture<'static, Appended>>,
    /// One of the appends does not move the head, so a later one could be stored although it
    /// failed.
    is_unordered: bool,
}

impl AppendPipeline {
    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Returns whether one more batch may be decided.
    pub(super) fn allows_next(&self) -> bool {
        self.is_empty() || (self.batches.len() < ACTOR_APPENDS_MAX && !self.is_unordered)
    }

    /// Adds a batch whose append has just been created.
    pub(super) fn push(&mut self, batch: Batch, append: BoxFuture<'static, Appended>) {
        self.is_unordered |= !batch.moves_head();
        self.batches.push_back(batch);
        self.results.push_back(append);
    }

    /// Adds a batch with nothing to store. Its answers wait for the appends before it, because they
    /// may depend on what is not durable yet.
    pub(super) fn push_empty(&mut self, batch: Batch) {
        self.batches.push_back(batch);
        self.results.push_back(futures::future::ready(Ok(())).boxed());
    }

    /// Waits for the oldest append and returns its batch with the result. Never returns if nothing
    /// is under way.
    pub(super) async fn next(&mut self) -> (Batch, Appended) {
        match self.results.next().await {
            Some(result) => {
                let batch = self.batches.pop_front().unwrap_or_default();
                self.is_unordered &= !self.is_empty();
                (batch, result)
            }
            None => std::future::pending().await,
        }
    }
}
