//! Cancels of calls.

use std::time::Duration;

use super::super::{Cancel, Command, Effect, Reply};
use super::world::{World, cancel, exited};
use crate::model::{CallId, Payload, PayloadKind, State, StopCause};

fn running() -> (World, CallId) {
    let mut world = World::new();
    let start = world.task("shell");
    let call = world.start(start);
    (world, call)
}

fn kill(world: &mut World, call: CallId) {
    let kill = Command::Cancel(Cancel { force: true, ..cancel(call) });
    assert_eq!(world.send(kill), Ok(Reply::Done));
}

#[test]
fn a_running_call_is_asked_to_stop_and_ends_once_it_has() {
    let (mut world, call) = running();
    assert_eq!(world.cancel(call), Ok(Reply::Done));
    assert_eq!(world.state(call), State::Cancelling);
    assert_eq!(world.emitted(call), [PayloadKind::ToolCallCancelling]);
    assert_eq!(world.last.effects, [Effect::Terminate(call, Duration::from_secs(2))]);
    let asked = world.now;

    world.stop(call);
    let record = world.record(call);
    assert_eq!((record.state, record.reason.as_str()), (State::Cancelled, "wrong branch"));
    let request = record.cancellation.as_ref().unwrap();
    assert_eq!((request.request_time, request.requested_by.as_str()), (asked, "anna"));
    assert_eq!(request.acknowledged_time, Some(world.now));
}

#[test]
fn a_pending_call_is_cancelled_at_once() {
    let mut world = World::new();
    let start = world.waiting_task("shell");
    let call = world.start(start);
    assert_eq!(world.cancel(call), Ok(Reply::Done));
    assert_eq!(world.state(call), State::Cancelled);
    let expected = [PayloadKind::ToolCallCancelling, PayloadKind::ToolCallFinished];
    assert_eq!(world.emitted(call), expected);
    assert_eq!(world.last.effects, [Effect::Release(call)], "there is nothing to terminate");
    assert_eq!(world.record(call).start_time, None);
}

#[test]
fn asking_again_changes_nothing() {
    let (mut world, call) = running();
    let _ = world.cancel(call);
    let before = world.record(call).clone();
    let again = Cancel { requested_by: "bert".into(), ..cancel(call) };
    assert_eq!(world.send(Command::Cancel(again)), Ok(Reply::Done));
    assert_eq!(world.last.changes, []);
    assert_eq!(world.last.effects, []);
    assert_eq!(world.record(call), &before);
}

#[test]
fn force_kills_at_once() {
    let (mut world, call) = running();
    kill(&mut world, call);
    assert_eq!(world.last.effects, [Effect::Kill(call)]);
    let forced = matches!(
        world.last.events[0].payload,
        Payload::ToolCallCancelling { force: true, evicted: false, .. }
    );
    assert!(forced, "{:?}", world.last.events);
}

#[test]
fn force_kills_calls_that_have_not_stopped_yet() {
    let (mut world, call) = running();
    let _ = world.cancel(call);
    kill(&mut world, call);
    assert_eq!(world.last.effects, [Effect::Kill(call)]);
    assert_eq!(world.last.events, [], "the request to stop is in the log already");

    // The same for a run that a limit is stopping, which stays the cause.
    let (mut world, call) = running();
    let cause = StopCause::ExecutionTimeout;
    let _ = world.send(Command::Timeout { call_id: call, cause });
    kill(&mut world, call);
    assert_eq!(world.last.effects, [Effect::Kill(call)]);
    world.stop(call);
    assert_eq!(world.state(call), State::TimedOut);
}

#[test]
fn a_call_that_has_ended_keeps_its_own_result() {
    let (mut world, call) = running();
    world.succeed(call);
    let before = world.record(call).clone();
    assert_eq!(world.cancel(call), Ok(Reply::NotLive));
    assert_eq!(world.last.changes, []);
    assert_eq!(world.last.effects, []);
    assert_eq!(world.record(call), &before);
}

#[test]
fn a_cancel_that_lost_the_race_leaves_the_result_as_it_was() {
    for (code, state) in [(0, State::Succeeded), (3, State::Failed)] {
        let (mut world, call) = running();
        let _ = world.cancel(call);
        // Its process ended before the signal came.
        let _ = world.finish(call, exited(code), false);
        let record = world.record(call);
        assert_eq!(record.state, state);
        let request = record.cancellation.as_ref().expect("the request stays on record");
        assert_eq!(request.acknowledged_time, None, "it wasn't the cancel that ended it");
        assert_ne!(record.reason, "wrong branch");
    }
}
