//! `FollowUp`: a follow-up is leased, acknowledged, retried or suppressed.

use super::super::follow_up::{DeliveryStep, SESSION_CLOSED};
use super::super::{Change, Decision, FollowUpOrder, Projection, Refusal, Reply};
use crate::model::{FollowUp, FollowUpState, Payload, SessionState, Timestamp};

/// Decides on `record`, the follow-up as it is stored. Of two competing commands the second finds
/// another state and changes nothing.
pub(super) fn decide(
    projection: &Projection,
    record: FollowUp,
    order: FollowUpOrder,
    now: Timestamp,
) -> Decision {
    let call_id = record.call_id;
    let is_pending = record.state == FollowUpState::Pending;
    let is_leased = record.state == FollowUpState::Leased && record.lease.is_some();
    let is_open = projection.session.state == SessionState::Open;
    let holds = |token: &str| record.lease.as_ref().is_some_and(|lease| lease.token == token);
    match order {
        FollowUpOrder::Lease { .. } if !is_pending => {
            Decision::refused(Refusal::FollowUpTaken { call_id })
        }
        FollowUpOrder::Lease { .. } if !is_open => {
            step(projection, DeliveryStep::Suppress(record, SESSION_CLOSED.into()), now)
        }
        FollowUpOrder::Lease { lease, until } => {
            let record = record.leased(lease, until, now);
            let started = Payload::FollowUpStarted { attempt: record.attempt };
            put(record, Some(started))
        }
        FollowUpOrder::Renew { request_id, until } => {
            let lease = record.lease.as_ref().filter(|_| is_leased);
            if lease.is_none_or(|lease| lease.request_id.as_ref() != Some(&request_id)) {
                return Decision::refused(Refusal::FollowUpTaken { call_id });
            }
            put(FollowUp { due_time: Some(until), update_time: now, ..record }, None)
        }
        FollowUpOrder::Acknowledge { token, outcome } => match (is_leased, holds(&token)) {
            (true, true) => step(projection, outcome.step(record), now),
            // A repeated acknowledgement.
            (false, true) if outcome.is_delivered() && record.state == FollowUpState::Delivered => {
                again(record)
            }
            _ => Decision::refused(Refusal::LeaseExpired { call_id }),
        },
        FollowUpOrder::LeaseExpired => match record.due_time {
            Some(due) if is_leased && due <= now => {
                step(projection, DeliveryStep::LeaseExpired(record), now)
            }
            _ => Decision::nothing(),
        },
        FollowUpOrder::Retry => match record.state {
            FollowUpState::Pending => again(record),
            FollowUpState::DeadLettered if !is_open => {
                Decision::refused(Refusal::SessionClosed { session_id: projection.session.id })
            }
            FollowUpState::DeadLettered => {
                put(record.revived(now), Some(Payload::FollowUpScheduled))
            }
            state => Decision::refused(Refusal::FollowUpNotDeadLettered { call_id, state }),
        },
        FollowUpOrder::Suppress { reason } if is_pending => {
            step(projection, DeliveryStep::Suppress(record, reason), now)
        }
        FollowUpOrder::Suppress { .. } => Decision::nothing(),
    }
}

/// Suppresses the pending follow-up of a task whose result was acknowledged.
pub(super) fn acknowledged(projection: &Projection, record: FollowUp, now: Timestamp) -> Decision {
    let order = FollowUpOrder::Suppress { reason: "its result was acknowledged".into() };
    decide(projection, record, order, now)
}

fn step(projection: &Projection, step: DeliveryStep, now: Timestamp) -> Decision {
    let (record, event) = step.take(projection.settings, now);
    put(record, Some(event))
}

fn put(record: FollowUp, event: Option<Payload>) -> Decision {
    let reply = Reply::FollowUp { record: Box::new(record.clone()), again: false };
    let change = Change::FollowUp { record: Box::new(record), event };
    Decision { reply: Ok(reply), ..Decision::nothing().change(change) }
}

fn again(record: FollowUp) -> Decision {
    let reply = Reply::FollowUp { record: Box::new(record), again: true };
    Decision { reply: Ok(reply), ..Decision::nothing() }
}
