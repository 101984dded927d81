//! The end of a session, and the acknowledgement and removal of finished tasks.

use super::super::{Command, Effect, Refusal, Reply, Start};
use super::world::{GRACE, World};
use crate::model::{CallId, CallPolicy, Payload, PayloadKind, SessionState, State};

fn detached(world: &mut World) -> Start {
    let policy = CallPolicy { detached: true, ..CallPolicy::default() };
    Start { policy, ..world.task("shell") }
}

fn closed(cancelled_tasks: u32, detached_tasks: u32) -> Result<Reply, Refusal> {
    Ok(Reply::Closed { cancelled_tasks, detached_tasks, again: false })
}

fn closed_before(cancelled_tasks: u32, detached_tasks: u32) -> Result<Reply, Refusal> {
    Ok(Reply::Closed { cancelled_tasks, detached_tasks, again: true })
}

fn last_event(world: &World) -> &Payload {
    &world.log.last().unwrap().payload
}

fn acknowledge(world: &mut World, call_id: CallId) {
    let call = Box::new(world.record(call_id).clone());
    assert_eq!(world.send(Command::Acknowledge { call, follow_up: None }), Ok(Reply::Done));
}

#[test]
fn an_idle_session_closes_at_once() {
    let mut world = World::new();
    assert_eq!(world.close(), closed(0, 0));
    assert_eq!(world.projection.session.state, SessionState::Closed);
    let shutdown = Payload::SessionShutdown { reason: "enough".into(), cancelled_tasks: 0 };
    assert_eq!(last_event(&world), &shutdown);
}

#[test]
fn closing_stops_running_calls_and_ends_the_log_with_the_last_end() {
    let mut world = World::new();
    let start = world.task("shell");
    let running = world.start(start);
    let start = world.call("shell");
    let foreground = world.start(start);
    let start = world.waiting_task("shell");
    let waiting = world.start(start);

    assert_eq!(world.close(), closed(3, 0));
    let stopped: Vec<_> = world.asked_to_stop().into_iter().map(|(id, _)| id).collect();
    assert_eq!(stopped, [running, foreground, waiting]);
    assert!(world.has_effect(&Effect::Terminate(running, GRACE)));
    assert!(world.has_effect(&Effect::Terminate(foreground, GRACE)));
    assert_eq!(world.state(waiting), State::Cancelled);
    assert_eq!(world.projection.session.state, SessionState::Closing);

    world.stop(running);
    assert_eq!(world.projection.session.state, SessionState::Closing);
    world.stop(foreground);
    assert_eq!(world.projection.session.state, SessionState::Closed);
    let emitted: Vec<_> = world.last.events.iter().map(|event| event.payload.kind()).collect();
    assert_eq!(emitted, [PayloadKind::ToolCallFinished, PayloadKind::SessionShutdown]);
    let shutdown = Payload::SessionShutdown { reason: "enough".into(), cancelled_tasks: 3 };
    assert_eq!(last_event(&world), &shutdown);
}

#[test]
fn a_session_in_which_all_are_pending_closes_at_once() {
    let mut world = World::new();
    for _ in 0..3 {
        let start = world.waiting_task("shell");
        world.start(start);
    }
    assert_eq!(world.close(), closed(3, 0));
    assert!(world.projection.is_idle());
    assert_eq!(last_event(&world).kind(), PayloadKind::SessionShutdown);
}

#[test]
fn detached_tasks_go_on_and_the_log_ends_with_them() {
    let mut world = World::new();
    let start = detached(&mut world);
    let task = world.start(start);
    let start = world.task("shell");
    let other = world.start(start);
    assert_eq!(world.close(), closed(1, 1));
    world.stop(other);
    assert_eq!(world.state(task), State::Running);
    assert_eq!(world.projection.session.state, SessionState::Closing);

    world.succeed(task);
    assert_eq!(world.state(task), State::Succeeded);
    assert_eq!(last_event(&world).kind(), PayloadKind::SessionShutdown);
}

#[test]
fn a_detached_task_that_waits_gets_its_turn_after_the_closing() {
    let mut world = World::new();
    let start = world.task("shell");
    let first = world.start(start);
    let concurrency = super::super::Concurrency::Queue;
    let start = Start { concurrency, ..detached(&mut world) };
    let queued = world.start(start);
    let _ = world.close();
    assert_eq!(world.state(queued), State::Pending);

    world.stop(first);
    assert_eq!(world.last.effects, [Effect::Reserve(queued)]);
    world.begin(queued);
    world.succeed(queued);
    assert_eq!(world.projection.session.state, SessionState::Closed);
}

#[test]
fn closing_sets_free_the_detached_task_that_waited_for_the_cancelled() {
    let mut world = World::new();
    for _ in 0..2 {
        let start = world.waiting_task("shell");
        world.start(start);
    }
    let concurrency = super::super::Concurrency::Queue;
    let start = Start { concurrency, ..detached(&mut world) };
    let queued = world.start(start);
    // Both before it end in this decision, so no later end will set it free.
    assert_eq!(world.close(), closed(2, 1));
    assert!(world.has_effect(&Effect::Reserve(queued)));
}

#[test]
fn closing_twice_tells_the_same() {
    let mut world = World::new();
    let start = world.task("shell");
    let task = world.start(start);
    let start = detached(&mut world);
    let other = world.start(start);
    assert_eq!(world.close(), closed(1, 1));
    for end in [task, other] {
        assert_eq!(world.close(), closed_before(1, 1));
        assert_eq!((world.last.changes.len(), world.last.effects.len()), (0, 0));
        world.stop(end);
    }
    assert_eq!(world.close(), closed_before(1, 1), "also when all have ended");
    assert_eq!(world.last.changes, []);
}

#[test]
fn a_result_is_acknowledged_once_and_stays() {
    let mut world = World::new();
    let start = world.task("shell");
    let task = world.start(start);
    acknowledge(&mut world, task);
    assert_eq!(world.record(task).acknowledge_time, None, "there is no result yet");

    world.succeed(task);
    acknowledge(&mut world, task);
    let acknowledged = world.record(task).clone();
    assert_eq!(acknowledged.acknowledge_time, Some(world.now));
    assert!(acknowledged.outcome.is_some(), "a read doesn't use it up");
    assert_eq!(world.last.events, []);

    acknowledge(&mut world, task);
    assert_eq!(world.record(task), &acknowledged);
}

#[test]
fn only_a_finished_task_can_be_deleted() {
    let mut world = World::new();
    let start = world.task("shell");
    let task = world.start(start);
    let delete = Command::Delete { call_id: task };
    assert_eq!(world.send(delete.clone()), Err(Refusal::TaskRunning { call_id: task }));
    assert!(world.is_live(task));

    world.succeed(task);
    assert_eq!(world.send(delete), Ok(Reply::Done));
    assert!(!world.settled.contains_key(&task));
    assert_eq!(world.last.events, [], "its log stays as it is");
}

#[test]
fn a_new_session_is_stored_without_an_event() {
    let mut world = World::new();
    assert_eq!(world.send(Command::Create), Ok(Reply::Done));
    assert_eq!((world.last.changes.len(), world.last.effects.len()), (0, 0));
}
