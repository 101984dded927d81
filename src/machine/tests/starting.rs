//! A call is accepted: running, or pending.

use std::time::Duration;

use super::super::{Command, Effect, Refusal, Start, Timer};
use super::world::{MINUTE, World};
use crate::model::limits::EVENT_ARGUMENTS_BYTES_MAX;
use crate::model::{CallPolicy, Payload, PayloadKind, State, TaskLimitPolicy};

fn exclusive() -> CallPolicy {
    CallPolicy { exclusive: true, ..CallPolicy::default() }
}

#[test]
fn a_call_with_a_slot_runs_at_once_and_starts_its_timers() {
    let mut world = World::new();
    let policy = CallPolicy {
        call_budget: Some(MINUTE),
        execution_timeout: Some(2 * MINUTE),
        idle_timeout: Some(3 * MINUTE),
        ..CallPolicy::default()
    };
    let start = Start { policy, ..world.call("shell") };
    let call = world.start(start);

    assert_eq!(world.state(call), State::Running);
    assert_eq!(world.record(call).start_time, Some(world.now));
    let both = [PayloadKind::ToolCallAccepted, PayloadKind::ToolCallStarted];
    assert_eq!(world.emitted(call), both);
    let effects = [
        Effect::Run(call),
        Effect::Arm(call, Timer::Execution, 2 * MINUTE),
        Effect::Arm(call, Timer::Idle, 3 * MINUTE),
        Effect::Arm(call, Timer::Budget, MINUTE),
    ];
    assert_eq!(world.last.effects, effects);
}

#[test]
fn without_a_slot_a_call_is_pending_until_it_has_one() {
    let mut world = World::new();
    let policy = CallPolicy { execution_timeout: Some(MINUTE), ..CallPolicy::default() };
    let start = Start { has_slot: false, policy, ..world.call("shell") };
    let call = world.start(start);
    assert_eq!((world.state(call), world.record(call).start_time), (State::Pending, None));
    assert_eq!(world.last.effects, [Effect::Reserve(call)]);
    assert_eq!(world.emitted(call), [PayloadKind::ToolCallAccepted]);

    // The execution timeout counts from here: waiting for a slot isn't running.
    world.later(MINUTE);
    world.begin(call);
    assert_eq!(world.state(call), State::Running);
    assert_eq!(world.record(call).start_time, Some(world.now));
    assert_eq!(world.emitted(call), [PayloadKind::ToolCallStarted]);
    let effects = [Effect::Run(call), Effect::Arm(call, Timer::Execution, MINUTE)];
    assert_eq!(world.last.effects, effects);
}

#[test]
fn a_slot_for_a_call_that_no_longer_needs_one_is_released() {
    let mut world = World::new();
    let start = Start { has_slot: false, ..world.call("shell") };
    let call = world.start(start);
    world.begin(call);

    world.begin(call);
    assert_eq!(world.last.effects, [Effect::Release(call)], "it runs already");
    world.succeed(call);
    let _ = world.send(Command::Begin { call_id: call });
    assert_eq!(world.last.effects, [Effect::Release(call)], "it has ended");
}

#[test]
fn an_exclusive_call_waits_for_the_one_before_it() {
    let mut world = World::new();
    let start = Start { policy: exclusive(), ..world.call("deploy") };
    let first = world.start(start);
    let start = Start { policy: exclusive(), ..world.call("shell") };
    let other = world.start(start);
    assert_eq!(world.state(other), State::Running, "another tool is no obstacle");
    let start = Start { policy: exclusive(), ..world.call("deploy") };
    let second = world.start(start);
    assert_eq!(world.state(second), State::Pending);
    assert_eq!(world.last.effects, [Effect::Release(second)], "other calls may have its slot");

    world.succeed(first);
    assert_eq!(world.last.effects, [Effect::Reserve(second)]);
    world.begin(second);
    assert_eq!(world.state(second), State::Running);
}

