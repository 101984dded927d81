//! Delivery to agents that work here: a turn for all that is ready in a session.

use std::time::Duration;

use tokio::time::Instant;

use super::outbox::{Outbox, Turn};
use super::{FollowUps, words};
use crate::engine::turn::Turns;
use crate::engine::{Error, Started, TurnRequest};
use crate::machine::{DeliveryOutcome, FollowUpOrder, Refusal, SESSION_CLOSED};
use crate::model::limits::{
    FOLLOW_UP_ROUNDS_MAX, FOLLOW_UP_SESSIONS_MAX, FOLLOW_UP_SWEEP_MS, FOLLOW_UPS_DELIVERED_MAX,
};
use crate::model::{
    BusyPolicy, Call, DeliveryError, FollowUp, Lease, Principal, SessionId, Tenant, Timestamp,
};
use crate::store::{DueQuery, DueScope, StoreError};

/// Who delivers.
const DELIVERER: &str = "callpark";

/// A number of `google.rpc.Code`.
const CODE_FAILED_PRECONDITION: i32 = 9;

/// Leases that one step of a sweep ends.
const LAPSED_PER_STEP: u32 = 100;

/// What came of an attempt to deliver.
enum Attempted {
    /// A turn has told of some: there may be more.
    Told,
    /// There is nothing to tell now.
    Idle,
}

impl FollowUps {
    /// Delivers follow-ups of sessions in which turns run, until the engine stops: woken by the
    /// commit that makes one, with a sweep behind it for what nobody was woken for.
    pub fn start_delivery(&self) {
        let follow_ups = self.clone();
        self.shared.tracker.spawn(async move {
            let mut news = follow_ups.shared.outbox.listen();
            let mut sweep_at = Instant::now();
            while !follow_ups.shared.stopping.is_cancelled() {
                if Instant::now() >= sweep_at {
                    sweep_at = follow_ups.sweep_outbox().await;
                }
                news.borrow_and_update();
                let outbox = &follow_ups.shared.outbox;
                while let Some(turn) = outbox.next() {
                    follow_ups.shared.tracker.spawn(follow_ups.clone().deliver(turn));
                }
                if let Some(due) = outbox.take_due_time() {
                    sweep_at = sweep_at.min(Instant::now() + due.since(follow_ups.shared.now()));
                }
                tokio::select! {
                    _ = news.changed() => {}
                    () = tokio::time::sleep_until(sweep_at) => {}
                    () = follow_ups.shared.stopping.cancelled() => return,
                }
            }
        });
    }

    /// Wakes all sessions that have something to deliver, ends leases that have run out, and says
    /// when to look again.
    async fn sweep_outbox(&self) -> Instant {
        let pause = Duration::from_millis(FOLLOW_UP_SWEEP_MS);
        let next = match self.sweep_due().await {
            Ok(next) => next,
            Err(error) => {
                tracing::warn!(%error, "the outbox can't be looked through");
                None
            }
        };
        let until = next.map_or(pause, |next| next.since(self.shared.now()).min(pause));
        // A time that has come by now is looked at in a moment, not at once: the store's clock is
        // finer than the timer's.
        Instant::now() + until.max(Duration::from_millis(1))
    }

    async fn sweep_due(&self) -> Result<Option<Timestamp>, Error> {
        let store = &self.shared.store;
        let limit = u32::try_from(FOLLOW_UP_SESSIONS_MAX).unwrap_or(u32::MAX);
        let due = store.sessions_with_due_follow_ups(self.shared.now(), limit).await?;
        for (tenant, session_id) in &due.sessions {
            self.shared.outbox.wake(tenant, *session_id);
        }
        loop {
            let query = DueQuery {
                scope: DueScope::Leased,
                now: self.shared.now(),
                limit: LAPSED_PER_STEP,
            };
            let lapsed = store.due_follow_ups(query).await?;
            self.tell_unreadable(&lapsed.unreadable);
            for record in &lapsed.records {
                self.order(record, FollowUpOrder::LeaseExpired, None).await?;
            }
            if lapsed.records.is_empty() {
                return Ok([due.next, lapsed.next].into_iter().flatten().min());
            }
        }
    }

    async fn deliver(self, turn: Turn) {
        let done = Done { outbox: &self.shared.outbox, turn };
        let Turn { tenant, session_id } = &done.turn;
        match self.deliver_once(tenant, *session_id).await {
            // What more there is waits behind what other sessions have.
            Ok(Attempted::Told) => {
                self.shared.outbox.wake(tenant, *session_id);
            }
            Ok(Attempted::Idle) => {}
            Err(error) => {
                tracing::warn!(%session_id, %error, "follow-ups can't be delivered now");
            }
        }
    }

