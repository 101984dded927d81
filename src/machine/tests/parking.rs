//! Going to the background, and losing the caller.

use std::time::Duration;

use super::super::{Command, Effect, Reply, Start, Timer};
use super::world::{GRACE, MINUTE, World};
use crate::model::{CallId, CallPolicy, OnDisconnect, ParkReason, Payload, PayloadKind, State};

pub(super) fn park(world: &mut World, call_id: CallId) {
    let park = Command::Park { call_id, reason: ParkReason::Budget };
    assert_eq!(world.send(park), Ok(Reply::Done));
}

fn disconnect(world: &mut World, call_id: CallId) {
    assert_eq!(
        world.send(Command::Disconnect { call_id, reason: ParkReason::Disconnected }),
        Ok(Reply::Done)
    );
}

fn start_with_budget(world: &mut World, budget: Duration) -> CallId {
    let policy = CallPolicy { call_budget: Some(budget), ..CallPolicy::default() };
    let start = Start { policy, ..world.call("shell") };
    world.start(start)
}

fn start_with_on_disconnect(world: &mut World, on_disconnect: OnDisconnect) -> CallId {
    let policy = CallPolicy { on_disconnect, ..CallPolicy::default() };
    let start = Start { policy, ..world.call("shell") };
    world.start(start)
}

/// The events of a call that is parked in the decision that accepts it.
const PARKED_AT_ONCE: [PayloadKind; 3] =
    [PayloadKind::ToolCallAccepted, PayloadKind::ToolCallStarted, PayloadKind::ToolCallParked];

#[test]
fn a_budget_of_zero_parks_in_the_same_decision() {
    let mut world = World::new();
    let call = start_with_budget(&mut world, Duration::ZERO);
    assert_eq!(world.emitted(call), PARKED_AT_ONCE);
    assert_eq!(world.record(call).park_reason, Some(ParkReason::BackgroundStart));
    assert_eq!(world.last.effects, [Effect::Run(call)], "no clock for a budget that is used up");
}

#[test]
fn a_background_start_parks_in_the_same_decision() {
    let mut world = World::new();
    let policy = CallPolicy { call_budget: Some(MINUTE), ..CallPolicy::default() };
    let start = Start { policy, ..world.task("shell") };
    let task = world.start(start);
    assert_eq!(world.emitted(task), PARKED_AT_ONCE);
    assert_eq!(world.record(task).park_reason, Some(ParkReason::BackgroundStart));
    assert_eq!(world.last.effects, [Effect::Run(task)], "it holds no caller");
    let Payload::ToolCallAccepted(accepted) = &world.last.events[0].payload else {
        panic!("{:?}", world.last.events)
    };
    assert!(accepted.background);
}

#[test]
fn parking_is_one_event_and_the_run_goes_on() {
    let mut world = World::new();
    let call = start_with_budget(&mut world, MINUTE);
    park(&mut world, call);
    assert_eq!(world.emitted(call), [PayloadKind::ToolCallParked]);
    assert_eq!(world.last.effects, [Effect::Disarm(call, Timer::Budget)]);
    assert_eq!(world.state(call), State::Running);
    assert_eq!(world.record(call).park_reason, Some(ParkReason::Budget));
}

#[test]
fn a_call_is_parked_once() {
    let mut world = World::new();
    let call = start_with_budget(&mut world, MINUTE);
    park(&mut world, call);
    let again = Command::Park { call_id: call, reason: ParkReason::Deadline };
    assert_eq!(world.send(again), Ok(Reply::Done));
    assert_eq!(world.last.changes, []);
    assert_eq!(world.record(call).park_reason, Some(ParkReason::Budget));
}

#[test]
fn a_call_that_ended_within_its_budget_is_not_parked_after_it() {
    let mut world = World::new();
    let call = start_with_budget(&mut world, MINUTE);
    world.succeed(call);
    let late = Command::Park { call_id: call, reason: ParkReason::Budget };
    assert_eq!(world.send(late), Ok(Reply::NotLive));
    assert_eq!(world.last.changes, []);
    assert!(!world.record(call).is_task());
}

#[test]
fn a_pending_call_can_be_parked_and_runs_later() {
    let mut world = World::new();
    let start = Start { has_slot: false, ..world.call("shell") };
    let call = world.start(start);
    park(&mut world, call);
    assert_eq!(world.state(call), State::Pending);
    world.begin(call);
    assert_eq!(world.state(call), State::Running);
    assert!(world.record(call).is_task());
}

#[test]
fn a_call_whose_caller_left_is_parked() {
    let mut world = World::new();
    let call = start_with_on_disconnect(&mut world, OnDisconnect::Park);
    disconnect(&mut world, call);
    assert_eq!(world.emitted(call), [PayloadKind::ToolCallParked]);
    assert_eq!(world.record(call).park_reason, Some(ParkReason::Disconnected));
}

#[test]
fn a_call_without_other_waiters_is_cancelled_when_its_caller_left() {
    let mut world = World::new();
    let call = start_with_on_disconnect(&mut world, OnDisconnect::Cancel);
    disconnect(&mut world, call);
    assert_eq!(world.emitted(call), [PayloadKind::ToolCallCancelling]);
    assert_eq!(world.last.effects, [Effect::Terminate(call, GRACE)]);
    world.stop(call);
    assert_eq!(world.state(call), State::Cancelled);
}

#[test]
fn a_parked_call_has_no_caller_to_lose() {
    let mut world = World::new();
    let call = start_with_on_disconnect(&mut world, OnDisconnect::Cancel);
    park(&mut world, call);
    disconnect(&mut world, call);
    assert_eq!(world.last.changes, []);
    assert_eq!(world.last.effects, []);
    assert_eq!(world.state(call), State::Running);
}

#[test]
fn a_caller_that_leaves_after_the_end_changes_nothing() {
    let mut world = World::new();
    let call = start_with_on_disconnect(&mut world, OnDisconnect::Cancel);
    world.succeed(call);
    let disconnect = Command::Disconnect { call_id: call, reason: ParkReason::Disconnected };
    assert_eq!(world.send(disconnect), Ok(Reply::NotLive));
    assert_eq!(world.last.changes, []);
}
