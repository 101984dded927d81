//! Waiting for tasks: read; done, so answer; not done, so wait for a newer version; at most until
//! the time is up. Leaving never touches the task.

use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::inbox::Message;
use super::{Engine, Error};
use crate::model::{Call, CallId, Principal};

/// What came of a wait.
#[derive(Debug, Clone, PartialEq)]
pub struct Waited {
    /// The task as it is now.
    pub call: Call,
    /// How long the wait was.
    pub waited: Duration,
}

/// When a wait for several tasks is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitMode {
    /// When one has ended.
    Any,
    /// When all have.
    All,
}

/// What came of a wait for several tasks.
#[derive(Debug, Clone, PartialEq)]
pub struct ManyWaited {
    /// Those that have ended, in the order of the question.
    pub settled: Vec<Call>,
    /// Those that have not.
    pub pending: Vec<Call>,
    /// How long the wait was.
    pub waited: Duration,
}

impl Engine {
    /// A background task, as it is now.
    pub async fn task(&self, who: &Principal, id: CallId) -> Result<Call, Error> {
        let call = self.call(who, id).await?;
        if call.is_task() { Ok(call) } else { Err(Error::TaskNotFound(id.background())) }
    }

    /// A call, in the background or not, as it is now.
    pub async fn call(&self, who: &Principal, id: CallId) -> Result<Call, Error> {
        let call = self.shared.store.call(id).await?;
        call.filter(|call| call.tenant == who.tenant)
            .ok_or_else(|| Error::TaskNotFound(id.background()))
    }

    /// Waits until the task has ended, or the time is up, and gives it as it is then.
    pub async fn wait(
        &self,
        who: &Principal,
        id: CallId,
        wait: Duration,
        acknowledge: bool,
    ) -> Result<Waited, Error> {
        let began = Instant::now();
        let call = self.wait_until(who, id, began + wait).await?;
        if acknowledge && call.state.is_terminal() && call.acknowledge_time.is_none() {
            // On the heap: most waits don't come here, and none needs room for it while it waits.
            self.acknowledge(who, &call).boxed().await?;
        }
        Ok(Waited { call, waited: began.elapsed() })
    }

    async fn acknowledge(&self, who: &Principal, call: &Call) -> Result<(), Error> {
        let (handle, _) = self.own_actor(who, call.session_id).await?;
        let (answer, answered) = oneshot::channel();
        let message = Message::Acknowledge { call_id: call.id, answer };
        self.send(&handle, message, answered).await?;
        Ok(())
    }

    /// Waits for one or all of several tasks. An id that isn't known is an error at once.
    pub async fn wait_many(
        &self,
        who: &Principal,
        ids: &[CallId],
        mode: WaitMode,
        wait: Duration,
        acknowledge: bool,
    ) -> Result<ManyWaited, Error> {
        let began = Instant::now();
        let until = began + wait;
        let mut calls = Vec::with_capacity(ids.len());
        for id in ids {
            calls.push(self.task(who, *id).await?);
        }
        let done = |calls: &[Call]| {
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
                let id = call.id;
                async move { (index, self.wait_until(who, id, until).await) }
            })
            .collect();
        while !done(&calls) {
            let Some((index, call)) = waits.next().await else { break };
            calls[index] = call?;
            if Instant::now() >= until {
                break;
            }
        }
        drop(waits);
        // What still runs is told of as it is now, not as it was when the wait began.
        for call in calls.iter_mut().filter(|call| !call.state.is_terminal()) {
            *call = self.task(who, call.id).await?;
        }
        if acknowledge {
            for call in calls.iter().filter(|call| call.state.is_terminal()) {
                self.wait(who, call.id, Duration::ZERO, true).await?;
            }
        }
        let (settled, pending) = calls.into_iter().partition(|call| call.state.is_terminal());
        Ok(ManyWaited { settled, pending, waited: began.elapsed() })
    }

    pub(super) async fn wait_until(
        &self,
        who: &Principal,
        id: CallId,
        until: Instant,
    ) -> Result<Call, Error> {
        // Subscribe, then read: an end in between is heard.
        let mut changes = self.shared.calls.subscribe(&id);
        loop {
            let mut version = changes.newest();
            {
                let call = self.task(who, id).await?;
                if call.state.is_terminal() || Instant::now() >= until {
                    return Ok(call);
                }
            }
            while !version.ended {
                tokio::select! {
                    newer = changes.changed() => version = newer,
                    () = tokio::time::sleep_until(until) => return self.task(who, id).await,
                    () = self.shared.draining.cancelled() => return Err(Error::Draining),
                }
            }
        }
    }
}