    async fn deliver_once(
        &self,
        tenant: &Tenant,
        session_id: SessionId,
    ) -> Result<Attempted, Error> {
        let Some((records, prompt)) = self.pick(session_id).await? else {
            return Ok(Attempted::Idle);
        };
        // None of them could be told of: others may.
        if records.is_empty() {
            return Ok(Attempted::Told);
        }
        let who = Principal { tenant: tenant.clone(), name: DELIVERER.into() };
        let request = TurnRequest {
            session_id: Some(session_id),
            prompt,
            max_rounds: FOLLOW_UP_ROUNDS_MAX,
            busy_policy: BusyPolicy::Reject,
            follow_ups: Some(records.clone()),
            ..TurnRequest::default()
        };
        let mut handle = match Turns::new(&self.shared).start(&who, request).await {
            Ok(Started::Call(handle)) => handle,
            Ok(Started::DryRun(_)) => return Ok(Attempted::Idle),
            // The turn that runs takes them between two rounds, or its end wakes the session again.
            Err(Error::Refused(Refusal::TurnRunning { .. })) => return Ok(Attempted::Idle),
            Err(Error::Refused(Refusal::FollowUpTaken { .. })) => return Ok(Attempted::Told),
            Err(Error::Refused(Refusal::SessionClosed { .. })) => {
                for record in &records {
                    let order = FollowUpOrder::Suppress { reason: SESSION_CLOSED.to_owned() };
                    self.order(record, order, None).await?;
                }
                return Ok(Attempted::Told);
            }
            Err(error @ (Error::Draining | Error::Store(_))) => return Err(error),
            // No turn can be had: that is a failed attempt, or it would be tried for ever.
            Err(error) => {
                for record in &records {
                    self.fail(record, &error).await?;
                }
                return Ok(Attempted::Told);
            }
        };
        handle.wait_ended().await?;
        Ok(Attempted::Told)
    }

    /// Those to tell of next, of which none may be left, with the words for it: all that were never tried, in one; else one that
    /// was, by itself, so that a bad one can't make others fail with it again.
    async fn pick(&self, session_id: SessionId) -> Result<Option<(Vec<FollowUp>, String)>, Error> {
        let mut ready = self.ready_follow_ups(session_id).await?;
        if ready.iter().any(|record| record.attempt == 0) {
            ready.retain(|record| record.attempt == 0);
        } else {
            ready.truncate(1);
        }
        if ready.is_empty() {
            return Ok(None);
        }
        let mut told = Vec::with_capacity(ready.len());
        let mut tasks = Vec::with_capacity(ready.len());
        for record in ready {
            match self.task_of(record.call_id).await {
                Ok(task) => {
                    told.push(record);
                    tasks.push(task);
                }
                // Whatever its task is, nobody can be told of it: that is a failed attempt, too.
                Err(error @ Error::Store(StoreError::Corrupt(_))) => {
                    self.tell_unreadable(&[record.call_id]);
                    self.fail(&record, &error).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Some((told, words::message(&tasks))))
    }

    async fn ready_follow_ups(&self, session_id: SessionId) -> Result<Vec<FollowUp>, Error> {
        let query = DueQuery {
            scope: DueScope::Session(session_id),
            now: self.now(),
            limit: FOLLOW_UPS_DELIVERED_MAX,
        };
        let due = self.shared.store.due_follow_ups(query).await?;
        self.tell_unreadable(&due.unreadable);
        Ok(due.records)
    }

    /// What a running turn can be told between two rounds: tasks of follow-ups that were never tried.
    /// One whose task can't be read back isn't among them: no turn could tell of it.
    pub(in crate::engine) async fn untold(
        &self,
        session_id: SessionId,
    ) -> Result<Vec<Call>, Error> {
        let mut ready = self.ready_follow_ups(session_id).await?;
        ready.retain(|record| record.attempt == 0);
        let mut tasks = Vec::with_capacity(ready.len());
        for record in ready {
            match self.task_of(record.call_id).await {
                Ok(task) => tasks.push(task),
                Err(Error::Store(StoreError::Corrupt(_))) => {
                    self.tell_unreadable(&[record.call_id]);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(tasks)
    }

    /// Counts an attempt that came to no turn.
    async fn fail(&self, record: &FollowUp, error: &Error) -> Result<(), Error> {
        let token = uuid::Uuid::new_v4().simple().to_string();
        let lease =
            Lease { token: token.clone(), request_id: None, consumer: DELIVERER.to_owned() };
        let until = self.shared.now().saturating_add(Duration::from_millis(FOLLOW_UP_SWEEP_MS));
        match self.order(record, FollowUpOrder::Lease { lease, until }, None).await {
            Ok(_) => {}
            Err(Error::Refused(Refusal::FollowUpTaken { .. })) => return Ok(()),
            Err(error) => return Err(error),
        }
        let error = DeliveryError { code: CODE_FAILED_PRECONDITION, message: error.to_string() };
        let outcome = DeliveryOutcome::Failed(error);
        match self.order(record, FollowUpOrder::Acknowledge { token, outcome }, None).await {
            // Its time ran out meanwhile, which counts as well.
            Ok(_) | Err(Error::Refused(Refusal::LeaseExpired { .. })) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Gives a session's place back, whatever came of it.
struct Done<'a> {
    outbox: &'a Outbox,
    turn: Turn,
}

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.outbox.done(&self.turn);
    }
}
