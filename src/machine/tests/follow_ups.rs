//! Follow-ups: one for each end that asks for it, claimed by one consumer at a time.

use std::time::Duration;

use super::super::{
    Command, DeliveryOutcome, FollowUpOrder, Loss, Refusal, Reply, Start, StartTurn,
};
use super::turns::{report, start as start_turn, turn};
use super::world::{MINUTE, RETENTION, World, cancel, exited};
use crate::model::limits::FOLLOW_UP_ATTEMPTS_MAX;
use crate::model::{
    BusyPolicy, CallId, CallPolicy, Delivery, DeliveryError, FollowUp, FollowUpPolicy,
    FollowUpState, Lease, PayloadKind, StopReason, TurnEnd, TurnError, TurnReport,
};

fn task(world: &mut World, follow_up: FollowUpPolicy) -> CallId {
    let task = world.task("bash");
    world.start(Start { policy: CallPolicy { follow_up, ..task.policy.clone() }, ..task })
}

/// Ends a task that has a follow-up.
fn ended(world: &mut World) -> CallId {
    let id = task(world, FollowUpPolicy::OnFinish);
    world.succeed(id);
    id
}

fn record(world: &World, id: CallId) -> FollowUp {
    world.follow_ups[&id].clone()
}

fn state(world: &World, id: CallId) -> FollowUpState {
    record(world, id).state
}

fn order(world: &mut World, id: CallId, order: FollowUpOrder) -> Result<Reply, Refusal> {
    let record = Box::new(record(world, id));
    world.send(Command::FollowUp { record, order })
}

fn lease(token: &str, world: &World) -> FollowUpOrder {
    let lease = Lease { token: token.into(), request_id: None, consumer: String::new() };
    FollowUpOrder::Lease { lease, until: world.now.saturating_add(MINUTE) }
}

fn acknowledge(token: &str, outcome: DeliveryOutcome) -> FollowUpOrder {
    FollowUpOrder::Acknowledge { token: token.into(), outcome }
}

fn failed() -> DeliveryOutcome {
    DeliveryOutcome::Failed(DeliveryError { code: 2, message: "no luck".into() })
}

/// A session with an agent.
fn with_agent() -> World {
    let mut world = World::new();
    let id = start_turn(&mut world, BusyPolicy::Reject);
    let said = TurnReport::Message {
        text: "hello".into(),
        calls: Vec::new(),
        incomplete_call_ids: Vec::new(),
        provider_data: None,
        stop: None,
    };
    report(&mut world, id, said);
    end_turn(&mut world, id, Ok(StopReason::EndTurn));
    world
}

fn end_turn(world: &mut World, id: CallId, stop: Result<StopReason, TurnError>) {
    let end = TurnEnd { stop, history_omitted: 0, note: None };
    report(world, id, TurnReport::Ended(end));
    world.succeed(id);
}

/// A turn to start that delivers this follow-up.
fn delivering(world: &mut World, id: CallId) -> Start {
    let follow_ups = Some(vec![record(world, id)]);
    let turn = turn(world, BusyPolicy::Reject);
    let delivery = StartTurn { follow_ups, ..turn.turn.clone().expect("a turn") };
    Start { turn: Some(delivery), ..turn }
}

#[test]
fn the_end_that_is_asked_for_gives_one_behind_it() {
    let mut world = World::new();
    let id = task(&mut world, FollowUpPolicy::OnFailure);
    world.finish(id, exited(3), false).expect("ended");
    assert_eq!(world.emitted(id), [PayloadKind::ToolCallFinished, PayloadKind::FollowUpScheduled]);
    assert_eq!(record(&world, id).delivery, Delivery::Lease);
    let fine = task(&mut world, FollowUpPolicy::OnFailure);
    world.succeed(fine);
    let stopped = task(&mut world, FollowUpPolicy::OnFailure);
    world.send(Command::Cancel(cancel(stopped))).expect("stopped");
    world.stop(stopped);
    assert_eq!(world.follow_ups.len(), 1, "CANCELLED is no failure");
    let call = world.call("bash");
    let follow_up = FollowUpPolicy::OnFinish;
    let call = Start { policy: CallPolicy { follow_up, ..call.policy.clone() }, ..call };
    let foreground = world.start(call);
    world.succeed(foreground);
    assert_eq!(world.follow_ups.len(), 1, "its caller has the result");
}

