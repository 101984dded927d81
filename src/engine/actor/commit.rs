//! The end of an append: the batch is durable and its effects are applied, or it is rolled back.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;

use super::SessionActor;
use super::batch::Batch;
use super::inbox::{ActorSource, SessionSnapshot};
use super::load::load;
use super::pipeline::Appended;
use crate::engine::Error;
use crate::machine::Effect;
use crate::store::StoreError;

impl SessionActor {
    /// Sends the batch to the store.
    pub(super) fn append(&mut self, mut batch: Batch) {
        if !batch.is_written() && self.decided_head.is_some() {
            self.appends.push_empty(batch);
            return;
        }
        let codec = self.shared.codec.as_ref();
        let append = batch.append(&self.projection, codec, self.decided_head);
        self.decided_head = Some(append.session.head_sequence);
        let shared = self.shared.clone();
        let appended = async move {
            let events = append.events.len();
            let began = tokio::time::Instant::now();
            shared.store.append(append).await?;
            shared.metrics.events_appended(events as u64);
            let elapsed = began.elapsed();
            shared.metrics.store_appended(elapsed);
            shared.append_time.note(elapsed);
            Ok(())
        };
        self.appends.push(batch, appended.boxed());
    }

    /// Applies the batch if its append succeeded, and rolls it back otherwise. Returns `false` if
    /// the session itself could not be stored, so that the actor has nothing to do.
    pub(super) async fn complete(&mut self, batch: Batch, result: Appended) -> bool {
        match result {
            Ok(()) => {
                self.is_stored = true;
                self.retry_delay = Duration::ZERO;
                self.apply_committed(batch);
                true
            }
            Err(error) => self.roll_back(batch, error).await,
        }
    }

    /// Publishes a durable batch, performs its effects and answers its callers.
    fn apply_committed(&mut self, batch: Batch) {
        for call in &batch.written.settled {
            if let Some(live) = self.live_calls.remove(&call.id) {
                self.release(live);
            }
            self.holds.remove(&call.id);
            self.shared.runner.release(call.id);
        }
        for (call_id, stored_bytes) in &batch.outputs {
            self.shared.runner.acknowledge(*call_id, *stored_bytes);
        }
        if batch.written.settings_changed {
            self.publish_snapshot();
        }
        batch.notification.publish(&self.shared, &self.projection, &batch.written);
        for effect in batch.effects {
            self.perform(effect);
        }
        for (answer, reply) in batch.answers {
            // A caller that has left needs no answer.
            let _ = answer.send(reply);
        }
    }

    /// Answers the callers of the batch, and of those that were decided after it, with the error,
    /// and goes back to what the store has. Calls that were to be stopped are stopped at once; the
    /// reason is recorded when the store works again.
    async fn roll_back(&mut self, batch: Batch, error: StoreError) -> bool {
        let session_id = self.projection.session.id;
        tracing::warn!(%session_id, %error, "an append failed");
        let is_left = error == StoreError::NotOwner;
        let error = Error::from(error);
        let mut batches = vec![batch];
        while !self.appends.is_empty() {
            batches.push(self.appends.next().await.0);
        }
        for batch in batches {
            for (answer, _) in batch.answers {
                // A caller that has left needs no answer.
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
        if is_left {
            self.abandon();
            return false;
        }
        self.is_stored && self.reload().await
    }

    /// Publishes the session with its present settings.
    fn publish_snapshot(&self) {
        let session = Arc::new(self.projection.session.clone());
        self.snapshot.send_replace(SessionSnapshot::Known(session));
    }

    /// Reads the session back from the store. Returns `false` if the store does not have it.
    async fn reload(&mut self) -> bool {
        let session_id = self.projection.session.id;
        self.retry_delay =
            (self.retry_delay * 2).clamp(Duration::from_millis(50), Duration::from_secs(1));
        loop {
            match load(&self.shared, ActorSource::Stored(session_id)).await {
                Ok((projection, stored_head)) => {
                    self.projection = projection;
                    self.decided_head = stored_head;
                    self.publish_snapshot();
                    let projection = &self.projection;
                    self.live_calls.retain(|id, _| projection.call(*id).is_some());
                    self.holds.retain(|id, _| projection.call(*id).is_some());
                    return true;
                }
                Err(Error::SessionNotFound(_)) => return false,
                Err(error) => {
                    tracing::warn!(%session_id, %error, "the session cannot be read back");
                    tokio::select! {
                        () = tokio::time::sleep(Duration::from_secs(1)) => {}
                        () = self.shared.closing.cancelled() => return false,
                        () = self.term.ended() => {
                            self.abandon();
                            return false;
                        }
                    }
                }
            }
        }
    }
}
