//! Waiting for calls. A waiter that leaves has no effect on the call.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Calls;
use crate::engine::actor::ActorMessage;
use crate::engine::replica::term::Term;
use crate::engine::topics::Subscription;
use crate::engine::{CallVersion, Error, Shared, Watched, sleep_until};
use crate::model::{Call, CallId, Principal};

/// The result of a wait for a task.
#[derive(Debug, Clone, PartialEq)]
pub struct Waited {
    /// The task as it is now.
    pub call: Call,
    /// The duration of the wait.
    pub waited: Duration,
}

/// The condition that ends a wait for several tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitMode {
    /// One of the tasks has ended.
    Any,
    /// All of the tasks have ended.
    All,
}

/// The result of a wait for several tasks.
#[derive(Debug, Clone, PartialEq)]
pub struct ManyWaited {
    /// The tasks that have ended, in the order of the request.
    pub settled: Vec<Call>,
    /// The tasks that have not ended.
    pub pending: Vec<Call>,
    /// The duration of the wait.
    pub waited: Duration,
}

/// A subscription to the versions of a call.
#[derive(Debug)]
pub(crate) struct CallWatch {
    shared: Arc<Shared>,
    call_id: CallId,
    versions: Subscription<CallId, CallVersion>,
    /// The term in which this server has the session, and publishes the versions.
    term: Term,
    /// The call may have had versions before the subscription, so its record must be read.
    must_read: bool,
}

impl CallWatch {
    pub(crate) fn new(shared: &Arc<Shared>, call_id: CallId) -> Self {
        let versions = shared.call_versions.subscribe(&call_id);
        let term = shared.ownership.term();
        Self { shared: shared.clone(), call_id, versions, term, must_read: true }
    }

    /// Creates a watch that sees all versions of the call, because the call is not accepted yet.
    pub(crate) fn of_new_call(shared: &Arc<Shared>, call_id: CallId) -> Self {
        Self { must_read: false, ..Self::new(shared, call_id) }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Waits until a version of the call satisfies the predicate, or until the deadline, and
    /// returns the call as it is then, or `None` if it does not exist (any more).
    ///
    /// # Errors
    ///
    /// [`Error::Draining`] if `interrupt` is cancelled before.
    pub(crate) async fn wait_until(
        &mut self,
        predicate: impl Fn(CallVersion) -> bool,
        deadline: Option<Instant>,
        interrupt: &CancellationToken,
    ) -> Result<Option<Call>, Error> {
        // The subscription is older than the read, so no version between them is missed.
        let mut version = self.versions.newest();
        loop {
            let is_late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if self.must_read || is_late || predicate(version) {
                let call = self.shared.store.call(self.call_id).await?;
                self.must_read = false;
                let is_satisfied = |call: &Call| predicate(CallVersion::from(call));
                if is_late || call.as_ref().is_none_or(is_satisfied) {
                    return Ok(call);
                }
            }
            tokio::select! {
                // A settled call is reported, also to callers that the server is about to leave.
                biased;
                newer = self.versions.changed() => version = newer,
                () = sleep_until(deadline) => {}
                () = interrupt.cancelled() => return Err(Error::Draining),
                () = self.term.ended() => return Err(Error::Draining),
            }
        }
    }
}

impl Calls {
    /// Waits until the task has ended or the time is over, and returns the task as it is then.
    /// Acknowledges the task if it has ended and `acknowledge` is set.
    ///
    /// # Errors
    ///
    /// [`Error::TaskNotFound`] if the caller has no such task, [`Error::NotOwner`] if another replica has
    /// its session, and [`Error::Draining`] if the server stops during the wait.
    pub async fn wait(
        &self,
        principal: &Principal,
        id: CallId,
        wait: Duration,
        acknowledge: bool,
    ) -> Result<Waited, Error> {
        let began = Instant::now();
        let mut call = self.get_task(principal, id).await?;
        if !call.state.is_terminal() && !wait.is_zero() {
            let session_id = call.session_id;
            // The record is dropped for the time of the wait.
            drop(call);
            let _held = self.shared.hold(principal, session_id).await?;
            call = self.wait_for_end(id, began + wait).await?;
        }
        if acknowledge && call.state.is_terminal() && call.acknowledge_time.is_none() {
            // Boxed, because most waits do not get here and need no memory for it.
            self.acknowledge(principal, &call).boxed().await?;
        }
        Ok(Waited { call, waited: began.elapsed() })
    }

