//! Cancelling and forgetting tasks.

use std::time::Duration;

use tokio::time::Instant;

use super::requests::Claimed;
use super::{Engine, Error, RequestKey};
use crate::machine::{Cancel, Command, Refusal};
use crate::model::{Call, CallId, Principal};
use crate::store::RequestEffect;

/// A task that somebody wants to stop.
#[derive(Debug, Clone)]
pub struct CancelTask {
    /// Which.
    pub id: CallId,
    /// The id of the request.
    pub request: Option<RequestKey>,
    /// Kill at once.
    pub force: bool,
    /// Why.
    pub reason: String,
    /// From TERM to KILL; none: the server's default.
    pub grace: Option<Duration>,
    /// How long to wait for its end.
    pub wait: Duration,
    /// Say what would happen, and do nothing.
    pub dry_run: bool,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Cancelled {
    /// The task as it is now.
    pub call: Call,
    /// It had been asked for before.
    pub replayed: bool,
}

impl Engine {
    /// Asks a task to stop and waits a while for its end. One that has ended keeps its result.
    pub async fn cancel(&self, who: &Principal, cancel: CancelTask) -> Result<Cancelled, Error> {
        let until = Instant::now() + cancel.wait;
        let call = self.task(who, cancel.id).await?;
        if cancel.dry_run {
            return Ok(Cancelled { call, replayed: false });
        }
        let store = self.shared.store.as_ref();
        let request = cancel.request.as_ref();
        let claim = match self.shared.claims.claim(store, &who.tenant, request).await? {
            Claimed::First(claim) => claim,
            Claimed::Replay(_) => {
                self.shared.metrics.request_replayed();
                let call = self.wait_until(who, cancel.id, until).await?;
                return Ok(Cancelled { call, replayed: true });
            }
        };
        // Asked for before: cancelling twice gives the same answer.
        let replayed = call.cancellation.is_some();
        if call.state.is_terminal() && request.is_none() {
            return Ok(Cancelled { call, replayed });
        }
        let (handle, _) = self.own_actor(who, call.session_id).await?;
        let record = self.record(who, request, RequestEffect::CallCancelled(cancel.id));
        let grace = cancel.grace.unwrap_or(self.shared.options.machine.grace);
        let command = Command::Cancel(Cancel {
            force: cancel.force,
            ..Cancel::new(cancel.id, &*who.name, cancel.reason, grace)
        });
        self.command(&handle, command, record).await?;
        drop(claim);
        let call = self.wait_until(who, cancel.id, until).await?;
        Ok(Cancelled { call, replayed })
    }

    /// Forgets a finished task. True: an earlier request with the same id did.
    pub async fn delete(
        &self,
        who: &Principal,
        id: CallId,
        request: Option<&RequestKey>,
    ) -> Result<bool, Error> {
        let store = self.shared.store.as_ref();
        let _claim = match self.shared.claims.claim(store, &who.tenant, request).await? {
            Claimed::First(claim) => claim,
            Claimed::Replay(_) => {
                self.shared.metrics.request_replayed();
                return Ok(true);
            }
        };
        let call = self.task(who, id).await?;
        if !call.state.is_terminal() {
            return Err(Refusal::TaskRunning.into());
        }
        let (handle, _) = self.own_actor(who, call.session_id).await?;
        let record = self.record(who, request, RequestEffect::CallDeleted(id));
        self.command(&handle, Command::Delete { call_id: id }, record).await?;
        self.suppress_follow_up(id, "its task was deleted").await?;
        Ok(false)
    }
}
