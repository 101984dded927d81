//! A caller starts a call.

use super::super::follow_up::CALLPARK;
use super::super::{
    Cancel, Change, Concurrency, Decision, Effect, Projection, Refusal, Start, Timer,
};
use super::{begin, cancel};
use crate::model::limits::EVENT_ARGUMENTS_BYTES_MAX;
use crate::model::{
    BusyPolicy, Call, CallPolicy, FollowUpState, ParkReason, SessionState, State, TaskLimitPolicy,
    Timestamp, Turn,
};

/// Refused, or accepted: running at once, or pending until those it must not run beside have
/// ended and there is a place. A budget of zero parks it in the same commit.
pub(super) fn decide(projection: &Projection, start: Start, now: Timestamp) -> Decision {
    if projection.session.state != SessionState::Open {
        return Decision::refused(Refusal::SessionClosed);
    }
    let told = start.turn.as_ref().and_then(|turn| turn.follow_ups.as_ref());
    if told.is_some_and(|told| told.iter().all(|record| record.state != FollowUpState::Pending)) {
        return Decision::refused(Refusal::FollowUpTaken);
    }
    let busy_policy = start.turn.as_ref().map(|turn| turn.busy_policy);
    if busy_policy == Some(BusyPolicy::Reject) && projection.live_calls().any(is_turn) {
        return Decision::refused(Refusal::TurnRunning);
    }
    let mut decision = match admit(projection, &start, now) {
        Ok(room) => room,
        Err(refusal) => return Decision::refused(refusal),
    };
    if start.concurrency == Concurrency::Replace {
        decision = stop_all(projection, decision, Call::is_task, "replaced by a new task", now);
    }
    if busy_policy == Some(BusyPolicy::Interrupt) {
        decision = stop_all(projection, decision, is_turn, "interrupted by a new turn", now);
    }
    accept(projection, decision, start, now)
}

/// Makes room, or says why there is none.
fn admit(projection: &Projection, start: &Start, now: Timestamp) -> Result<Decision, Refusal> {
    if start.concurrency == Concurrency::Reject {
        let live = projection.live_calls().filter(|call| call.is_task()).count();
        if live > 0 {
            return Err(Refusal::Busy { live: u32::try_from(live).unwrap_or(u32::MAX) });
        }
    }
    let session = &projection.session;
    let limit = session.max_live_tasks;
    // However full the session is, its agent can be asked to look at what is there.
    let looks_after =
        start.is_control || (start.turn.is_some() && !projection.live_calls().any(is_turn));
    if session.live_tasks < limit || looks_after {
        return Ok(Decision::nothing());
    }
    let full = Refusal::TaskLimit { limit };
    // Those on their way out don't count, but only up to as many again: a session can't gather
    // processes that ignore TERM without bound.
    if session.task_limit_policy == TaskLimitPolicy::Reject
        || session.live_tasks >= limit.saturating_mul(2)
    {
        return Err(full);
    }
    let staying = projection.live_calls().filter(|call| call.stopping.is_none());
    if staying.clone().count() < limit as usize {
        return Ok(Decision::nothing());
    }
    let oldest = staying
        .filter(|call| call.is_task())
        .min_by_key(|call| (call.park_time, call.start_sequence))
        .ok_or(full)?;
    let reason = "the session was at its limit and this was its oldest parked task";
    Ok(cancel::evict(projection, by_callpark(projection, oldest, reason), now))
}

fn is_turn(call: &Call) -> bool {
    call.turn.is_some()
}

/// Cancels those that the new call takes the place of.
fn stop_all(
    projection: &Projection,
    mut decision: Decision,
    is_replaced: fn(&Call) -> bool,
    reason: &str,
    now: Timestamp,
) -> Decision {
    // Those that make room for the new one are stopped already.
    let replaced = |call: &&Call| is_replaced(call) && !decision.stops(call.id);
    let mut replaced: Vec<&Call> = projection.live_calls().filter(replaced).collect();
    replaced.sort_by_key(|call| call.start_sequence);
    for call in replaced {
        let stop = cancel::decide(projection, by_callpark(projection, call, reason), now);
        decision.changes.extend(stop.changes);
        decision.effects.extend(stop.effects);
    }
    decision
}

fn by_callpark(projection: &Projection, call: &Call, reason: &str) -> Cancel {
    Cancel {
        call_id: call.id,
        requested_by: CALLPARK.into(),
        reason: reason.into(),
        force: false,
        grace: projection.settings.grace,
    }
}

fn accept(projection: &Projection, made: Decision, mut start: Start, now: Timestamp) -> Decision {
    let arguments_bytes = start.arguments_bytes;
    let arguments = (arguments_bytes <= EVENT_ARGUMENTS_BYTES_MAX as u64)
        .then(|| std::mem::take(&mut start.arguments));
    let (call_id, has_slot) = (start.call_id, start.has_slot);
    let told = start.turn.as_mut().and_then(|turn| turn.follow_ups.as_mut());
    let told = told.map(std::mem::take).unwrap_or_default();
    let mut call = new_call(projection, start, now);
    let blocked = projection.is_blocked(&call, &made.ended());
    if !blocked && has_slot {
        call.state = State::Running;
        call.start_time = Some(now);
    }
    let no_budget_left = call.policy.call_budget.is_some_and(|budget| budget.is_zero());
    let parked = call.is_task() || no_budget_left;
    let mut decision = match (blocked, has_slot) {
        (false, true) => begin::run(made, &call),
        (false, false) => made.effect(Effect::Reserve(call_id)),
        (true, true) => made.effect(Effect::Release(call_id)),
        (true, false) => made,
    };
    if let (false, Some(budget)) = (parked, call.policy.call_budget) {
        decision = decision.effect(Effect::Arm(call_id, Timer::Budget, budget));
    }
    decision =
        decision.change(Change::Accepted { call: Box::new(call), arguments, arguments_bytes });
    for record in told.into_iter().filter(|record| record.state == FollowUpState::Pending) {
        decision = decision.change(Change::FollowUpClaimed { call_id, record: Box::new(record) });
    }
    match parked {
        true => decision.change(Change::Parked(call_id, ParkReason::BackgroundStart)),
        false => decision,
    }
}

fn new_call(projection: &Projection, start: Start, now: Timestamp) -> Call {
    let queued = matches!(start.concurrency, Concurrency::Queue | Concurrency::Replace);
    Call {
        id: start.call_id,
        session_id: projection.session.id,
        tenant: projection.session.tenant.clone(),
        turn_id: start.turn_id,
        tool: start.tool,
        kind: start.kind,
        description: start.description,
        state: State::Pending,
        reason: String::new(),
        create_time: now,
        start_time: None,
        park_time: start.background.then_some(now),
        park_reason: None,
        end_time: None,
        update_time: now,
        expire_time: None,
        attempt: 1,
        parent: start.parent,
        progress: None,
        outcome: None,
        turn: start.turn.map(|turn| {
            let delivers = turn.follow_ups.is_some();
            Box::new(Turn { model: turn.model, end: None, delivers, follow_ups: Vec::new() })
        }),
        usage: None,
        cancellation: None,
        stopping: None,
        labels: start.labels,
        policy: CallPolicy { queued, ..start.policy },
        // Newer than all: the place in the order is given with the event.
        start_sequence: u64::MAX,
        acknowledge_time: None,
        revision: 1,
    }
}
