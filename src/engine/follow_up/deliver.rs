//! Delivery by callpark: a turn of the session's own agent for the follow-ups that are due. `sweep` finds
//! those whose session was not woken.

use std::time::Duration;

use tokio::time::Instant;

use super::FollowUps;
use super::wake_queue::{Ticket, WakeQueue};
use crate::agent::prompts::follow_up_message;
use crate::engine::turn::Turns;
use crate::engine::{Error, Started, TurnRequest};
use crate::machine::{DeliveryOutcome, FollowUpOrder, Refusal, SESSION_CLOSED};
use crate::model::limits::{FOLLOW_UP_ROUNDS_MAX, FOLLOW_UP_SWEEP_MS, FOLLOW_UPS_DELIVERED_MAX};
use crate::model::{
    BusyPolicy, Call, DeliveryError, FollowUp, Lease, Principal, Scopes, SessionId, Tenant,
};
use crate::store::{DueQuery, DueScope, StoreError};

/// The name of the principal that delivers.
const DELIVERER: &str = "callpark";

/// A number of `google.rpc.Code`.
const CODE_FAILED_PRECONDITION: i32 = 9;

/// The result of a delivery to one session.
enum DeliveryStep {
    /// Follow-ups were delivered or failed. More may be due.
    Attempted,
    /// No follow-up can be delivered now.
    NothingDue,
}

/// The follow-ups that one turn delivers.
struct Batch {
    /// The follow-ups; empty if the tasks of all of them cannot be read.
    records: Vec<FollowUp>,
    prompt: String,
}

impl FollowUps {
    /// Delivers follow-ups of sessions in which turns run, until the engine stops. The commit that
    /// makes a follow-up due wakes its session; a regular sweep finds what was missed.
    pub fn start_delivery(&self) {
        let follow_ups = self.clone();
        self.shared.tracker.spawn(async move {
            let mut changes = follow_ups.shared.wake_queue.subscribe();
            let mut sweep_at = Instant::now();
            while !follow_ups.shared.stopping.is_cancelled() {
                if Instant::now() >= sweep_at {
                    sweep_at = follow_ups.sweep_follow_ups().await;
                }
                changes.borrow_and_update();
                let wake_queue = &follow_ups.shared.wake_queue;
                while let Some(ticket) = wake_queue.next() {
                    follow_ups.shared.tracker.spawn(follow_ups.clone().deliver(ticket));
                }
                if let Some(due) = wake_queue.take_due_time() {
                    sweep_at = sweep_at.min(Instant::now() + due.since(follow_ups.shared.now()));
                }
                tokio::select! {
                    _ = changes.changed() => {}
                    () = tokio::time::sleep_until(sweep_at) => {}
                    () = follow_ups.shared.stopping.cancelled() => return,
                }
            }
        });
    }

    async fn deliver(self, ticket: Ticket) {
        let guard = TicketGuard { wake_queue: &self.shared.wake_queue, ticket };
        let Ticket { tenant, session_id } = &guard.ticket;
        match self.deliver_once(tenant, *session_id).await {
            // Further follow-ups of this session wait behind those of others.
            Ok(DeliveryStep::Attempted) => {
                self.shared.wake_queue.wake(tenant, *session_id);
            }
            Ok(DeliveryStep::NothingDue) => {}
            Err(error) => {
                tracing::warn!(%session_id, %error, "cannot deliver the follow-ups of the session");
            }
        }
    }

    async fn deliver_once(
        &self,
        tenant: &Tenant,
        session_id: SessionId,
    ) -> Result<DeliveryStep, Error> {
        let Some(Batch { records, prompt }) = self.next_batch(session_id).await? else {
            return Ok(DeliveryStep::NothingDue);
        };
        if records.is_empty() {
            return Ok(DeliveryStep::Attempted);
        }
        let principal =
            Principal { tenant: tenant.clone(), name: DELIVERER.into(), scopes: Scopes::default() };
        let request = TurnRequest {
            session_id: Some(session_id),
            prompt,
            max_rounds: FOLLOW_UP_ROUNDS_MAX,
            busy_policy: BusyPolicy::Reject,
            follow_ups: Some(records.clone()),
            ..TurnRequest::default()
        };
        let mut handle = match Turns::new(&self.shared).start(&principal, request).await {
            Ok(Started::Call(handle)) => handle,
            Ok(Started::DryRun(_)) => return Ok(DeliveryStep::NothingDue),
            // The turn that is running takes them between two rounds, or its end wakes the session.
            Err(Error::Refused(Refusal::TurnRunning { .. })) => {
                return Ok(DeliveryStep::NothingDue);
            }
            Err(Error::Refused(Refusal::FollowUpTaken { .. })) => {
                return Ok(DeliveryStep::Attempted);
            }
            Err(Error::Refused(Refusal::SessionClosed { .. })) => {
                for record in &records {
                    let order = FollowUpOrder::Suppress { reason: SESSION_CLOSED.to_owned() };
                    self.apply_order(record, order, None).await?;
                }
                return Ok(DeliveryStep::Attempted);
            }
            Err(error @ (Error::Draining | Error::Store(_))) => return Err(error),
            // The replica that has the session delivers them.
            Err(Error::NotOwner { .. }) => return Ok(DeliveryStep::NothingDue),
            // If this weren't counted as an attempt, it would be repeated forever.
            Err(error) => {
                for record in &records {
                    self.record_failed_attempt(record, &error).await?;
                }
                return Ok(DeliveryStep::Attempted);
            }
        };
        handle.wait_ended().await?;
        Ok(DeliveryStep::Attempted)
    }

