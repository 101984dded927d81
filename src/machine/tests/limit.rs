//! EVICT_OLDEST: the oldest parked task makes room.

use super::super::{Concurrency, Effect, Refusal, Start};
use super::world::{GRACE, World};
use crate::model::{CallId, State, TaskLimitPolicy};

/// The refusal of a start when both places are taken.
fn full(world: &World) -> Refusal {
    Refusal::TaskLimit { session_id: world.session_id(), limit: 2 }
}

fn full_of_tasks() -> (World, [CallId; 2]) {
    let mut world = World::with_limit(2, TaskLimitPolicy::EvictOldest);
    let tasks = [(); 2].map(|()| {
        let task = world.task("shell");
        world.start(task)
    });
    (world, tasks)
}

#[test]
fn the_oldest_parked_task_is_evicted_and_an_event_says_so() {
    let (mut world, [oldest, other]) = full_of_tasks();
    let new = world.call("shell");
    let new = world.start(new);

    assert_eq!(world.asked_to_stop(), [(oldest, true)]);
    assert_eq!(world.last.effects, [Effect::Terminate(oldest, GRACE), Effect::Run(new)]);
    assert_eq!(world.state(oldest), State::Cancelling);
    assert_eq!(world.state(other), State::Running);
    world.stop(oldest);
    assert_eq!(world.state(oldest), State::Cancelled);
    let request = world.record(oldest).cancellation.as_ref().unwrap();
    assert_eq!(request.requested_by, "callpark");
}

#[test]
fn the_oldest_is_the_one_that_was_parked_first() {
    let mut world = World::with_limit(2, TaskLimitPolicy::EvictOldest);
    let foreground = world.call("shell");
    let foreground = world.start(foreground);
    let background = world.task("shell");
    let background = world.start(background);
    super::parking::park(&mut world, foreground);

    let new = world.call("shell");
    world.start(new);
    assert_eq!(world.asked_to_stop(), [(background, true)], "it has been parked for longer");
}

#[test]
fn when_none_is_parked_there_is_no_room() {
    let mut world = World::with_limit(2, TaskLimitPolicy::EvictOldest);
    for _ in 0..2 {
        let call = world.call("shell");
        world.start(call);
    }
    let new = world.call("shell");
    let full = full(&world);
    assert_eq!(world.try_start(new), Err(full), "calls in the foreground have a caller that waits");
}

#[test]
fn a_parked_task_that_waits_for_its_turn_makes_room_too() {
    let mut world = World::with_limit(2, TaskLimitPolicy::EvictOldest);
    let oldest = world.waiting_task("shell");
    let oldest = world.start(oldest);
    let other = world.waiting_task("shell");
    world.start(other);

    let new = world.call("shell");
    assert!(world.try_start(new).is_ok());
    assert_eq!(world.asked_to_stop(), [(oldest, true)]);
    assert_eq!(world.state(oldest), State::Cancelled, "nothing of it has to stop first");
}

#[test]
fn tasks_that_ignore_their_eviction_gather_up_to_twice_the_limit() {
    let (mut world, [first, second]) = full_of_tasks();
    for evicted in [first, second] {
        let new = world.task("shell");
        world.start(new);
        assert_eq!(world.asked_to_stop(), [(evicted, true)], "none is evicted twice");
    }
    assert_eq!(world.projection.session.live_tasks, 4);
    let new = world.task("shell");
    let full = full(&world);
    assert_eq!(world.try_start(new), Err(full));

    world.stop(first);
    let new = world.task("shell");
    assert!(world.try_start(new).is_ok());
}

#[test]
fn a_task_that_is_being_stopped_leaves_its_slot_to_the_next() {
    let (mut world, [first, second]) = full_of_tasks();
    let _ = world.cancel(first);
    let new = world.task("shell");
    world.start(new);
    assert_eq!(world.asked_to_stop(), [], "there was room");
    assert_eq!(world.state(second), State::Running);
}

#[test]
fn a_task_that_replaces_all_at_the_limit_stops_each_of_them_once() {
    let (mut world, tasks) = full_of_tasks();
    let start = Start { concurrency: Concurrency::Replace, ..world.task("shell") };
    world.start(start);

    let stopped: Vec<_> = world.asked_to_stop().into_iter().map(|(id, _)| id).collect();
    assert_eq!(stopped, tasks);
}
