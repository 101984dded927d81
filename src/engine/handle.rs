//! A caller's hold on a call: waiting for it, and what going away means.

use tokio::time::Instant;

use super::directory::Handle;
use super::inbox::Message;
use super::topics::Subscription;
use super::{CallVersion, Engine, Error};
use crate::machine::Command;
use crate::model::{Call, CallId, ParkReason, SessionId};

/// A caller's hold on a call in the foreground. Dropping it before the call has settled says
/// that the caller went away.
#[derive(Debug)]
pub struct CallHandle {
    /// The session.
    pub session_id: SessionId,
    /// The call.
    pub call_id: CallId,
    /// An earlier request with the same id started it.
    pub replayed: bool,
    pub(super) engine: Engine,
    pub(super) changes: Subscription<CallId, CallVersion>,
    pub(super) attachment: Option<Attachment>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

/// What tells the actor that a caller has gone away.
#[derive(Debug)]
pub(super) struct Attachment {
    pub(super) engine: Engine,
    pub(super) handle: Handle,
    pub(super) call_id: CallId,
    /// Dropping it says nothing.
    pub(super) is_silent: bool,
}

impl Drop for Attachment {
    fn drop(&mut self) {
        if self.is_silent {
            return;
        }
        let (handle, call_id) = (self.handle.clone(), self.call_id);
        if let Err(error) = handle.inbox.try_send(Message::Detach(call_id)) {
            let message = error.into_inner();
            self.engine.shared.tracker.spawn(async move {
                // Without the actor there is no call to go away from.
                let _ = handle.inbox.send(message).await;
            });
        }
    }
}

impl CallHandle {
    /// Waits until the call has ended or is in the background, and gives its record. When
    /// `park_at` comes first, the call is parked: its caller's deadline is near.
    pub async fn settled(&mut self, park_at: Option<Instant>) -> Result<Call, Error> {
        let mut park_at = park_at;
        let mut version = self.changes.newest();
        loop {
            if version.settled || self.replayed {
                let call = self.record().await?;
                if call.is_task() || call.state.is_terminal() {
                    self.attachment = None;
                    return Ok(call);
                }
            }
            tokio::select! {
                newer = self.changes.changed() => version = newer,
                // Its process is being stopped: what becomes of it is for the next server to say.
                () = self.engine.shared.stopping.cancelled() => {
                    self.stay();
                    return Err(Error::Draining);
                }
                () = sleep_until(park_at) => {
                    park_at = None;
                    self.park(ParkReason::Deadline).await?;
                    version = self.changes.newest();
                }
            }
        }
    }

    /// Parks the call now, if it hasn't settled.
    ///
    /// The command is given by a task of its own: the caller may be the body of an answer, which
    /// nobody polls while its client has no window, and which must not hold a place in the queue
    /// of the session's inbox then.
    pub async fn park(&self, reason: ParkReason) -> Result<(), Error> {
        let Some(attachment) = &self.attachment else { return Ok(()) };
        let command = Command::Park { call_id: self.call_id, reason };
        let (engine, handle) = (self.engine.clone(), attachment.handle.clone());
        let parked = self
            .engine
            .shared
            .tracker
            .spawn(async move { engine.command(&handle, command, None).await });
        parked.await.map_err(|cause| Error::Internal(cause.to_string()))??;
        Ok(())
    }

    /// The sequence of the event that tells of the call's acceptance.
    pub async fn start_sequence(&self) -> Result<u64, Error> {
        Ok(self.record().await?.start_sequence)
    }

    async fn record(&self) -> Result<Call, Error> {
        let call = self.engine.shared.store.call(self.call_id).await?;
        // Deleted since, or expired.
        call.ok_or_else(|| Error::TaskNotFound(self.call_id.background()))
    }

    /// It is the server that ends the request: nobody has gone away from the call.
    pub fn stay(&mut self) {
        if let Some(attachment) = &mut self.attachment {
            attachment.is_silent = true;
        }
    }

    /// The call has settled as far as its caller is concerned: going away means nothing now.
    pub fn release(&mut self) {
        self.attachment = None;
    }
}

/// Sleeps until then; for ever without one.
pub(crate) async fn sleep_until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}
