//! What becomes of a batch that the actor has decided: it is durable, or it has not happened.

use std::time::Duration;

use futures::FutureExt as _;

use super::appends::Appended;
use super::batch::Batch;
use super::inbox::Origin;
use super::session::Actor;
use super::{Error, Shared};
use crate::machine::{Effect, Projection};
use crate::store::StoreError;

impl Actor {
    /// Gives the batch to the store.
    pub(super) fn append(&mut self, mut batch: Batch) {
        if !batch.is_written() && self.decided_head.is_some() {
            self.appends.push_empty(batch);
            return;
        }
        let append = batch.append(self);
        self.decided_head = Some(append.session.head_sequence);
        let shared = self.shared.clone();
        let appended = async move {
            let events = append.events.len();
            let began = tokio::time::Instant::now();
            shared.store.append(append).await?;
            shared.metrics.events_appended(events as u64);
            shared.metrics.store_appended(began.elapsed());
            Ok(())
        };
        self.appends.push(batch, appended.boxed());
    }

    /// Acts and answers, now that the batch is durable; or not at all. False: the session could not
    /// even be stored, and there is nothing to be in charge of.
    pub(super) async fn settle(&mut self, batch: Batch, result: Appended) -> bool {
        match result {
            Ok(()) => {
                self.is_stored = true;
                self.retry_delay = Duration::ZERO;
                self.act(batch);
                true
            }
            Err(error) => self.fail(batch, error).await,
        }
    }

    /// Nothing of the batch has happened, nor of those that were decided on its word: says so, and
    /// goes back to what the store has. But what was to be stopped is stopped at once, and the
    /// reason is recorded when it can be.
    async fn fail(&mut self, batch: Batch, error: StoreError) -> bool {
        let session_id = self.projection.session.id;
        tracing::warn!(%session_id, %error, "an append failed");
        let error = Error::from(error);
        let mut batches = vec![batch];
        while !self.appends.is_empty() {
            batches.push(self.appends.next().await.0);
        }
        for batch in batches {
            for (answer, _) in batch.answers {
                // An asker who has left needs no answer.
                let _ = answer.send(Err(error.clone()));
            }
            for effect in batch.effects {
                let stops = match &effect {
                    Effect::Terminate(id, _) | Effect::Kill(id) => Some(*id),
                    _ => None,
                };
                if batch.reports.iter().any(|report| stops.is_some() && report.stops() == stops) {
                    self.perform(effect);
                }
            }
            self.unsaved.extend(batch.reports);
        }
        self.is_stored && self.reload().await
    }

    /// Goes back to what the store has. False: it has nothing.
    async fn reload(&mut self) -> bool {
        let session_id = self.projection.session.id;
        self.retry_delay =
            (self.retry_delay * 2).clamp(Duration::from_millis(50), Duration::from_secs(1));
        loop {
            match load(&self.shared, Origin::Stored(session_id)).await {
                Ok((projection, stored_head)) => {
                    self.projection = projection;
                    self.decided_head = stored_head;
                    let live = &self.projection;
                    self.runs.retain(|id, _| live.call(*id).is_some());
                    return true;
                }
                Err(Error::SessionNotFound(_)) => return false,
                Err(error) => {
                    tracing::warn!(%session_id, %error, "the session can't be read back");
                    tokio::select! {
                        () = tokio::time::sleep(Duration::from_secs(1)) => {}
                        () = self.shared.closing.cancelled() => return false,
                    }
                }
            }
        }
    }

    /// What was decided is durable: it is done, told to readers, and answered.
    fn act(&mut self, batch: Batch) {
        for call in &batch.written.settled {
            if let Some(run) = self.runs.remove(&call.id) {
                self.forget(run);
            }
        }
        self.shared.tell(&self.projection, &batch);
        for effect in batch.effects {
            self.perform(effect);
        }
        for (answer, reply) in batch.answers {
            // An asker who has left needs no answer.
            let _ = answer.send(reply);
        }
    }
}

/// A session with its live calls, and the head that the store has; none for a new session.
pub(super) async fn load(
    shared: &Shared,
    origin: Origin,
) -> Result<(Projection, Option<u64>), Error> {
    match origin {
        Origin::New(session) => {
            Ok((Projection::new(*session, Vec::new(), shared.options.machine), None))
        }
        Origin::Stored(id) => {
            let session = shared.store.session(id).await?;
            let session = session.ok_or_else(|| Error::SessionNotFound(id.to_string()))?;
            let live = shared.store.live_calls(id).await?;
            let head = session.head_sequence;
            Ok((Projection::new(session, live, shared.options.machine), Some(head)))
        }
    }
}
