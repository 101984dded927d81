//! What the actor has given to the store and hasn't heard of yet.
//!
//! Two appends may be under way, so that the store has work while the actor decides what comes
//! next. The second one is made on the word of the first: it names the head that the first will
//! leave, so the store refuses it if the first fails, and nothing is stored of a session that never
//! was. That takes events in the first; behind an append that only changes records, the actor
//! waits.

use std::collections::VecDeque;

use futures::future::{BoxFuture, FutureExt as _};
use futures::stream::{FuturesOrdered, StreamExt as _};

use super::batch::Batch;
use crate::model::limits::ACTOR_APPENDS_MAX;
use crate::store::StoreError;

/// What came of an append.
pub(super) type Appended = Result<(), StoreError>;

/// Batches in the order in which they were decided, each with its append.
#[derive(Default)]
pub(super) struct Appends {
    batches: VecDeque<Batch>,
    results: FuturesOrdered<BoxFuture<'static, Appended>>,
    /// One of them doesn't move the head: what would come next could be stored without it.
    is_loose: bool,
}

impl Appends {
    /// Nothing is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// One more batch may be decided.
    pub(super) fn take_more(&self) -> bool {
        self.is_empty() || (self.batches.len() < ACTOR_APPENDS_MAX && !self.is_loose)
    }

    /// A batch whose append has just been made.
    pub(super) fn push(&mut self, batch: Batch, append: BoxFuture<'static, Appended>) {
        self.is_loose |= !batch.moves_head();
        self.batches.push_back(batch);
        self.results.push_back(append);
    }

    /// A batch without anything to store. It is answered in its turn: what it answers may rest on
    /// what isn't durable yet.
    pub(super) fn push_empty(&mut self, batch: Batch) {
        self.batches.push_back(batch);
        self.results.push_back(futures::future::ready(Ok(())).boxed());
    }

    /// The oldest batch, once it is known what came of it. Never, if there is none.
    pub(super) async fn next(&mut self) -> (Batch, Appended) {
        match self.results.next().await {
            Some(result) => {
                let batch = self.batches.pop_front().unwrap_or_default();
                self.is_loose &= !self.is_empty();
                (batch, result)
            }
            None => std::future::pending().await,
        }
    }
}
