//! Turns: one at a time, each with one end.

use super::super::{Command, Finish, Loss, Refusal, Start, StartTurn};
use super::world::{World, exited};
use crate::model::{
    BusyPolicy, CallId, CallPolicy, Payload, PayloadKind, State, StopCause, StopReason, ToolKind,
    TurnEnd, TurnError, TurnId, TurnReport, Usage,
};

pub(super) fn turn(world: &mut World, busy_policy: BusyPolicy) -> Start {
    let call = world.call("");
    Start {
        kind: ToolKind::Agent,
        turn_id: Some(TurnId::from_bytes(*call.call_id.as_bytes())),
        turn: Some(StartTurn { model: "m".into(), busy_policy, follow_ups: None, setup: None }),
        policy: CallPolicy { exclusive: true, ..call.policy },
        ..call
    }
}

pub(super) fn start(world: &mut World, busy_policy: BusyPolicy) -> CallId {
    let turn = turn(world, busy_policy);
    world.start(turn)
}

pub(super) fn report(world: &mut World, call_id: CallId, report: TurnReport) {
    world.send(Command::Turn { call_id, report }).expect("taken");
}

/// Returns the events of the end of a turn.
fn ends(world: &World, id: CallId) -> Vec<&Payload> {
    let is_end = |payload: &&Payload| {
        matches!(payload.kind(), PayloadKind::SessionIdle | PayloadKind::SessionError)
    };
    let own = world.log.iter().filter(|event| event.call_id == Some(id));
    own.map(|event| &event.payload).filter(is_end).collect()
}

#[test]
fn the_policy_says_what_a_second_prompt_does() {
    let mut world = World::new();
    let first = start(&mut world, BusyPolicy::Reject);
    let refused = turn(&mut world, BusyPolicy::Reject);
    assert_eq!(
        world.try_start(refused),
        Err(Refusal::TurnRunning { session_id: world.session_id() })
    );
    let second = start(&mut world, BusyPolicy::Enqueue);
    assert_eq!(world.state(second), State::Pending);
    let third = start(&mut world, BusyPolicy::Interrupt);
    assert_eq!(world.state(first), State::Cancelling);
    assert_eq!(world.state(second), State::Cancelled, "it had not begun");
    assert_eq!(world.state(third), State::Pending);
    world.stop(first);
    world.begin(third);
    assert_eq!(world.state(third), State::Running);
    for stopped in [first, second] {
        let [Payload::SessionIdle(end)] = ends(&world, stopped)[..] else { panic!("one end") };
        assert_eq!(end.stop_reason, StopReason::Cancelled);
    }
}

#[test]
fn reports_become_events_messages_and_sums() {
    let mut world = World::new();
    let id = start(&mut world, BusyPolicy::Reject);
    let usage = Usage { input_tokens: 3, requests: 1, cost_usd: 0.5, ..Usage::default() };
    for _ in 0..2 {
        report(&mut world, id, TurnReport::Used { usage, model: "m".into() });
    }
    let text = String::from("hello");
    report(
        &mut world,
        id,
        TurnReport::Message {
            text,
            calls: Vec::new(),
            incomplete_call_ids: Vec::new(),
            provider_data: None,
            stop: None,
        },
    );
    assert_eq!(world.projection.session.messages, 1);
    let end = TurnEnd { stop: Ok(StopReason::MaxTokens), history_omitted: 7, note: None };
    report(&mut world, id, TurnReport::Ended(end));
    world.succeed(id);
    let [Payload::SessionIdle(end)] = ends(&world, id)[..] else { panic!("one end") };
    assert_eq!((end.stop_reason, end.history_omitted), (StopReason::MaxTokens, 7));
    assert_eq!((end.usage.input_tokens, end.usage.requests), (6, 2));
    assert_eq!(world.projection.session.usage, Some(end.usage));
    let expected = [
        PayloadKind::ToolCallAccepted,
        PayloadKind::ToolCallStarted,
        PayloadKind::UsageReported,
        PayloadKind::UsageReported,
        PayloadKind::AssistantMessage,
        PayloadKind::SessionIdle,
        PayloadKind::ToolCallFinished,
    ];
    let emitted: Vec<PayloadKind> = world.log.iter().map(|event| event.payload.kind()).collect();
    assert_eq!(emitted, expected);
}

#[test]
fn a_retry_moves_the_attempt_of_what_follows() {
    let mut world = World::new();
    let id = start(&mut world, BusyPolicy::Reject);
    report(&mut world, id, TurnReport::Text("void".into()));
    let error = TurnError { code: "c".into(), message: "m".into(), retryable: true };
    let delay = std::time::Duration::from_secs(1);
    report(&mut world, id, TurnReport::Retrying { attempt: 2, delay, error });
    report(&mut world, id, TurnReport::Text("good".into()));
    let attempts: Vec<u32> = world.log.iter().map(|event| event.attempt).collect();
    assert_eq!(attempts, [1, 1, 1, 1, 2]);
}

#[test]
fn every_way_to_end_has_one_event() {
    let failed = TurnError { code: "c".into(), message: "m".into(), retryable: false };
    let mut world = World::new();
    let id = start(&mut world, BusyPolicy::Reject);
    let end = TurnEnd { stop: Err(failed.clone()), history_omitted: 0, note: None };
    report(&mut world, id, TurnReport::Ended(end));
    world.finish(id, exited(1), false).expect("taken");
    let [Payload::SessionError { error, .. }] = ends(&world, id)[..] else { panic!("one end") };
    assert_eq!(error, &failed);

    for (cause, code) in [
        (StopCause::IdleTimeout, "idle_timeout"),
        (StopCause::ExecutionTimeout, "execution_timeout"),
    ] {
        let id = start(&mut world, BusyPolicy::Reject);
        world.send(Command::Timeout { call_id: id, cause }).expect("taken");
        world.stop(id);
        let [Payload::SessionError { error, .. }] = ends(&world, id)[..] else { panic!("one end") };
        assert_eq!((error.code.as_str(), error.retryable), (code, true));
    }

    let id = start(&mut world, BusyPolicy::Reject);
    let call = Start { turn_id: world.record(id).turn_id, ..world.call("shell") };
    let call = world.start(call);
    let last_known = world.now;
    world.send(Command::Lose { call_id: id, loss: Loss::with_server(last_known) }).expect("taken");
    let [Payload::SessionError { error, unresolved }] = ends(&world, id)[..] else {
        panic!("one end")
    };
    assert_eq!((error.code.as_str(), error.retryable), ("host_lost", true));
    assert_eq!(unresolved.iter().map(|call| call.call_id).collect::<Vec<_>>(), [call]);
}

#[test]
fn a_full_session_takes_a_turn_but_no_queue_of_them() {
    let mut world = World::with_limit(1, crate::model::TaskLimitPolicy::Reject);
    let task = world.task("shell");
    world.start(task);
    let id = start(&mut world, BusyPolicy::Enqueue);
    assert_eq!(world.state(id), State::Running);
    let second = turn(&mut world, BusyPolicy::Enqueue);
    assert_eq!(
        world.try_start(second),
        Err(Refusal::TaskLimit { session_id: world.session_id(), limit: 1 })
    );
    let control = Start { is_control: true, ..world.call("check") };
    let control = world.start(control);
    let finish =
        Finish { call_id: control, result: exited(0), stopped: false, survivors: Vec::new() };
    world.send(Command::Finish(Box::new(finish))).expect("taken");
}