#[test]
fn a_follow_up_has_one_lease_at_a_time() {
    let mut world = World::new();
    let id = ended(&mut world);
    let mine = lease("mine", &world);
    order(&mut world, id, mine.clone()).expect("leased");
    assert_eq!(order(&mut world, id, mine), Err(Refusal::FollowUpTaken { call_id: id }));
    let other = acknowledge("other", DeliveryOutcome::Delivered);
    assert_eq!(order(&mut world, id, other), Err(Refusal::LeaseExpired { call_id: id }));
    let done = acknowledge("mine", DeliveryOutcome::Delivered);
    order(&mut world, id, done.clone()).expect("taken");
    assert_eq!(state(&world, id), FollowUpState::Delivered);
    let again = order(&mut world, id, done);
    assert!(matches!(again, Ok(Reply::FollowUp { again: true, .. })), "{again:?}");
    assert_eq!(
        order(&mut world, id, acknowledge("mine", failed())),
        Err(Refusal::LeaseExpired { call_id: id })
    );
    let expires = record(&world, id).expire_time.expect("a time");
    assert_eq!(expires.since(record(&world, id).update_time), RETENTION);
}

#[test]
fn attempts_are_counted_up_to_the_dead_letter() {
    let mut world = World::new();
    let id = ended(&mut world);
    for attempt in 1..=FOLLOW_UP_ATTEMPTS_MAX {
        assert_eq!(state(&world, id), FollowUpState::Pending);
        let lease = lease("t", &world);
        order(&mut world, id, lease).expect("leased");
        let back = acknowledge("t", DeliveryOutcome::Released);
        order(&mut world, id, back).expect("given back");
        assert_eq!(record(&world, id).attempt, attempt - 1, "that was none");
        let lease = super::follow_ups::lease("t", &world);
        order(&mut world, id, lease).expect("leased");
        order(&mut world, id, acknowledge("t", failed())).expect("failed");
    }
    let dead = record(&world, id);
    assert_eq!((dead.state, dead.due_time), (FollowUpState::DeadLettered, None));
    order(&mut world, id, FollowUpOrder::Retry).expect("revived");
    let alive = record(&world, id);
    assert_eq!((alive.state, alive.attempt, alive.expire_time), (FollowUpState::Pending, 0, None));
}

#[test]
fn pauses_are_parts_of_a_span_that_doubles() {
    let mut world = World::new();
    let mut longest = Duration::ZERO;
    for _ in 0..50 {
        let id = ended(&mut world);
        for attempt in 1..FOLLOW_UP_ATTEMPTS_MAX {
            let lease = lease("t", &world);
            order(&mut world, id, lease).expect("leased");
            order(&mut world, id, acknowledge("t", failed())).expect("failed");
            let record = record(&world, id);
            let pause = record.due_time.expect("due").since(record.update_time);
            let whole = Duration::from_secs(1 << attempt).min(5 * MINUTE);
            assert!(pause <= whole, "{pause:?} behind attempt {attempt}");
            longest = longest.max(pause);
        }
    }
    assert!(longest > 4 * MINUTE, "{longest:?} is the longest of many");
}

#[test]
fn a_lease_lapses_when_its_time_has_come_and_not_before() {
    let mut world = World::new();
    let id = ended(&mut world);
    let lease = lease("t", &world);
    order(&mut world, id, lease).expect("leased");
    order(&mut world, id, FollowUpOrder::LeaseExpired).expect("looked at");
    assert_eq!(state(&world, id), FollowUpState::Leased);
    world.later(MINUTE);
    order(&mut world, id, FollowUpOrder::LeaseExpired).expect("ended");
    let record = record(&world, id);
    assert_eq!((record.state, record.attempt), (FollowUpState::Pending, 1));
    assert_eq!(record.due_time, Some(record.update_time), "at once");
}

#[test]
fn a_turn_that_ends_well_has_delivered_and_one_that_fails_has_not() {
    let mut world = with_agent();
    let failure = TurnError { code: "c".into(), message: "m".into(), retryable: true };
    for (stop, left) in [
        (Ok(StopReason::EndTurn), FollowUpState::Delivered),
        (Ok(StopReason::MaxRounds), FollowUpState::Delivered),
        (Err(failure), FollowUpState::Pending),
    ] {
        let id = ended(&mut world);
        assert_eq!(record(&world, id).delivery, Delivery::Engine);
        let turn = delivering(&mut world, id);
        let turn = world.start(turn);
        assert_eq!((state(&world, id), record(&world, id).attempt), (FollowUpState::Leased, 1));
        let said = TurnReport::Message {
            text: "noted".into(),
            calls: Vec::new(),
            incomplete_call_ids: Vec::new(),
            provider_data: None,
            stop: None,
        };
        let before = world.projection.session.messages;
        report(&mut world, turn, said);
        assert_eq!(world.projection.session.messages, before, "the end decides what is kept");
        let is_heard = stop.is_ok();
        end_turn(&mut world, turn, stop);
        assert_eq!(state(&world, id), left);
        let kept = world.projection.session.messages - before;
        assert_eq!(kept, u64::from(is_heard));
    }
}

