//! The end of a run: by itself, by a timeout, or by loss.

use std::time::Duration;

use bytes::Bytes;

use super::super::{Command, Effect, Finish, Loss, Reply, Start, Timer};
use super::world::{GRACE, MINUTE, World, exited};
use crate::model::{
    CallId, CallPolicy, Exit, FailureCode, Outcome, OutputPosition, OutputStream, PayloadKind,
    Progress, State, StopCause, Survivor, Timestamp, ToolOutput, ToolResult,
};

fn running() -> (World, CallId) {
    let mut world = World::new();
    let policy = CallPolicy {
        execution_timeout: Some(MINUTE),
        idle_timeout: Some(MINUTE / 2),
        ..CallPolicy::default()
    };
    let start = Start { policy, ..world.call("shell") };
    let call = world.start(start);
    (world, call)
}

fn time_out(world: &mut World, call_id: CallId, cause: StopCause) {
    assert_eq!(world.send(Command::Timeout { call_id, cause }), Ok(Reply::Done));
}

fn lose(world: &mut World, call_id: CallId) {
    assert_eq!(
        world.send(Command::Lose { call_id, loss: Loss::with_server(Timestamp::default()) }),
        Ok(Reply::Done)
    );
}

fn output(call_id: CallId) -> Command {
    let position = OutputPosition {
        stream: OutputStream::Stdout,
        offset: 0,
        combined_offset: 0,
        dropped_bytes_before: 0,
    };
    Command::Output { call_id, output: ToolOutput { position, data: Bytes::from_static(b"x") } }
}

fn progress(call_id: CallId) -> Command {
    let progress = Progress { done: 1.0, total: None, message: String::new() };
    Command::Progress { call_id, progress }
}

fn alive(call_id: CallId) -> Command {
    Command::Alive { call_id }
}

#[test]
fn output_that_cannot_be_kept_is_an_event_and_nothing_else() {
    let (mut world, call) = running();
    let block = || Command::BlockOutput { call_id: call, cause: "no space".to_owned() };
    assert_eq!(world.send(block()), Ok(Reply::Done));
    assert_eq!(world.emitted(call), [PayloadKind::ToolOutputBlocked]);
    assert_eq!((world.last.effects.len(), world.state(call)), (0, State::Running));
    world.succeed(call);
    assert_eq!(world.send(block()), Ok(Reply::NotLive));
}

#[test]
fn a_run_that_ends_well_has_succeeded() {
    let (mut world, call) = running();
    let began = world.now;
    world.later(MINUTE / 4);
    world.succeed(call);
    assert_eq!((world.state(call), world.record(call).reason.as_str()), (State::Succeeded, ""));
    let result = ToolResult { start_time: Some(began), end_time: world.now, ..exited(0) };
    assert_eq!(world.record(call).outcome, Some(Outcome::Result(result)));
    assert!(!world.is_live(call));
}

#[test]
fn a_tool_that_fails_has_a_result_and_a_reason() {
    let broken = |exit, error_message: &str| ToolResult {
        is_error: true,
        exit,
        error_message: error_message.into(),
        ..ToolResult::default()
    };
    for (result, reason) in [
        (exited(3), "exit code 3"),
        (broken(Some(Exit::Signal(9)), ""), "ended by signal 9"),
        (broken(None, "no such program"), "no such program"),
        (broken(None, ""), "the tool reported a failure"),
    ] {
        let (mut world, call) = running();
        assert_eq!(world.finish(call, result, false), Ok(Reply::Done));
        assert_eq!(
            (world.state(call), world.record(call).reason.as_str()),
            (State::Failed, reason)
        );
    }
}

#[test]
fn a_stop_without_a_request_is_a_failure() {
    // The run reports a stop, but the log has no request to stop.
    let (mut world, call) = running();
    let _ = world.finish(call, exited(143), true);
    assert_eq!(world.state(call), State::Failed);
}

#[test]
fn a_run_ends_once() {
    let (mut world, call) = running();
    world.succeed(call);
    let before = world.record(call).clone();
    assert_eq!(world.finish(call, exited(1), false), Ok(Reply::NotLive));
    assert_eq!(world.last.changes, []);
    assert_eq!(world.record(call), &before);
}

#[test]
fn processes_that_could_not_be_killed_are_named() {
    let (mut world, call) = running();
    let _ = world.cancel(call);
    let survivors = vec![Survivor { pid: 77, command: "stuck".into() }];
    let finish =
        Finish { call_id: call, result: exited(0), stopped: true, survivors: survivors.clone() };
    let _ = world.send(Command::Finish(Box::new(finish)));
    assert_eq!(world.record(call).cancellation.as_ref().unwrap().survivors, survivors);
}

#[test]
fn a_run_that_reaches_a_limit_is_stopped_and_has_timed_out() {
    for (cause, reason) in [
        (StopCause::ExecutionTimeout, "timed out after 60 s"),
        (StopCause::IdleTimeout, "timed out: no output for 30 s"),
    ] {
        let (mut world, call) = running();
        time_out(&mut world, call, cause);
        assert_eq!(world.last.effects, [Effect::Terminate(call, GRACE)]);
        assert_eq!(world.state(call), State::Running, "it hasn't stopped yet");
        world.stop(call);
        let record = world.record(call);
        assert_eq!((record.state, record.reason.as_str()), (State::TimedOut, reason));
    }
}

