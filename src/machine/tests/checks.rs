//! The invariants that hold after every command.

use std::time::Duration;

use super::super::{Change, Command, Concurrency, Decision, Projection, Start, Written, decide};
use super::world::{RETENTION, World};
use crate::model::{
    BusyPolicy, Call, CallFinished, CallId, Event, OnDisconnect, Outcome, Payload, State,
    StopCause, TaskLimitPolicy, Timestamp,
};

/// Checks that the same projection and the same command give the same decision, also when the
/// projection was rebuilt, as it is after a restart.
pub(super) fn check_pure(
    projection: &Projection,
    command: &Command,
    now: Timestamp,
    decision: &Decision,
) {
    assert_eq!(&decide(projection, command.clone(), now), decision, "decided twice");
    let live = projection.live_calls().cloned().collect();
    let again = Projection::new(projection.session.clone(), live, projection.settings);
    assert_eq!(&again, projection, "put together anew");
    assert_eq!(&decide(&again, command.clone(), now), decision, "decided after a restart");
}

pub(super) fn check_refused_changes_nothing(decision: &Decision) {
    if decision.reply.is_err() {
        assert!(decision.changes.is_empty() && decision.effects.is_empty(), "{decision:?}");
    }
}

/// Checks that each command stops or ends only the calls that it may. A parked task in particular
/// ends by itself, by a cancel, a timeout, loss, eviction, replacement or the closing of its
/// session, and never because a caller disconnected.
pub(super) fn check_stops_are_allowed(
    projection: &Projection,
    command: &Command,
    decision: &Decision,
) {
    for change in &decision.changes {
        let (id, ends) = match change {
            Change::Ended { call_id, .. } => (*call_id, true),
            Change::Cancelling { call_id, .. } => (*call_id, false),
            Change::Stopping(call_id, _) => (*call_id, false),
            _ => continue,
        };
        let call = projection.call(id).expect("only a live call can be stopped");
        let may = match command {
            Command::Finish(finish) => finish.call_id == id && ends,
            Command::Lose { call_id, .. } => *call_id == id && ends,
            Command::Timeout { call_id, .. } => *call_id == id && !ends,
            Command::Cancel(cancel) => cancel.call_id == id,
            Command::Disconnect { call_id, .. }
            | Command::Adopt { call_id }
            | Command::Resume { call_id } => {
                *call_id == id
                    && !call.is_task()
                    && call.policy.on_disconnect == OnDisconnect::Cancel
            }
            Command::Start(start) => {
                (call.is_task() && may_make_room(projection, start)) || interrupts(start, call)
            }
            Command::Close(_) => !call.policy.detached,
            _ => false,
        };
        assert!(may, "{command:?} must not stop {call:?}");
        assert!(!ends || may_end_at_once(command, call), "{command:?} ended {call:?}");
    }
}

fn may_make_room(projection: &Projection, start: &Start) -> bool {
    let session = &projection.session;
    let evicts = session.task_limit_policy == TaskLimitPolicy::EvictOldest
        && session.live_tasks >= session.max_live_tasks;
    start.concurrency == Concurrency::Replace || evicts
}

/// A turn that interrupts another one.
fn interrupts(start: &Start, call: &Call) -> bool {
    let policy = start.turn.as_ref().map(|turn| turn.busy_policy);
    policy == Some(BusyPolicy::Interrupt) && call.turn.is_some()
}

/// Calls that don't run can be ended without their run.
fn may_end_at_once(command: &Command, call: &Call) -> bool {
    matches!(command, Command::Finish(_) | Command::Lose { .. }) || call.state == State::Pending
}

/// Checks that each change moves a call along the state diagram and is counted in its record.
pub(super) fn check_moves(before: &Projection, after: &Projection, written: &Written) {
    for old in before.live_calls() {
        let settled = || written.settled.iter().find(|call| call.id == old.id);
        let new = after.call(old.id).or_else(settled).expect("no record gets lost");
        if new == old {
            continue;
        }
        assert_eq!(new.revision, old.revision + 1, "a change counts once");
        // Only another attempt goes back.
        let is_again = new.state == State::Pending && new.attempt == old.attempt + 1;
        let is_moved = new.state == old.state || is_move(old.state, new.state) || is_again;
        assert!(is_moved, "{old:?} → {new:?}");
        assert_eq!(after.call(old.id).is_none(), new.state.is_terminal(), "{new:?}");
        assert!(old.park_time.is_none() || new.park_time == old.park_time, "parked twice");
        let started_once = old.start_time.is_none() || new.start_time == old.start_time;
        assert!(started_once || is_again, "ran twice");
        assert!(old.stopping.is_none() || new.stopping == old.stopping, "the first cause wins");
    }
    for new in after.live_calls().filter(|call| before.call(call.id).is_none()) {
        assert!(matches!(new.state, State::Pending | State::Running), "{new:?}");
    }
}

fn is_move(from: State, to: State) -> bool {
    use State::{Cancelled, Cancelling, Failed, Lost, Pending, Running, Succeeded, TimedOut};
    match from {
        Pending => matches!(to, Running | Cancelling | Lost),
        // No call becomes CANCELLED without a recorded request.
        Running => matches!(to, Cancelling | Succeeded | Failed | TimedOut | Lost),
        Cancelling => matches!(to, Cancelled | Succeeded | Failed | Lost),
        _ => false,
    }
}

