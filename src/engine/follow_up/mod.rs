//! Follow-ups: a task that ends leaves a record in the same commit as its end, and the record is
//! delivered at least once.
//!
//! `deliver` starts turns of the session's own agent, `lease` hands records to consumers outside
//! callpark, `sweep` ends the leases that expire, and `message` loads the tasks that a record is about.
//! `wake_queue` holds the sessions for which a delivery is due.

mod deliver;
mod lease;
mod message;
mod sweep;
mod wake_queue;

use std::sync::Arc;

use super::actor::{ActorMessage, ActorSource};
use super::idempotency::Claimed;
use super::{Error, RequestKey, Shared};
use crate::machine::{DeliveryOutcome, FollowUpOrder, Reply};
use crate::model::limits::PAGE_SIZE_DEFAULT;
use crate::model::{CallId, FollowUp, FollowUpState, Principal, SessionId};
use crate::store::{FollowUpPage, FollowUpQuery, FollowUpWithTask, RequestEffect, RequestRecord};
use crate::telemetry::RecordKind;

pub use lease::{LeaseFollowUps, Leases};
pub(crate) use wake_queue::WakeQueue;

/// A follow-up after a request to change it.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangedFollowUp {
    /// The follow-up, with the message to deliver.
    pub follow_up: (FollowUpWithTask, String),
    /// `true` if the change had been made before.
    pub replayed: bool,
}

/// A follow-up after the session's actor has been asked to change it.
struct OrderOutcome {
    record: FollowUp,
    /// `true` if the change had been made before.
    again: bool,
}

/// The follow-ups of an engine.
#[derive(Debug, Clone)]
pub struct FollowUps {
    shared: Arc<Shared>,
}

impl FollowUps {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: shared.clone() }
    }

    /// Returns follow-ups, newest first.
    pub async fn list(&self, query: FollowUpQuery) -> Result<FollowUpPage, Error> {
        let page = self.shared.store.follow_ups(query).await?;
        self.report_unreadable(&page.unreadable);
        Ok(page)
    }

    /// Ends the lease of a follow-up with the outcome of its delivery.
    pub async fn acknowledge(
        &self,
        principal: &Principal,
        id: CallId,
        token: String,
        outcome: DeliveryOutcome,
        request: Option<&RequestKey>,
    ) -> Result<ChangedFollowUp, Error> {
        let order = FollowUpOrder::Acknowledge { token, outcome };
        let effect = RequestEffect::FollowUpAcknowledged(id);
        self.change_follow_up(principal, id, order, request, effect).await
    }

    /// Re-queues a dead letter.
    pub async fn retry(
        &self,
        principal: &Principal,
        id: CallId,
        request: Option<&RequestKey>,
    ) -> Result<ChangedFollowUp, Error> {
        let effect = RequestEffect::FollowUpRetried(id);
        self.change_follow_up(principal, id, FollowUpOrder::Retry, request, effect).await
    }

    async fn change_follow_up(
        &self,
        principal: &Principal,
        id: CallId,
        order: FollowUpOrder,
        request: Option<&RequestKey>,
        effect: RequestEffect,
    ) -> Result<ChangedFollowUp, Error> {
        let store = self.shared.store.as_ref();
        let _claim = match self.shared.claims.claim(store, &principal.tenant, request).await? {
            Claimed::First(claim) => claim,
            Claimed::Replay(_) => {
                self.shared.metrics.request_replayed();
                let record = self.own_follow_up(principal, id).await?;
                let follow_up = self.with_message(record).await?;
                return Ok(ChangedFollowUp { follow_up, replayed: true });
            }
        };
        let record = self.own_follow_up(principal, id).await?;
        let request = self.shared.request_record(principal, request, effect);
        let OrderOutcome { record, again } = self.apply_order(&record, order, request).await?;
        Ok(ChangedFollowUp { follow_up: self.with_message(record).await?, replayed: again })
    }

    async fn own_follow_up(&self, principal: &Principal, id: CallId) -> Result<FollowUp, Error> {
        let record = self.shared.store.follow_up(id).await?;
        record
            .filter(|record| record.tenant == principal.tenant)
            .ok_or_else(|| Error::FollowUpNotFound(id.follow_up()))
    }

    /// Asks the session's actor to change a follow-up.
    async fn apply_order(
        &self,
        record: &FollowUp,
        order: FollowUpOrder,
        request: Option<RequestRecord>,
    ) -> Result<OrderOutcome, Error> {
        let handle = self.shared.actor(ActorSource::Stored(record.session_id));
        let call_id = record.call_id;
        let message = |answer| ActorMessage::FollowUp { call_id, order, request, answer };
        Ok(match handle.ask(message).await? {
            Reply::FollowUp { record, again } => OrderOutcome { record: *record, again },
            _ => OrderOutcome { record: record.clone(), again: true },
        })
    }

    /// Suppresses the follow-up of a task, unless it is being delivered.
    pub(super) async fn suppress_follow_up(&self, id: CallId, reason: &str) -> Result<(), Error> {
        let Some(record) = self.shared.store.follow_up(id).await? else { return Ok(()) };
        let order = FollowUpOrder::Suppress { reason: reason.to_owned() };
        self.apply_order(&record, order, None).await?;
        Ok(())
    }

    /// Suppresses all pending follow-ups of a session, which is closed. A delivery that is under way
    /// finds the session closed.
    pub(super) async fn suppress_all(
        &self,
        principal: &Principal,
        session_id: SessionId,
        reason: &str,
    ) -> Result<(), Error> {
        let mut query = FollowUpQuery {
            tenant: principal.tenant.clone(),
            session_id: Some(session_id),
            states: vec![FollowUpState::Pending],
            cursor: None,
            limit: PAGE_SIZE_DEFAULT,
        };
        loop {
            let page = self.shared.store.follow_ups(query.clone()).await?;
            for follow_up in &page.follow_ups {
                let order = FollowUpOrder::Suppress { reason: reason.to_owned() };
                self.apply_order(&follow_up.record, order, None).await?;
            }
            match page.next {
                Some(next) => query.cursor = Some(next),
                None => return Ok(()),
            }
        }
    }

    fn report_unreadable(&self, ids: &[CallId]) {
        for id in ids {
            self.shared.metrics.record_unreadable(RecordKind::FollowUp);
            let follow_up_id = id.follow_up();
            tracing::error!(follow_up_id, "the follow-up cannot be read, so it is not delivered");
        }
    }
}