#[test]
fn a_turn_for_which_no_budget_was_left_has_failed_to_deliver() {
    let mut world = with_agent();
    let id = ended(&mut world);
    let turn = delivering(&mut world, id);
    let turn = world.start(turn);
    end_turn(&mut world, turn, Ok(StopReason::BudgetUsedUp));
    let record = record(&world, id);
    assert_eq!((record.state, record.attempt), (FollowUpState::Pending, 1));
    assert!(record.due_time > Some(record.update_time), "not at once");
    let error = record.last_error.expect("an error");
    assert!(error.code == 8 && error.message.contains("budget"), "{error:?}");
}

#[test]
fn a_claimed_one_is_not_delivered_by_another_turn() {
    let mut world = with_agent();
    let id = ended(&mut world);
    let (first, second) = (delivering(&mut world, id), delivering(&mut world, id));
    let first = world.start(first);
    end_turn(&mut world, first, Ok(StopReason::EndTurn));
    // Its record is read again before it is decided.
    let delivery = StartTurn {
        follow_ups: Some(vec![record(&world, id)]),
        ..second.turn.clone().expect("a turn")
    };
    let second = Start { turn: Some(delivery), ..second };
    assert_eq!(world.try_start(second), Err(Refusal::FollowUpTaken { call_id: id }));
}

#[test]
fn an_interrupted_turn_releases_its_follow_ups() {
    let mut world = with_agent();
    let id = ended(&mut world);
    let delivering = delivering(&mut world, id);
    let delivering = world.start(delivering);
    let prompt = start_turn(&mut world, BusyPolicy::Interrupt);
    world.stop(delivering);
    let given_back = record(&world, id);
    assert_eq!((given_back.state, given_back.attempt), (FollowUpState::Pending, 0));
    world.begin(prompt);
    let records = vec![given_back];
    let taken = world.send(Command::TakeFollowUps { call_id: prompt, records });
    assert_eq!(taken, Ok(Reply::Claimed(vec![id])));
    end_turn(&mut world, prompt, Ok(StopReason::EndTurn));
    assert_eq!(state(&world, id), FollowUpState::Delivered);
}

#[test]
fn a_turn_that_is_lost_with_its_server_was_no_attempt() {
    let mut world = with_agent();
    let id = ended(&mut world);
    for _ in 0..=FOLLOW_UP_ATTEMPTS_MAX {
        let delivering = delivering(&mut world, id);
        let delivering = world.start(delivering);
        let lost = Command::Lose { call_id: delivering, loss: Loss::with_server(world.now) };
        world.send(lost).expect("lost");
        let record = record(&world, id);
        assert_eq!((record.state, record.attempt), (FollowUpState::Pending, 0));
    }
}

#[test]
fn a_cancelled_turn_is_not_started_again() {
    let mut world = with_agent();
    let id = ended(&mut world);
    let delivering = delivering(&mut world, id);
    let delivering = world.start(delivering);
    world.cancel(delivering).expect("stopped");
    world.stop(delivering);
    assert_eq!(state(&world, id), FollowUpState::Suppressed);
}

#[test]
fn unneeded_follow_ups_are_suppressed_unless_they_are_leased() {
    let mut world = World::new();
    let cancelled = task(&mut world, FollowUpPolicy::OnFinish);
    world.cancel(cancelled).expect("stopped");
    world.stop(cancelled);
    assert_eq!(record(&world, cancelled).reason, "it was cancelled by anna");
    let acknowledge = |world: &mut World, id: CallId| {
        let call = Box::new(world.record(id).clone());
        let follow_up = Some(Box::new(record(world, id)));
        world.send(Command::Acknowledge { call, follow_up }).expect("acknowledged");
    };
    let unclaimed = ended(&mut world);
    acknowledge(&mut world, unclaimed);
    assert_eq!(state(&world, unclaimed), FollowUpState::Suppressed);
    let taken = ended(&mut world);
    let lease = lease("t", &world);
    order(&mut world, taken, lease).expect("leased");
    acknowledge(&mut world, taken);
    assert_eq!(state(&world, taken), FollowUpState::Leased);
    let live = task(&mut world, FollowUpPolicy::OnFinish);
    let waiting = ended(&mut world);
    world.close().expect("closed");
    world.stop(live);
    assert_eq!(state(&world, live), FollowUpState::Suppressed);
    let lease = super::follow_ups::lease("t", &world);
    order(&mut world, waiting, lease).expect("looked at");
    assert_eq!(state(&world, waiting), FollowUpState::Suppressed, "the session is closed");
    assert!(world.last.events.is_empty(), "nothing follows the end of the log");
}