#[test]
fn calls_that_wait_for_each_other_run_in_the_order_they_came() {
    let mut world = World::new();
    let mut deploy = || {
        let start = Start { policy: exclusive(), ..world.call("deploy") };
        world.start(start)
    };
    let (first, second, third) = (deploy(), deploy(), deploy());

    world.succeed(first);
    assert_eq!(world.last.effects, [Effect::Reserve(second)], "one at a time");
    // A slot that arrives too early must not run it beside the second.
    world.begin(third);
    assert_eq!(world.last.effects, [Effect::Release(third)]);
    assert_eq!(world.state(third), State::Pending);

    world.begin(second);
    world.succeed(second);
    assert_eq!(world.last.effects, [Effect::Reserve(third)]);
}

#[test]
fn a_waiting_call_goes_on_when_the_one_before_it_is_cancelled_before_it_ran() {
    let mut world = World::new();
    let start = Start { has_slot: false, policy: exclusive(), ..world.call("deploy") };
    let first = world.start(start);
    let start = Start { policy: exclusive(), ..world.call("deploy") };
    let second = world.start(start);

    let _ = world.cancel(first);
    assert_eq!(world.last.effects, [Effect::Release(first), Effect::Reserve(second)]);
}

#[test]
fn a_session_that_is_closing_or_closed_takes_no_call() {
    let mut world = World::new();
    let call = world.call("shell");
    let call = world.start(call);
    let _ = world.close();
    let late = world.call("shell");
    assert_eq!(
        world.try_start(late),
        Err(Refusal::SessionClosed { session_id: world.session_id() })
    );
    world.stop(call);
    let late = world.call("shell");
    assert_eq!(
        world.try_start(late),
        Err(Refusal::SessionClosed { session_id: world.session_id() })
    );
}

#[test]
fn at_its_limit_a_session_refuses_until_a_call_has_ended() {
    let mut world = World::with_limit(2, TaskLimitPolicy::Reject);
    let first = world.task("shell");
    let first = world.start(first);
    let second = world.call("shell");
    world.start(second);
    let third = world.call("shell");
    assert_eq!(
        world.try_start(third),
        Err(Refusal::TaskLimit { session_id: world.session_id(), limit: 2 })
    );

    world.succeed(first);
    let third = world.call("shell");
    assert!(world.try_start(third).is_ok());
}

#[test]
fn the_event_of_an_acceptance_has_the_arguments_unless_they_are_too_large_for_an_event() {
    let mut world = World::new();
    for (bytes, is_whole) in [(0, true), (1, false)] {
        let arguments_bytes = EVENT_ARGUMENTS_BYTES_MAX as u64 + bytes;
        let start = Start { arguments_bytes, ..world.call("shell") };
        world.start(start);
        let Payload::ToolCallAccepted(accepted) = &world.last.events[0].payload else {
            panic!("{:?}", world.last.events)
        };
        assert_eq!(accepted.arguments.is_some(), is_whole);
        assert_eq!(accepted.arguments_omitted_bytes, if is_whole { 0 } else { arguments_bytes });
    }
}

#[test]
fn how_long_a_call_ran_has_nothing_to_do_with_how_long_it_waited() {
    let mut world = World::new();
    let start = Start { has_slot: false, ..world.call("shell") };
    let call = world.start(start);
    world.later(MINUTE);
    world.begin(call);
    let began = world.now;
    world.later(Duration::from_secs(3));
    world.succeed(call);
    assert_eq!(super::checks::finished(&world.log, call).elapsed, Some(world.now.since(began)));
}

#[test]
fn a_call_that_never_ran_has_run_for_no_time() {
    let mut world = World::new();
    let start = world.waiting_task("shell");
    let call = world.start(start);
    world.later(MINUTE);
    let _ = world.cancel(call);
    assert_eq!(super::checks::finished(&world.log, call).elapsed, None);
}
