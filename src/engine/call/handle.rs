//! A caller's handle of a call: waiting for the call, and the effect of leaving it.

use std::sync::Arc;

use tokio::time::Instant;

use super::CallWatch;
use crate::engine::actor::{ActorHandle, ActorMessage};
use crate::engine::{CallVersion, Error, Shared, look_at};
use crate::machine::Command;
use crate::model::{Call, CallId, ParkReason, SessionId, TurnId};

/// A caller's handle of a call. Dropping the handle of a call in the foreground before the call has
/// settled reports that the caller has left.
#[derive(Debug)]
pub struct CallHandle {
    /// The session.
    pub session_id: SessionId,
    /// The call.
    pub call_id: CallId,
    /// `true` if an earlier request with the same id started the call.
    pub replayed: bool,
    pub(super) watch: CallWatch,
    /// The caller's presence, or `None` if it does not wait in the foreground.
    pub(super) attachment: Option<Attachment>,
}

/// The presence of a caller in the foreground of a call. Dropping it notifies the actor.
#[derive(Debug)]
pub(super) struct Attachment {
    shared: Arc<Shared>,
    handle: ActorHandle,
    call_id: CallId,
    /// Dropping it does not notify the actor.
    is_silent: bool,
}

impl Attachment {
    pub(super) fn new(shared: &Arc<Shared>, handle: ActorHandle, call_id: CallId) -> Self {
        Self { shared: shared.clone(), handle, call_id, is_silent: false }
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        // Once the server stops, the next one decides about the callers that were there.
        if self.is_silent || self.shared.stopping.is_cancelled() {
            return;
        }
        let (handle, call_id) = (self.handle.clone(), self.call_id);
        if let Err(error) = handle.inbox.try_send(ActorMessage::Detach(call_id)) {
            let message = error.into_inner();
            self.shared.tracker.spawn(async move {
                // If the actor has ended, there is no call to leave.
                let _ = handle.inbox.send(message).await;
            });
        }
    }
}

impl CallHandle {
    /// Returns the id of the turn that the call is.
    pub fn turn_id(&self) -> TurnId {
        turn_of(self.call_id)
    }

    /// Waits until the call has ended or is in the background, and returns its record. If the time that
    /// `leave_at` returns comes first, the caller's deadline is near, and the call is parked or cancelled
    /// as its `on_disconnect` says. That time is asked for again now and then, as it may come closer.
    ///
    /// # Errors
    ///
    /// [`Error::Draining`] if the server stops: the next server decides what becomes of the call.
    pub async fn wait_settled(
        &mut self,
        leave_at: impl Fn() -> Option<Instant>,
    ) -> Result<Call, Error> {
        let mut has_left = false;
        loop {
            let time = if has_left { None } else { leave_at() };
            let stopping = self.shared().stopping.clone();
            let is_settled = |version: CallVersion| version.settled;
            let waited = self.watch.wait_until(is_settled, look_at(time), &stopping).await;
            if waited == Err(Error::Draining) {
                self.detach_silently();
            }
            let call = waited?.ok_or_else(|| self.not_found())?;
            if CallVersion::from(&call).settled {
                self.detach();
                return Ok(call);
            }
            if time.is_some_and(|time| Instant::now() >= time) {
                has_left = true;
                self.leave_for_deadline().await?;
            }
        }
    }

    /// Waits until the call has ended, in the background or not, and returns its record.
    ///
    /// # Errors
    ///
    /// [`Error::Draining`] if the server is about to stop.
    pub async fn wait_ended(&mut self) -> Result<Call, Error> {
        let draining = self.shared().draining.clone();
        let waited = self.watch.wait_until(|version| version.ended, None, &draining).await;
        if waited.is_err() {
            self.detach_silently();
        }
        let call = waited?.ok_or_else(|| self.not_found())?;
        self.detach();
        Ok(call)
    }

    /// Parks or cancels the call, as its `on_disconnect` says, because its caller's deadline is near.
    /// A call that has settled is left as it is.
    ///
    /// A task of its own sends the command. The caller may be the body of an answer, which is not
    /// polled while its client has no flow-control window, and a body that is not polled must not
    /// hold its position in the queue for the session's inbox.
    ///
    /// # Errors
    ///
    /// The error of the command.
    pub async fn leave_for_deadline(&self) -> Result<(), Error> {
        let Some(attachment) = &self.attachment else { return Ok(()) };
        let command = Command::Disconnect { call_id: self.call_id, reason: ParkReason::Deadline };
        let handle = attachment.handle.clone();
        let tracker = &attachment.shared.tracker;
        let left = tracker.spawn(async move { handle.command(command, None).await });
        left.await.map_err(|cause| Error::Internal(cause.to_string()))??;
        Ok(())
    }

    /// Returns the sequence of the event that reports the call's acceptance.
    ///
    /// # Errors
    ///
    /// [`Error::TaskNotFound`] if the call has been deleted or has expired.
    pub async fn accept_sequence(&self) -> Result<u64, Error> {
        let call = self.shared().store.call(self.call_id).await?;
        Ok(call.ok_or_else(|| self.not_found())?.accept_sequence)
    }

    /// Detaches the caller without notifying the actor, because the server ends the request.
    pub fn detach_silently(&mut self) {
        if let Some(attachment) = &mut self.attachment {
            attachment.is_silent = true;
        }
    }

    /// Detaches the caller, because the call has settled. The actor ignores the notification.
    pub fn detach(&mut self) {
        self.attachment = None;
    }

    fn shared(&self) -> &Arc<Shared> {
        self.watch.shared()
    }

    /// Returns the error for a call that has been deleted or has expired.
    fn not_found(&self) -> Error {
        Error::TaskNotFound(self.call_id.background())
    }
}

/// Returns the id of the turn that a call is: both have the same bytes.
pub(crate) fn turn_of(call_id: CallId) -> TurnId {
    TurnId::from_bytes(*call_id.as_bytes())
}
