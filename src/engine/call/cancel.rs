//! Cancelling and deleting tasks.

use std::time::Duration;

use tokio::time::Instant;

use super::Calls;
use crate::engine::follow_up::FollowUps;
use crate::engine::idempotency::Claimed;
use crate::engine::{Error, RequestKey};
use crate::machine::{Cancel, Command, Refusal};
use crate::model::{Call, CallId, Principal};
use crate::store::RequestEffect;

/// A request to cancel a task.
#[derive(Debug, Clone)]
pub struct CancelTask {
    /// The task.
    pub id: CallId,
    /// The request id, or `None` if the request may have its effect again.
    pub request: Option<RequestKey>,
    /// `true` if the task is killed at once.
    pub force: bool,
    /// The reason, for the record.
    pub reason: String,
    /// The time between TERM and KILL, or `None` for the server's default.
    pub grace: Option<Duration>,
    /// The maximum time to wait for the end of the task.
    pub wait: Duration,
    /// `true` if the request is checked only.
    pub dry_run: bool,
}

/// The result of a request to cancel a task.
#[derive(Debug, Clone, PartialEq)]
pub struct Cancelled {
    /// The task as it is now.
    pub call: Call,
    /// `true` if the task had been cancelled before.
    pub replayed: bool,
}

impl Calls {
    /// Asks a task to stop and waits for its end. A task that has ended keeps its result.
    ///
    /// # Errors
    ///
    /// [`Error::TaskNotFound`] if the caller has no such task.
    pub async fn cancel(
        &self,
        principal: &Principal,
        cancel: CancelTask,
    ) -> Result<Cancelled, Error> {
        let deadline = Instant::now() + cancel.wait;
        let call = self.get_task(principal, cancel.id).await?;
        if cancel.dry_run {
            return Ok(Cancelled { call, replayed: false });
        }
        let store = self.shared.store.as_ref();
        let request = cancel.request.as_ref();
        let claim = match self.shared.claims.claim(store, &principal.tenant, request).await? {
            Claimed::First(claim) => claim,
            Claimed::Replay(_) => {
                self.shared.metrics.request_replayed();
                let call = self.wait_for_end(cancel.id, deadline).await?;
                return Ok(Cancelled { call, replayed: true });
            }
        };
        // A second request to cancel a task gets the answer of the first.
        let replayed = call.cancellation.is_some();
        if call.state.is_terminal() && request.is_none() {
            return Ok(Cancelled { call, replayed });
        }
        let (handle, _) = self.shared.own_actor(principal, call.session_id).await?;
        let effect = RequestEffect::CallCancelled(cancel.id);
        let record = self.shared.request_record(principal, request, effect);
        let grace = cancel.grace.unwrap_or(self.shared.options.machine.grace);
        let command = Command::Cancel(Cancel {
            force: cancel.force,
            ..Cancel::new(cancel.id, &*principal.name, cancel.reason, grace)
        });
        handle.command(command, record).await?;
        drop(claim);
        let call = self.wait_for_end(cancel.id, deadline).await?;
        Ok(Cancelled { call, replayed })
    }

    /// Deletes a task that has ended. Returns `true` if an earlier request with the same id did.
    ///
    /// # Errors
    ///
    /// [`Error::TaskNotFound`] if the caller has no such task, and [`Refusal::TaskRunning { call_id: id }`] if it
    /// has not ended.
    pub async fn delete(
        &self,
        principal: &Principal,
        id: CallId,
        request: Option<&RequestKey>,
    ) -> Result<bool, Error> {
        let store = self.shared.store.as_ref();
        let _claim = match self.shared.claims.claim(store, &principal.tenant, request).await? {
            Claimed::First(claim) => claim,
            Claimed::Replay(_) => {
                self.shared.metrics.request_replayed();
                return Ok(true);
            }
        };
        let call = self.get_task(principal, id).await?;
        if !call.state.is_terminal() {
            return Err(Refusal::TaskRunning { call_id: id }.into());
        }
        let (handle, _) = self.shared.own_actor(principal, call.session_id).await?;
        let effect = RequestEffect::CallDeleted(id);
        let record = self.shared.request_record(principal, request, effect);
        handle.command(Command::Delete { call_id: id }, record).await?;
        let follow_ups = FollowUps::new(&self.shared);
        follow_ups.suppress_follow_up(id, "its task was deleted").await?;
        Ok(false)
    }
}