    /// Returns the follow-ups to deliver next, or `None` if none is due. All follow-ups that were
    /// never attempted are one batch. Others are delivered one by one, so that a bad one doesn't make
    /// the others fail again.
    async fn next_batch(&self, session_id: SessionId) -> Result<Option<Batch>, Error> {
        let mut due = self.due_follow_ups(session_id).await?;
        if due.iter().any(|record| record.attempt == 0) {
            due.retain(|record| record.attempt == 0);
        } else {
            due.truncate(1);
        }
        if due.is_empty() {
            return Ok(None);
        }
        let mut records = Vec::with_capacity(due.len());
        let mut tasks = Vec::with_capacity(due.len());
        for record in due {
            match self.task_of(record.call_id).await {
                Ok(task) => {
                    records.push(record);
                    tasks.push(task);
                }
                // A follow-up whose task cannot be read can't be delivered: the attempt has failed.
                Err(error @ Error::Store(StoreError::Corrupt(_))) => {
                    self.report_unreadable(&[record.call_id]);
                    self.record_failed_attempt(&record, &error).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Some(Batch { records, prompt: follow_up_message(&tasks) }))
    }

    async fn due_follow_ups(&self, session_id: SessionId) -> Result<Vec<FollowUp>, Error> {
        let query = DueQuery {
            scope: DueScope::Session(session_id),
            now: self.shared.now(),
            limit: FOLLOW_UPS_DELIVERED_MAX,
        };
        let due = self.shared.store.due_follow_ups(query).await?;
        self.report_unreadable(&due.unreadable);
        Ok(due.records)
    }

    /// Returns the tasks whose follow-ups a running turn can deliver between two rounds: those that
    /// were never attempted, and whose tasks can be read.
    pub(in crate::engine) async fn undelivered(
        &self,
        session_id: SessionId,
    ) -> Result<Vec<Call>, Error> {
        let mut due = self.due_follow_ups(session_id).await?;
        due.retain(|record| record.attempt == 0);
        let mut tasks = Vec::with_capacity(due.len());
        for record in due {
            match self.task_of(record.call_id).await {
                Ok(task) => tasks.push(task),
                Err(Error::Store(StoreError::Corrupt(_))) => {
                    self.report_unreadable(&[record.call_id]);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(tasks)
    }

    /// Counts an attempt for which no turn could be started.
    async fn record_failed_attempt(&self, record: &FollowUp, error: &Error) -> Result<(), Error> {
        let token = uuid::Uuid::new_v4().simple().to_string();
        let lease =
            Lease { token: token.clone(), request_id: None, consumer: DELIVERER.to_owned() };
        let until = self.shared.now().saturating_add(Duration::from_millis(FOLLOW_UP_SWEEP_MS));
        match self.apply_order(record, FollowUpOrder::Lease { lease, until }, None).await {
            Ok(_) => {}
            Err(Error::Refused(Refusal::FollowUpTaken { .. })) => return Ok(()),
            Err(error) => return Err(error),
        }
        let error = DeliveryError { code: CODE_FAILED_PRECONDITION, message: error.to_string() };
        let outcome = DeliveryOutcome::Failed(error);
        match self.apply_order(record, FollowUpOrder::Acknowledge { token, outcome }, None).await {
            // A lease that has expired meanwhile counts as a failed attempt, too.
            Ok(_) | Err(Error::Refused(Refusal::LeaseExpired { .. })) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Returns a ticket to the queue when it is dropped.
struct TicketGuard<'a> {
    wake_queue: &'a WakeQueue,
    ticket: Ticket,
}

impl Drop for TicketGuard<'_> {
    fn drop(&mut self) {
        self.wake_queue.finish(&self.ticket);
    }
}