/// Checks that sequences are 1, 2, 3…, that after the end of a call only events of its follow-up
/// appear, that no event follows the end of the log, and that a call is asked to stop only once.
pub(super) fn check_event_follows(log: &[Event], event: &Event) {
    assert_eq!(event.sequence, log.len() as u64 + 1, "no gap");
    if let Some(last) = log.last() {
        assert!(!matches!(last.payload, Payload::SessionShutdown { .. }), "{event:?}");
        assert!(last.create_time <= event.create_time);
    }
    if is_of_follow_up(&event.payload) {
        return;
    }
    let same_call = |other: &&Event| event.call_id.is_some() && other.call_id == event.call_id;
    for earlier in log.iter().filter(same_call) {
        assert!(!matches!(earlier.payload, Payload::ToolCallFinished(_)), "{event:?}");
        let kind = event.payload.kind();
        let asked = matches!(event.payload, Payload::ToolCallCancelling { .. });
        assert!(!asked || earlier.payload.kind() != kind, "asked to stop twice: {event:?}");
    }
}

fn is_of_follow_up(payload: &Payload) -> bool {
    matches!(
        payload,
        Payload::FollowUpScheduled
            | Payload::FollowUpStarted { .. }
            | Payload::FollowUpFinished { .. }
    )
}

/// Checks that the record of an ended call agrees with its terminal event.
pub(super) fn check_settled(call: &Call, log: &[Event]) {
    let cause = call.stopping.map(|stopping| stopping.cause);
    let result = match call.outcome.as_ref().expect("an ended call has an outcome") {
        Outcome::Result(result) => Some(result),
        Outcome::Failure(_) => None,
    };
    let is_error = result.map(|result| result.is_error);
    match call.state {
        State::Succeeded => {
            assert_eq!(is_error, Some(false));
            assert!(result.is_some_and(|result| result.exit.is_some()), "a recorded exit");
        }
        State::Failed => assert_eq!(is_error, Some(true)),
        State::TimedOut => {
            assert_eq!(is_error, Some(true));
            let limits = [StopCause::ExecutionTimeout, StopCause::IdleTimeout];
            assert!(cause.is_some_and(|cause| limits.contains(&cause)), "{cause:?}");
        }
        State::Cancelled => {
            assert_eq!((is_error, cause), (Some(true), Some(StopCause::Cancel)));
            let request = call.cancellation.as_ref().expect("a recorded request");
            assert_eq!(request.acknowledged_time, call.end_time);
        }
        State::Lost => assert!(result.is_none(), "a lost call has no result"),
        _ => panic!("{call:?} is settled but hasn't ended"),
    }
    if let Some(result) = result {
        assert_eq!((result.start_time, Some(result.end_time)), (call.start_time, call.end_time));
    }
    let end = call.end_time.expect("an ended call has an end");
    let expire = call.expire_time.expect("an ended call has a time to be forgotten at");
    if call.state == State::Lost {
        // Counted from when the loss was found: it may have ended long before.
        assert!(expire >= end.saturating_add(RETENTION));
    } else {
        assert_eq!(expire, end.saturating_add(RETENTION));
    }
    check_terminal_event(call, finished(log, call.id));
}

fn check_terminal_event(call: &Call, event: &CallFinished) {
    assert_eq!((event.state, &event.reason), (call.state, &call.reason));
    assert_eq!(Some(&event.outcome), call.outcome.as_ref());
    assert_eq!(event.background, call.is_task());
    // Neither the wait for a slot nor parking counts as run time.
    if let (Some(start), Some(end)) = (call.start_time, call.end_time) {
        assert_eq!(event.elapsed, Some(end.since(start)));
        assert_eq!(call.elapsed(end.saturating_add(Duration::from_secs(9))), end.since(start));
    }
}

/// Returns the only terminal event of a call.
pub(super) fn finished(log: &[Event], id: CallId) -> &CallFinished {
    let mut ends = log.iter().filter(|event| event.call_id == Some(id)).filter_map(|event| {
        match &event.payload {
            Payload::ToolCallFinished(finished) => Some(finished.as_ref()),
            _ => None,
        }
    });
    let end = ends.next().expect("there is a terminal event");
    assert!(ends.next().is_none(), "there is one terminal event");
    end
}

/// Checks the counts of the projection.
pub(super) fn check_counts(world: &World) {
    let World { projection, log, accepted, .. } = world;
    let live = projection.live_calls().count();
    assert_eq!(projection.session.live_tasks as usize, live);
    let pending = projection.live_calls().filter(|call| call.state == State::Pending).count();
    assert_eq!(projection.pending, pending);
    assert_eq!(projection.session.head_sequence, log.len() as u64);
    let is_end = |event: &&Event| matches!(event.payload, Payload::ToolCallFinished(_));
    assert_eq!(log.iter().filter(is_end).count() + live, accepted.len());
    if projection.session.task_limit_policy == TaskLimitPolicy::EvictOldest {
        assert!(live <= 2 * projection.session.max_live_tasks as usize);
    }
}
