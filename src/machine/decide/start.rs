//! `Start`: a call is accepted or refused.

use super::super::follow_up::CALLPARK;
use super::super::{
    Cancel, Change, Concurrency, Decision, Effect, Projection, Refusal, Start, Timer,
};
use super::{begin, cancel};
use crate::model::limits::EVENT_ARGUMENTS_BYTES_MAX;
use crate::model::{
    BusyPolicy, Call, CallPolicy, CancelCause, FollowUp, FollowUpState, ParkReason, SessionState,
    State, TaskLimitPolicy, Timestamp, Turn,
};

/// Refuses the call or accepts it. An accepted call runs at once, or is pending until the calls that
/// block it have ended and it has a slot. A budget of zero parks it in the same commit.
pub(super) fn decide(projection: &Projection, start: Start, now: Timestamp) -> Decision {
    let session_id = projection.session.id;
    if projection.session.state != SessionState::Open {
        return Decision::refused(Refusal::SessionClosed { session_id });
    }
    let follow_ups = start.turn.as_ref().and_then(|turn| turn.follow_ups.as_ref());
    let is_pending = |record: &FollowUp| record.state == FollowUpState::Pending;
    if let Some(records) = follow_ups.filter(|records| !records.iter().any(is_pending)) {
        let call_id = records.first().map_or(start.call_id, |record| record.call_id);
        return Decision::refused(Refusal::FollowUpTaken { call_id });
    }
    let busy_policy = start.turn.as_ref().map(|turn| turn.busy_policy);
    if busy_policy == Some(BusyPolicy::Reject) && projection.live_calls().any(is_turn) {
        return Decision::refused(Refusal::TurnRunning { session_id });
    }
    let mut decision = match admit(projection, &start, now) {
        Ok(decision) => decision,
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

/// Checks the limit of live calls, and evicts a task if the policy of the session says so.
fn admit(projection: &Projection, start: &Start, now: Timestamp) -> Result<Decision, Refusal> {
    if start.concurrency == Concurrency::Reject {
        let live = projection.live_calls().filter(|call| call.is_task()).count();
        if live > 0 {
            let live = u32::try_from(live).unwrap_or(u32::MAX);
            return Err(Refusal::Busy { session_id: projection.session.id, live });
        }
    }
    let session = &projection.session;
    let limit = session.max_live_tasks;
    // A full session still accepts calls that manage its tasks, and one turn of its agent.
    let is_exempt =
        start.is_control || (start.turn.is_some() && !projection.live_calls().any(is_turn));
    if session.live_tasks < limit || is_exempt {
        return Ok(Decision::nothing());
    }
    let full = Refusal::TaskLimit { session_id: session.id, limit };
    // Calls that are being stopped don't count, up to the same number again: processes that ignore
    // TERM must not accumulate without bound.
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
        .min_by_key(|call| (call.park_time, call.accept_sequence))
        .ok_or(full)?;
    let reason = "the session was at its limit and this was its oldest parked task";
    let cancel = by_callpark(projection, oldest, reason, CancelCause::Evicted);
    Ok(cancel::decide(projection, cancel, now))
}

fn is_turn(call: &Call) -> bool {
    call.turn.is_some()
}

/// Cancels the calls that the new one replaces.
fn stop_all(
    projection: &Projection,
    mut decision: Decision,
    is_replaced: fn(&Call) -> bool,
    reason: &str,
    now: Timestamp,
) -> Decision {
    // A call that was evicted for the new one is stopped already.
    let replaced = |call: &&Call| is_replaced(call) && !decision.stops(call.id);
    let mut replaced: Vec<&Call> = projection.live_calls().filter(replaced).collect();
    replaced.sort_by_key(|call| call.accept_sequence);
    for call in replaced {
        let cancel = by_callpark(projection, call, reason, CancelCause::Replaced);
        let stop = cancel::decide(projection, cancel, now);
        decision.changes.extend(stop.changes);
        decision.effects.extend(stop.effects);
    }
    decision
}

fn by_callpark(projection: &Projection, call: &Call, reason: &str, cause: CancelCause) -> Cancel {
    let cancel = Cancel::new(call.id, CALLPARK, reason, projection.settings.grace);
    Cancel { cause, ..cancel }
}

fn accept(projection: &Projection, made: Decision, mut start: Start, now: Timestamp) -> Decision {
    let Start { arguments_bytes, stdin_bytes, .. } = start;
    let arguments = (arguments_bytes <= EVENT_ARGUMENTS_BYTES_MAX as u64)
        .then(|| std::mem::take(&mut start.arguments));
    let (call_id, has_slot) = (start.call_id, start.has_slot);
    let follow_ups = start.turn.as_mut().and_then(|turn| turn.follow_ups.as_mut());
    let follow_ups = follow_ups.map(std::mem::take).unwrap_or_default();
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
    let call = Box::new(call);
    decision = decision.change(Change::Accepted { call, arguments, arguments_bytes, stdin_bytes });
    for record in follow_ups.into_iter().filter(|record| record.state == FollowUpState::Pending) {
        decision = decision.change(Change::FollowUpClaimed { call_id, record: Box::new(record) });
    }
    match parked {
        true => decision.change(Change::Parked(call_id, ParkReason::BackgroundStart)),
        false => decision,
    }
}

fn new_call(projection: &Projection, start: Start, now: Timestamp) -> Call {
    let queued = matches!(start.concurrency, Concurrency::Queue | Concurrency::Replace);
    let turn = start.turn.map(|turn| {
        let delivers = turn.follow_ups.is_some();
        Box::new(Turn::new(turn.model, delivers, turn.setup))
    });
    Call {
        turn_id: start.turn_id,
        description: start.description,
        park_time: start.background.then_some(now),
        parent: start.parent,
        turn,
        labels: start.labels,
        policy: CallPolicy { queued, ..start.policy },
        ..Call::new(start.call_id, &projection.session, start.tool, start.kind, now)
    }
}
