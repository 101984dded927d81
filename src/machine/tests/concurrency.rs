//! The behavior of a new task towards the tasks of its session.

use super::super::{Concurrency, Effect, Refusal, Start};
use super::world::{GRACE, World};
use crate::model::{CallId, CallPolicy, State};

fn start(world: &mut World, concurrency: Concurrency) -> CallId {
    let start = Start { concurrency, ..world.task("shell") };
    world.start(start)
}

#[test]
fn reject_refuses_while_a_task_is_live() {
    let mut world = World::new();
    let foreground = world.call("shell");
    world.start(foreground);
    let task = start(&mut world, Concurrency::Reject);
    assert_eq!(world.state(task), State::Running, "a call in the foreground is no task");

    let second = Start { concurrency: Concurrency::Reject, ..world.task("shell") };
    assert_eq!(
        world.try_start(second),
        Err(Refusal::Busy { session_id: world.session_id(), live: 1 })
    );
    world.succeed(task);
    start(&mut world, Concurrency::Reject);
}

#[test]
fn queue_waits_for_every_task_that_was_there() {
    let mut world = World::new();
    let first = start(&mut world, Concurrency::Allow);
    let second = start(&mut world, Concurrency::Allow);
    let queued = start(&mut world, Concurrency::Queue);
    assert_eq!(world.state(queued), State::Pending);
    assert_eq!(world.last.effects, [Effect::Release(queued)]);
    // A later task without QUEUE doesn't wait, and no task waits for it.
    let beside = start(&mut world, Concurrency::Allow);
    assert_eq!(world.state(beside), State::Running);

    world.succeed(second);
    assert_eq!(world.last.effects, [], "the first still runs");
    world.succeed(first);
    assert_eq!(world.last.effects, [Effect::Reserve(queued)]);
    world.begin(queued);
    assert_eq!(world.state(queued), State::Running);
}

#[test]
fn queue_doesnt_wait_for_a_call_in_the_foreground() {
    let mut world = World::new();
    let foreground = world.call("shell");
    world.start(foreground);
    let queued = start(&mut world, Concurrency::Queue);
    assert_eq!(world.state(queued), State::Running);
}

#[test]
fn replace_stops_the_running_and_runs_once_they_have_ended() {
    let mut world = World::new();
    let foreground = world.call("shell");
    let foreground = world.start(foreground);
    let old = start(&mut world, Concurrency::Allow);
    let new = start(&mut world, Concurrency::Replace);

    assert_eq!(world.asked_to_stop(), [(old, false)]);
    assert_eq!(world.last.effects, [Effect::Terminate(old, GRACE), Effect::Release(new)]);
    assert_eq!(world.state(foreground), State::Running);
    assert_eq!(world.state(new), State::Pending);
    world.stop(old);
    assert_eq!(world.last.effects, [Effect::Reserve(new)]);
    world.begin(new);
    assert_eq!(world.state(new), State::Running);
}

#[test]
fn replace_runs_at_once_when_nothing_of_the_old_ones_has_to_stop() {
    let mut world = World::new();
    let old = world.waiting_task("shell");
    let old = world.start(old);
    let new = start(&mut world, Concurrency::Replace);

    assert_eq!(world.state(old), State::Cancelled);
    assert_eq!(world.state(new), State::Running);
    assert!(world.has_effect(&Effect::Run(new)));
}

#[test]
fn replace_acquires_a_slot_when_nothing_has_to_stop() {
    let mut world = World::new();
    let old = world.waiting_task("shell");
    let old = world.start(old);
    let new = Start { concurrency: Concurrency::Replace, ..world.waiting_task("shell") };
    let new = world.start(new);

    assert_eq!((world.state(old), world.state(new)), (State::Cancelled, State::Pending));
    assert!(world.has_effect(&Effect::Reserve(new)));
}

#[test]
fn replace_stops_the_old_ones_in_the_order_they_came() {
    let mut world = World::new();
    let old: Vec<_> = (0..8).map(|_| start(&mut world, Concurrency::Allow)).collect();
    start(&mut world, Concurrency::Replace);
    // An order that the memory's layout gives would be another after a restart.
    let stopped: Vec<_> = world.asked_to_stop().into_iter().map(|(id, _)| id).collect();
    assert_eq!(stopped, old);
}

#[test]
fn replace_unblocks_calls_that_only_the_replaced_ones_blocked() {
    let mut world = World::new();
    let exclusive = || CallPolicy { exclusive: true, ..CallPolicy::default() };
    for _ in 0..2 {
        let old = Start { policy: exclusive(), ..world.waiting_task("deploy") };
        world.start(old);
    }
    let start_waiting = Start { policy: exclusive(), ..world.call("deploy") };
    let waiting = world.start(start_waiting);
    assert_eq!(world.state(waiting), State::Pending);

    // Both end in this decision, so no later end will set the waiting call free.
    start(&mut world, Concurrency::Replace);
    assert!(world.has_effect(&Effect::Reserve(waiting)));
}
