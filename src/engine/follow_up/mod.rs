//! Follow-ups: a task that ends leaves a record in the commit of its end, and the record is delivered,
//! by a turn of the session's agent or by whoever leases it, until somebody has heard.

mod deliver;
mod outbox;
pub(super) mod words;

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::inbox::{Message, Origin};
use super::requests::Claimed;
use super::sessions::recorded_otherwise;
use super::{Engine, Error, RequestKey, Watched};
use crate::machine::{DeliveryOutcome, FollowUpOrder, Refusal, Reply};
use crate::model::limits::PAGE_SIZE_DEFAULT;
use crate::model::{Call, CallId, FollowUp, FollowUpState, Lease, Principal, SessionId};
use crate::store::{
    DueQuery, DueScope, FollowUpPage, FollowUpQuery, FollowUpWithTask, RequestEffect, RequestRecord,
};

pub(crate) use outbox::Outbox;

/// Somebody wants follow-ups to deliver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseFollowUps {
    /// Of this session only.
    pub session_id: Option<SessionId>,
    /// The id of the request.
    pub request: Option<RequestKey>,
    /// How many at most.
    pub limit: u32,
    /// For how long.
    pub lease: Duration,
    /// How long to wait when there is none.
    pub wait: Duration,
    /// Who wants them, in its own words.
    pub consumer: String,
}

/// Follow-ups that somebody has for a while.
#[derive(Debug, Clone, PartialEq)]
pub struct Leases {
    /// The follow-ups, with what to tell of each.
    pub follow_ups: Vec<(FollowUpWithTask, String)>,
    /// An earlier request with the same id took them.
    pub replayed: bool,
}

/// A follow-up after it has been asked to change.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangedFollowUp {
    /// The follow-up, with what to tell of it.
    pub follow_up: (FollowUpWithTask, String),
    /// It had been changed so before.
    pub replayed: bool,
}

impl Engine {
    /// Follow-ups, newest first.
    pub async fn list_follow_ups(&self, query: FollowUpQuery) -> Result<FollowUpPage, Error> {
        let page = self.shared.store.follow_ups(query).await?;
        self.tell_unreadable(&page.unreadable);
        Ok(page)
    }

    /// Takes follow-ups for a while, and waits for one when there is none. With the id of an earlier
    /// request: renews what it took and nobody has acknowledged.
    pub async fn lease_follow_ups(
        &self,
        who: &Principal,
        wanted: LeaseFollowUps,
    ) -> Result<Leases, Error> {
        if let Some(id) = wanted.session_id {
            self.own_session(who, id).await?;
        }
        let store = self.shared.store.as_ref();
        let _claim =
            match self.shared.claims.claim(store, &who.tenant, wanted.request.as_ref()).await? {
                Claimed::First(claim) => claim,
                Claimed::Replay(RequestEffect::FollowUpsLeased) => {
                    return self.renew(who, &wanted).await;
                }
                Claimed::Replay(_) => return Err(recorded_otherwise()),
            };
        let topic = match wanted.session_id {
            Some(id) => Watched::Session(id),
            None => Watched::Tenant(who.tenant.clone()),
        };
        let until = Instant::now() + wanted.wait;
        // Subscribe, then read: one that comes in between is heard of.
        let mut news = self.shared.leases.subscribe(&topic);
        loop {
            news.newest();
            let scope = DueScope::Lease(who.tenant.clone(), wanted.session_id);
            let query = DueQuery { scope, now: self.now(), limit: wanted.limit };
            let due = store.due_follow_ups(query).await?;
            self.tell_unreadable(&due.unreadable);
            let found = !due.records.is_empty();
            let leases = self.lease_all(who, &wanted, due.records).await?;
            if !leases.follow_ups.is_empty() || Instant::now() >= until {
                return Ok(leases);
            }
            // Others were faster: there may be more behind those.
            if found {
                continue;
            }
            let next = due.next.map(|next| Instant::now() + next.since(self.now()));
            tokio::select! {
                _ = news.changed() => {}
                () = tokio::time::sleep_until(next.map_or(until, |next| next.min(until))) => {}
                () = self.shared.draining.cancelled() => return Err(Error::Draining),
            }
        }
    }

    async fn lease_all(
        &self,
        who: &Principal,
        wanted: &LeaseFollowUps,
        records: Vec<FollowUp>,
    ) -> Result<Leases, Error> {
        let mut leases = Leases { follow_ups: Vec::new(), replayed: false };
        let mut request = self.record(who, wanted.request.as_ref(), RequestEffect::FollowUpsLeased);
        for record in records {
            let lease = Lease {
                token: uuid::Uuid::new_v4().simple().to_string(),
                request_id: wanted.request.as_ref().map(|request| request.id.clone()),
                consumer: wanted.consumer.clone(),
            };
            let until = self.now().saturating_add(wanted.lease);
            let order = FollowUpOrder::Lease { lease, until };
            let leased = match self.order(&record, order, request.clone()).await {
                Ok((leased, _)) => leased,
                Err(Error::Refused(Refusal::FollowUpTaken)) => continue,
                // What is leased already is had: the caller hears of that.
                Err(error) if !leases.follow_ups.is_empty() => {
                    tracing::warn!(%error, "fewer follow-ups were leased than there are");
                    break;
                }
                Err(error) => return Err(error),
            };
            request = None;
            if leased.state == FollowUpState::Leased {
                leases.follow_ups.push(self.told(leased).await?);
            }
        }
        Ok(leases)
    }

