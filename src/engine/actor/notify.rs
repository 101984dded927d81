//! The notification of readers, waiters, deliverers of follow-ups and metrics, once a batch is
//! durable.

use std::sync::atomic::Ordering;

use crate::engine::{CallVersion, Shared, Watched};
use crate::machine::{Projection, Written};
use crate::model::{
    Call, CallId, Delivery, Event, FollowUp, FollowUpPut, FollowUpState, Payload, SessionId,
    Tenant, Timestamp, Unresolved,
};
use crate::telemetry::operations::{self, CallOperation, CallStep};

/// The versions that a batch publishes once it is durable. They are collected when the batch is
/// decided, because by the time they are published the session may have been decided further.
#[derive(Default)]
pub(super) struct Notification {
    /// The head that the batch leaves, or `None` if it changes nothing that is published.
    pub(super) head: Option<u64>,
    calls: Vec<(CallId, CallVersion)>,
    tasks_changed: bool,
    turn_ended: bool,
    follow_ups: Vec<FollowUpChange>,
    /// The lines of the log of operations.
    operations: Vec<CallOperation>,
    given_up: Vec<FollowUp>,
}

struct FollowUpChange {
    delivery: Delivery,
    state: FollowUpState,
    due_time: Option<Timestamp>,
    /// The follow-up was created by this batch.
    is_new: bool,
    /// A delivery attempt has failed.
    failed: bool,
}

impl Notification {
    pub(super) fn add_call(&mut self, call: &Call) {
        self.tasks_changed |= call.is_task();
        self.turn_ended |= call.state.is_terminal() && call.turn.is_some();
        self.calls.push((call.id, CallVersion::from(call)));
    }

    /// Adds the line of the log that an event of a call has. `unresolved` are the calls that a turn has
    /// left when it failed.
    pub(super) fn add_event(&mut self, event: &Event, call: &Call, unresolved: &[Unresolved]) {
        let step = match &event.payload {
            Payload::ToolCallParked { reason, .. } => CallStep::Parked(*reason),
            Payload::ToolCallCancelling { .. } => {
                let cause = call.cancellation.as_ref().map(|cancellation| cancellation.cause);
                CallStep::Cancelling(cause.unwrap_or_default())
            }
            Payload::ToolCallFinished(finished) => CallStep::Ended {
                state: finished.state,
                reason: finished.end_reason,
                unresolved: unresolved.iter().map(|call| call.call_id).collect(),
            },
            _ => return,
        };
        self.operations.push(CallOperation::new(call, step, event.create_time));
    }

    pub(super) fn add_follow_up(&mut self, put: &FollowUpPut) {
        let FollowUpPut { record, task } = put;
        if record.state == FollowUpState::DeadLettered {
            self.given_up.push(record.clone());
        }
        self.follow_ups.push(FollowUpChange {
            delivery: record.delivery,
            state: record.state,
            due_time: record.due_time,
            is_new: task.is_some(),
            failed: record.state != FollowUpState::Leased && record.last_error.is_some(),
        });
    }

    /// Publishes the versions and updates the metrics. The batch must be durable.
    pub(super) fn publish(&self, shared: &Shared, projection: &Projection, written: &Written) {
        let session = &projection.session;
        let Some(head) = self.head else { return };
        shared.heads.publish(&session.id, head);
        for (id, version) in &self.calls {
            shared.call_versions.publish(id, *version);
        }
        count(shared, written);
        self.operations.iter().for_each(CallOperation::write);
        self.given_up.iter().for_each(operations::follow_up_changed);
        if self.tasks_changed {
            let count = shared.change_count.fetch_add(1, Ordering::Relaxed) + 1;
            for scope in scopes(&session.tenant, session.id) {
                shared.changes.publish(&scope, count);
            }
        }
        self.publish_follow_ups(shared, projection);
    }

    /// Wakes those that deliver follow-ups. A session that runs a turn is not woken: the turn takes
    /// follow-ups between two rounds, and its end wakes the session for what it left.
    fn publish_follow_ups(&self, shared: &Shared, projection: &Projection) {
        if self.follow_ups.is_empty() && !self.turn_ended {
            return;
        }
        let session = &projection.session;
        let is_busy = projection.live_calls().any(|call| call.turn.is_some());
        let now = shared.now();
        let (mut is_ready, mut is_for_lease) = (self.turn_ended, false);
        for change in &self.follow_ups {
            shared.metrics.follow_ups().changed(change.is_new, change.failed, change.state);
            let is_pending = change.state == FollowUpState::Pending;
            is_for_lease |= is_pending && change.delivery == Delivery::Lease;
            match change.due_time {
                Some(due) if due > now => shared.wake_queue.arm(due),
                _ => is_ready |= is_pending && change.delivery == Delivery::Engine,
            }
        }
        if is_ready && !is_busy && !shared.wake_queue.wake(&session.tenant, session.id) {
            tracing::debug!(session_id = %session.id, "its follow-ups wait for the next sweep");
        }
        if is_for_lease {
            let count = shared.change_count.fetch_add(1, Ordering::Relaxed) + 1;
            for scope in scopes(&session.tenant, session.id) {
                shared.leases.publish(&scope, count);
            }
        }
    }
}

fn scopes(tenant: &Tenant, session_id: SessionId) -> [Watched; 2] {
    [Watched::Tenant(tenant.clone()), Watched::Session(session_id)]
}

fn count(shared: &Shared, written: &Written) {
    for kind in &written.accepted {
        shared.metrics.call_started(*kind);
    }
    for kind in &written.parked {
        shared.metrics.call_parked(*kind);
    }
    // An acknowledgement settles a call that has ended, and been counted, before.
    let ended = written.settled.iter().filter(|call| call.acknowledge_time.is_none());
    let mut change = i32::try_from(written.accepted.len()).unwrap_or(i32::MAX);
    for call in ended {
        shared.metrics.call_finished(call.kind, call.state);
        change -= 1;
    }
    shared.metrics.live_calls_changed(change);
}
