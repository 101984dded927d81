//! Delivery by consumers outside callpark, which lease follow-ups for a time. `sweep` ends the leases that
//! expire.

use std::time::Duration;

use tokio::time::Instant;

use super::{FollowUps, OrderOutcome};
use crate::engine::idempotency::Claimed;
use crate::engine::idempotency::unexpected_effect;
use crate::engine::{Error, RequestKey, Watched};
use crate::machine::{FollowUpOrder, Refusal};
use crate::model::{FollowUp, FollowUpState, Lease, Principal, SessionId};
use crate::store::{DueQuery, DueScope, FollowUpWithTask, RequestEffect};

/// A request to lease follow-ups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseFollowUps {
    /// The session of the follow-ups, or `None` for all sessions of the tenant.
    pub session_id: Option<SessionId>,
    /// The id of the request, or `None` if it isn't idempotent.
    pub request: Option<RequestKey>,
    /// The maximum number of follow-ups.
    pub limit: u32,
    /// The length of the lease.
    pub lease: Duration,
    /// The time to wait if no follow-up is due.
    pub wait: Duration,
    /// The consumer's own name for itself.
    pub consumer: String,
}

/// Follow-ups that have been leased.
#[derive(Debug, Clone, PartialEq)]
pub struct Leases {
    /// The follow-ups, each with the message to deliver.
    pub follow_ups: Vec<(FollowUpWithTask, String)>,
    /// `true` if an earlier request with the same id leased them.
    pub replayed: bool,
}

impl FollowUps {
    /// Leases follow-ups that are due, and waits for one if there are none. A request with the id of
    /// an earlier one renews the leases of that one.
    pub async fn lease(
        &self,
        principal: &Principal,
        request: LeaseFollowUps,
    ) -> Result<Leases, Error> {
        if let Some(id) = request.session_id {
            self.shared.own_session(principal, id).await?;
        }
        let store = self.shared.store.as_ref();
        let key = request.request.as_ref();
        let _claim = match self.shared.claims.claim(store, &principal.tenant, key).await? {
            Claimed::First(claim) => claim,
            Claimed::Replay(RequestEffect::FollowUpsLeased) => {
                return self.renew_leases(principal, &request).await;
            }
            Claimed::Replay(_) => return Err(unexpected_effect()),
        };
        let topic = match request.session_id {
            Some(id) => Watched::Session(id),
            None => Watched::Tenant(principal.tenant.clone()),
        };
        let deadline = Instant::now() + request.wait;
        // Subscribes before reading, so that a follow-up in between is noticed.
        let mut changes = self.shared.leases.subscribe(&topic);
        loop {
            changes.newest();
            let scope = DueScope::Lease(principal.tenant.clone(), request.session_id);
            let query = DueQuery { scope, now: self.shared.now(), limit: request.limit };
            let due = store.due_follow_ups(query).await?;
            self.report_unreadable(&due.unreadable);
            let is_any_due = !due.records.is_empty();
            let leases = self.lease_all(principal, &request, due.records).await?;
            if !leases.follow_ups.is_empty() || Instant::now() >= deadline {
                return Ok(leases);
            }
            // Other consumers have taken all of them; more may be due.
            if is_any_due {
                continue;
            }
            let next_due = due.next.map(|next| Instant::now() + next.since(self.shared.now()));
            let wake_at = next_due.map_or(deadline, |next| next.min(deadline));
            tokio::select! {
                _ = changes.changed() => {}
                () = tokio::time::sleep_until(wake_at) => {}
                () = self.shared.draining.cancelled() => return Err(Error::Draining),
            }
        }
    }

    async fn lease_all(
        &self,
        principal: &Principal,
        request: &LeaseFollowUps,
        records: Vec<FollowUp>,
    ) -> Result<Leases, Error> {
        let mut leases = Leases { follow_ups: Vec::new(), replayed: false };
        let effect = RequestEffect::FollowUpsLeased;
        let mut request_record =
            self.shared.request_record(principal, request.request.as_ref(), effect);
        let mut elsewhere = None;
        for record in records {
            let lease = Lease {
                token: uuid::Uuid::new_v4().simple().to_string(),
                request_id: request.request.as_ref().map(|key| key.id.clone()),
                consumer: request.consumer.clone(),
            };
            let until = self.shared.now().saturating_add(request.lease);
            let order = FollowUpOrder::Lease { lease, until };
            let leased = match self.apply_order(&record, order, request_record.clone()).await {
                Ok(outcome) => outcome.record,
                Err(Error::Refused(Refusal::FollowUpTaken { .. })) => continue,
                Err(error @ Error::NotOwner { .. }) => {
                    elsewhere = Some(error);
                    continue;
                }
                // The leases that exist must reach their consumer.
                Err(error) if !leases.follow_ups.is_empty() => {
                    tracing::warn!(%error, "fewer follow-ups were leased than are due");
                    break;
                }
                Err(error) => return Err(error),
            };
            request_record = None;
            if leased.state == FollowUpState::Leased {
                leases.follow_ups.push(self.with_message(leased).await?);
            }
        }
        match elsewhere {
            // The replica that has one of the sessions can lease its follow-ups.
            Some(error) if leases.follow_ups.is_empty() => Err(error),
            _ => Ok(leases),
        }
    }

    async fn renew_leases(
        &self,
        principal: &Principal,
        request: &LeaseFollowUps,
    ) -> Result<Leases, Error> {
        self.shared.metrics.request_replayed();
        let mut leases = Leases { follow_ups: Vec::new(), replayed: true };
        let Some(key) = &request.request else { return Ok(leases) };
        let held = self.shared.store.leased_follow_ups(&principal.tenant, &key.id).await?;
        for record in held {
            let until = self.shared.now().saturating_add(request.lease);
            let order = FollowUpOrder::Renew { request_id: key.id.clone(), until };
            match self.apply_order(&record, order, None).await {
                Ok(OrderOutcome { record, .. }) => {
                    leases.follow_ups.push(self.with_message(record).await?);
                }
                // The lease has just been acknowledged or has expired.
                Err(Error::Refused(Refusal::FollowUpTaken { .. })) => {}
                Err(error @ Error::NotOwner { .. }) if leases.follow_ups.is_empty() => {
                    return Err(error);
                }
                Err(Error::NotOwner { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(leases)
    }
}