    async fn acknowledge(&self, principal: &Principal, call: &Call) -> Result<(), Error> {
        let (handle, _) = self.shared.own_actor(principal, call.session_id).await?;
        let call_id = call.id;
        handle.ask(|answer| ActorMessage::Acknowledge { call_id, answer }).await?;
        Ok(())
    }

    /// Waits until one or all of the tasks have ended, or the time is over.
    ///
    /// # Errors
    ///
    /// [`Error::TaskNotFound`], without a wait, if the caller does not have one of the tasks, and
    /// [`Error::Draining`] if the server stops during the wait.
    pub async fn wait_many(
        &self,
        principal: &Principal,
        ids: &[CallId],
        mode: WaitMode,
        wait: Duration,
        acknowledge: bool,
    ) -> Result<ManyWaited, Error> {
        let began = Instant::now();
        let deadline = began + wait;
        let mut calls = Vec::with_capacity(ids.len());
        for id in ids {
            calls.push(self.get_task(principal, *id).await?);
        }
        let is_done = |calls: &[Call]| {
            let ended = calls.iter().filter(|call| call.state.is_terminal()).count();
            match mode {
                WaitMode::Any => ended > 0,
                WaitMode::All => ended == calls.len(),
            }
        };
        let mut waits: FuturesUnordered<_> = calls
            .iter()
            .enumerate()
            .filter(|(_, call)| !call.state.is_terminal())
            .map(|(index, call)| {
                let (id, session_id) = (call.id, call.session_id);
                async move {
                    let ended = match self.shared.hold(principal, session_id).await {
                        Ok(_held) => self.wait_for_end(id, deadline).await,
                        Err(Error::NotOwner { .. }) => {
                            self.wait_for_end_elsewhere(principal, id, deadline).await
                        }
                        Err(error) => Err(error),
                    };
                    (index, ended)
                }
            })
            .collect();
        while !is_done(&calls) {
            let Some((index, call)) = waits.next().await else { break };
            calls[index] = call?;
            if Instant::now() >= deadline {
                break;
            }
        }
        drop(waits);
        // Tasks that still run are returned as they are now, not as they were before the wait.
        for call in calls.iter_mut().filter(|call| !call.state.is_terminal()) {
            *call = self.get_task(principal, call.id).await?;
        }
        if acknowledge {
            for call in calls.iter().filter(|call| call.state.is_terminal()) {
                self.wait(principal, call.id, Duration::ZERO, true).await?;
            }
        }
        let (settled, pending) = calls.into_iter().partition(|call| call.state.is_terminal());
        Ok(ManyWaited { settled, pending, waited: began.elapsed() })
    }

    /// Waits until a task of the caller in a session of another replica has ended or the deadline has
    /// passed. That replica announces each change of the tenant's tasks.
    async fn wait_for_end_elsewhere(
        &self,
        principal: &Principal,
        id: CallId,
        deadline: Instant,
    ) -> Result<Call, Error> {
        let scope = Watched::Tenant(principal.tenant.clone());
        let mut changes = self.shared.changes.subscribe(&scope);
        loop {
            changes.newest();
            let call = self.get_task(principal, id).await?;
            if call.state.is_terminal() || Instant::now() >= deadline {
                return Ok(call);
            }
            tokio::select! {
                _ = changes.changed() => {}
                () = tokio::time::sleep_until(deadline) => {}
                () = self.shared.draining.cancelled() => return Err(Error::Draining),
            }
        }
    }

    /// Waits until a call of the caller has ended or the deadline has passed.
    pub(super) async fn wait_for_end(&self, id: CallId, deadline: Instant) -> Result<Call, Error> {
        let mut watch = CallWatch::new(&self.shared, id);
        let draining = &self.shared.draining;
        let call = watch.wait_until(|version| version.ended, Some(deadline), draining).await?;
        call.ok_or_else(|| Error::TaskNotFound(id.background()))
    }
}