#[test]
fn a_run_that_ended_just_before_its_limit_has_its_own_result() {
    let (mut world, call) = running();
    time_out(&mut world, call, StopCause::ExecutionTimeout);
    world.succeed(call);
    assert_eq!(world.state(call), State::Succeeded);
}

#[test]
fn the_first_cause_wins() {
    let (mut world, call) = running();
    time_out(&mut world, call, StopCause::IdleTimeout);
    time_out(&mut world, call, StopCause::ExecutionTimeout);
    assert_eq!((world.last.changes.len(), world.last.effects.len()), (0, 0));
    let _ = world.cancel(call);
    assert_eq!((world.last.changes.len(), world.last.effects.len()), (0, 0));
    world.stop(call);
    assert_eq!(world.record(call).reason, "timed out: no output for 30 s");

    let (mut world, call) = running();
    let _ = world.cancel(call);
    time_out(&mut world, call, StopCause::ExecutionTimeout);
    assert_eq!((world.last.changes.len(), world.last.effects.len()), (0, 0));
    world.stop(call);
    assert_eq!(world.state(call), State::Cancelled);
}

#[test]
fn a_limit_of_a_run_means_nothing_before_it_and_after_it() {
    let mut world = World::new();
    let start = world.waiting_task("shell");
    let call = world.start(start);
    let cause = StopCause::ExecutionTimeout;
    time_out(&mut world, call, cause);
    assert_eq!((world.last.changes.len(), world.last.effects.len()), (0, 0));
    world.begin(call);
    world.succeed(call);
    assert_eq!(world.send(Command::Timeout { call_id: call, cause }), Ok(Reply::NotLive));
}

#[test]
fn a_sign_of_life_starts_the_clock_of_silence_anew() {
    let signs = [
        (output as fn(CallId) -> Command, vec![PayloadKind::ToolOutput]),
        (progress, vec![PayloadKind::ToolProgress]),
        // Output that isn't kept has no event, but restarts the idle timeout.
        (alive, vec![]),
    ];
    for (sign, expected) in signs {
        let (mut world, call) = running();
        let _ = world.send(sign(call));
        assert_eq!(world.emitted(call), expected);
        assert_eq!(world.last.effects, [Effect::Arm(call, Timer::Idle, MINUTE / 2)]);

        // What a run says while it is stopped is kept, but gives it no more time.
        let _ = world.cancel(call);
        let _ = world.send(sign(call));
        assert_eq!(world.emitted(call), expected);
        assert_eq!(world.last.effects, []);
    }
}

#[test]
fn a_call_without_an_idle_limit_has_no_clock_of_silence() {
    let mut world = World::new();
    let start = world.call("shell");
    let call = world.start(start);
    for sign in [output(call), progress(call), alive(call)] {
        assert_eq!(world.send(sign), Ok(Reply::Done));
        assert_eq!(world.last.effects, []);
    }
    assert_eq!(world.record(call).progress.as_ref().unwrap().done, 1.0);
}

#[test]
fn output_after_the_end_is_dropped() {
    let (mut world, call) = running();
    world.succeed(call);
    for late in [output(call), progress(call), alive(call)] {
        assert_eq!(world.send(late), Ok(Reply::NotLive));
        assert_eq!(world.last.changes, []);
    }
}

#[test]
fn work_that_is_gone_is_lost_without_a_result() {
    let (mut world, call) = running();
    let start = world.waiting_task("shell");
    let waiting = world.start(start);
    for id in [call, waiting] {
        lose(&mut world, id);
        assert_eq!(world.state(id), State::Lost);
        let Some(Outcome::Failure(failure)) = &world.record(id).outcome else {
            panic!("{:?}", world.record(id))
        };
        assert_eq!(failure.code, FailureCode::HostLost);
    }
    assert_eq!(
        world.send(Command::Lose { call_id: call, loss: Loss::with_server(Timestamp::default()) }),
        Ok(Reply::NotLive)
    );
}

#[test]
fn a_call_that_is_lost_by_a_stop_ran_until_the_stop() {
    let (mut world, call) = running();
    world.later(Duration::from_secs(7));
    world.send(Command::Interrupt { call_id: call, loss: None }).expect("taken");
    let stop = world.now;
    world.later(Duration::from_secs(600));
    lose(&mut world, call);
    assert_eq!(world.record(call).end_time, Some(stop));
    let start = world.record(call).start_time.expect("a start");
    assert_eq!(world.record(call).elapsed(world.now), stop.since(start));
    assert_eq!(world.send(Command::Interrupt { call_id: call, loss: None }), Ok(Reply::NotLive));
}

#[test]
fn a_lost_call_lets_the_one_behind_it_run() {
    let mut world = World::new();
    let policy = CallPolicy { exclusive: true, ..CallPolicy::default() };
    let start = Start { policy: policy.clone(), ..world.call("deploy") };
    let first = world.start(start);
    let start = Start { policy, ..world.call("deploy") };
    let second = world.start(start);
    lose(&mut world, first);
    assert_eq!(world.last.effects, [Effect::Reserve(second)]);
}
