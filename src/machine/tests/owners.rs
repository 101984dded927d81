//! The parts of a record with which a later server goes on with a run: its owner, and the handle of its
//! work.

use super::super::{Change, Command, Start};
use super::world::World;
use crate::model::limits::WORK_HANDLE_BYTES_MAX;
use crate::model::{CallId, RunOwner, State, ToolKind, TurnLoss, WorkHandle};

const OWNER: RunOwner = RunOwner(7);

fn world() -> World {
    let mut world = World::new();
    world.projection.settings.run_owner = Some(OWNER);
    world
}

/// Returns the owner and the handle in the record of a live call.
fn kept(world: &World, id: CallId) -> (Option<RunOwner>, Option<&str>) {
    let call = world.projection.call(id).expect("a live call");
    (call.run_owner, call.work_handle.as_ref().map(WorkHandle::as_str))
}

fn keep_handle(world: &mut World, call_id: CallId) {
    let handle = WorkHandle::new("task 1").expect("short");
    world.send(Command::KeepHandle { call_id, handle }).expect("kept");
}

#[test]
fn a_process_has_its_owner_while_it_may_run() {
    let mut world = world();
    let pending = Start { has_slot: false, ..world.task("bash") };
    let pending = world.start(pending);
    assert_eq!(kept(&world, pending), (None, None), "nothing was started");
    world.send(Command::Begin { call_id: pending }).expect("begun");
    assert_eq!(kept(&world, pending).0, Some(OWNER));
    let running = world.task("bash");
    let running = world.start(running);
    assert_eq!(kept(&world, running).0, Some(OWNER));
    // Another shim is that of the next server.
    world.projection.settings.run_owner = Some(RunOwner(8));
    world.send(Command::Resume { call_id: running }).expect("resumed");
    assert_eq!(kept(&world, running).0, Some(RunOwner(8)));
    world.send(Command::Restart { call_id: running }).expect("restarted");
    assert_eq!(kept(&world, running).0, None, "it is pending again");
}

#[test]
fn code_inside_the_server_has_no_owner() {
    let mut world = world();
    let call = Start { kind: ToolKind::Mcp, ..world.task("far__job") };
    let id = world.start(call);
    assert_eq!(kept(&world, id), (None, None));
}

#[test]
fn a_handle_is_kept_until_the_end_or_a_loss() {
    let mut world = World::new();
    let first = world.task("far__job");
    let first = world.start(first);
    keep_handle(&mut world, first);
    assert_eq!(world.last.changes.len(), 1);
    assert!(matches!(world.last.changes[0], Change::HandleKept(..)));
    assert_eq!((world.last.events.len(), kept(&world, first).1), (0, Some("task 1")));
    world.send(Command::Interrupt { call_id: first, loss: None }).expect("a stop");
    assert_eq!(kept(&world, first).1, Some("task 1"));
    let loss = Some(TurnLoss::StoppedWithRuns);
    world.send(Command::Interrupt { call_id: first, loss }).expect("a stop");
    assert_eq!(kept(&world, first).1, None, "all work ends with the server");
    keep_handle(&mut world, first);
    world.succeed(first);
    let settled = &world.settled[&first];
    assert_eq!((settled.state, &settled.work_handle), (State::Succeeded, &None));
    let long = "x".repeat(WORK_HANDLE_BYTES_MAX + 1);
    assert_eq!(WorkHandle::new(long), None);
}