    async fn renew(&self, who: &Principal, wanted: &LeaseFollowUps) -> Result<Leases, Error> {
        self.shared.metrics.request_replayed();
        let mut leases = Leases { follow_ups: Vec::new(), replayed: true };
        let Some(request) = &wanted.request else { return Ok(leases) };
        let held = self.shared.store.leased_follow_ups(&who.tenant, &request.id).await?;
        for record in held {
            let until = self.now().saturating_add(wanted.lease);
            let order = FollowUpOrder::Renew { request_id: request.id.clone(), until };
            match self.order(&record, order, None).await {
                Ok((renewed, _)) => leases.follow_ups.push(self.told(renewed).await?),
                // It was acknowledged, or has run out, in this moment.
                Err(Error::Refused(Refusal::FollowUpTaken)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(leases)
    }

    /// Says how the delivery of a leased follow-up went.
    pub async fn acknowledge_follow_up(
        &self,
        who: &Principal,
        id: CallId,
        token: String,
        outcome: DeliveryOutcome,
        request: Option<&RequestKey>,
    ) -> Result<ChangedFollowUp, Error> {
        let order = FollowUpOrder::Acknowledge { token, outcome };
        self.change_follow_up(who, id, order, request, RequestEffect::FollowUpAcknowledged(id))
            .await
    }

    /// Brings back a follow-up that was given up.
    pub async fn retry_follow_up(
        &self,
        who: &Principal,
        id: CallId,
        request: Option<&RequestKey>,
    ) -> Result<ChangedFollowUp, Error> {
        let effect = RequestEffect::FollowUpRetried(id);
        self.change_follow_up(who, id, FollowUpOrder::Retry, request, effect).await
    }

    async fn change_follow_up(
        &self,
        who: &Principal,
        id: CallId,
        order: FollowUpOrder,
        request: Option<&RequestKey>,
        effect: RequestEffect,
    ) -> Result<ChangedFollowUp, Error> {
        let store = self.shared.store.as_ref();
        let _claim = match self.shared.claims.claim(store, &who.tenant, request).await? {
            Claimed::First(claim) => claim,
            Claimed::Replay(_) => {
                self.shared.metrics.request_replayed();
                let record = self.own_follow_up(who, id).await?;
                return Ok(ChangedFollowUp { follow_up: self.told(record).await?, replayed: true });
            }
        };
        let record = self.own_follow_up(who, id).await?;
        let request = self.record(who, request, effect);
        let (record, replayed) = self.order(&record, order, request).await?;
        Ok(ChangedFollowUp { follow_up: self.told(record).await?, replayed })
    }

    async fn own_follow_up(&self, who: &Principal, id: CallId) -> Result<FollowUp, Error> {
        let record = self.shared.store.follow_up(id).await?;
        record
            .filter(|record| record.tenant == who.tenant)
            .ok_or_else(|| Error::FollowUpNotFound(id.follow_up()))
    }

    /// Asks the session's actor. True: it had been done before.
    async fn order(
        &self,
        record: &FollowUp,
        order: FollowUpOrder,
        request: Option<RequestRecord>,
    ) -> Result<(FollowUp, bool), Error> {
        let handle = self.shared.actor(Origin::Stored(record.session_id));
        let (answer, answered) = oneshot::channel();
        let message = Message::FollowUp { call_id: record.call_id, order, request, answer };
        match self.send(&handle, message, answered).await? {
            Reply::FollowUp { record, again } => Ok((*record, again)),
            _ => Ok((record.clone(), true)),
        }
    }

    /// A follow-up with its task, and what to tell of it.
    async fn told(&self, record: FollowUp) -> Result<(FollowUpWithTask, String), Error> {
        let task = self.task_of(record.call_id).await?;
        let message = words::message([&task]);
        Ok((FollowUpWithTask { record, task }, message))
    }

    /// The task of a follow-up as it ended, with more of its output than its record has, if that is
    /// there still.
    async fn task_of(&self, id: CallId) -> Result<Call, Error> {
        let told = self.shared.store.follow_up_with_task(id).await?;
        let task = told.ok_or_else(|| Error::FollowUpNotFound(id.follow_up()))?.task;
        match self.complete(task.clone()).await {
            Ok((whole, _)) => Ok(whole),
            Err(Error::TaskNotFound(_)) => Ok(task),
            Err(error) => Err(error),
        }
    }

    /// The task's follow-up isn't needed any more, unless somebody has it already.
    pub(super) async fn suppress_follow_up(&self, id: CallId, reason: &str) -> Result<(), Error> {
        let Some(record) = self.shared.store.follow_up(id).await? else { return Ok(()) };
        let order = FollowUpOrder::Suppress { reason: reason.to_owned() };
        self.order(&record, order, None).await?;
        Ok(())
    }

    /// Nobody needs to hear any more of what waits in a session. What is delivered meanwhile finds
    /// the session closed.
    pub(super) async fn suppress_all(
        &self,
        who: &Principal,
        session_id: SessionId,
        reason: &str,
    ) -> Result<(), Error> {
        let mut query = FollowUpQuery {
            tenant: who.tenant.clone(),
            session_id: Some(session_id),
            states: vec![FollowUpState::Pending],
            cursor: None,
            limit: PAGE_SIZE_DEFAULT,
        };
        loop {
            let page = self.shared.store.follow_ups(query.clone()).await?;
            for told in &page.follow_ups {
                let order = FollowUpOrder::Suppress { reason: reason.to_owned() };
                self.order(&told.record, order, None).await?;
            }
            match page.next {
                Some(next) => query.cursor = Some(next),
                None => return Ok(()),
            }
        }
    }

    fn tell_unreadable(&self, ids: &[CallId]) {
        for id in ids {
            self.shared.metrics.follow_ups().unreadable();
            let follow_up_id = id.follow_up();
            tracing::error!(follow_up_id, "a follow-up can't be read back: it isn't delivered");
        }
    }
}
