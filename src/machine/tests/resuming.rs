//! Turns that a later server goes on with.

use std::time::Duration;

use super::super::{Change, Command, Effect, Loss, LossCause, Start, Timer};
use super::turns::{report, turn};
use super::world::{GRACE, MINUTE, World};
use crate::model::limits::TRANSCRIPT_BYTES_MAX;
use crate::model::{
    BusyPolicy, CallId, CallPolicy, OnDisconnect, Origin, Payload, PayloadKind, Prompt, State,
    StopReason, TurnLoss, TurnReport, TurnSetup,
};

fn setup() -> Option<Box<TurnSetup>> {
    Some(Box::new(TurnSetup {
        principal: "anna".into(),
        system_message: String::new(),
        rounds_max: 5,
        attempts_max: 3,
        origin: Origin::Person,
        background: false,
        prompt: Some(Box::new(Prompt { text: "go".into(), attachments: Vec::new() })),
    }))
}

/// Starts a turn with what a later server needs.
fn start(world: &mut World, change: impl FnOnce(&mut Start)) -> CallId {
    let mut start = turn(world, BusyPolicy::Enqueue);
    start.turn.as_mut().expect("a turn").setup = setup();
    start.policy.execution_timeout = Some(10 * MINUTE);
    start.policy.idle_timeout = Some(MINUTE);
    change(&mut start);
    world.start(start)
}

fn begin(world: &mut World, id: CallId) {
    let (prompt, attachments) = ("go".into(), Vec::new());
    report(world, id, TurnReport::Started { prompt, attachments, origin: Origin::Person });
}

fn message(world: &mut World, id: CallId, text: &str, stop: Option<StopReason>) {
    let text = text.to_owned();
    report(
        world,
        id,
        TurnReport::Message {
            text,
            calls: Vec::new(),
            incomplete_call_ids: Vec::new(),
            provider_data: None,
            stop,
        },
    );
}

fn resume(world: &mut World, call_id: CallId) {
    world.send(Command::Resume { call_id }).expect("taken");
}

#[test]
fn a_turn_goes_on_with_what_is_left_of_its_times() {
    let mut world = World::new();
    let id = start(&mut world, |_| {});
    begin(&mut world, id);
    world.later(4 * MINUTE);
    resume(&mut world, id);
    assert!(world.has_effect(&Effect::Run(id)));
    assert!(world.has_effect(&Effect::Arm(id, Timer::Idle, MINUTE)));
    let armed = world.last.effects.iter().find_map(|effect| match effect {
        Effect::Arm(_, Timer::Execution, left) => Some(*left),
        _ => None,
    });
    let left = armed.expect("a limit");
    assert!(left < 6 * MINUTE && left > 6 * MINUTE - Duration::from_secs(1), "{left:?}");
    // Its caller has gone with the server.
    let kinds = [PayloadKind::TurnResumed, PayloadKind::ToolCallParked];
    assert_eq!(world.emitted(id), kinds);
    let resumed = &world.last.events[0];
    assert_eq!(resumed.payload, Payload::TurnResumed { resumption: 1, attempt: 2 });
    assert_eq!((resumed.attempt, world.record(id).attempt), (1, 2));
}

#[test]
fn on_disconnect_applies_to_a_turn_in_the_foreground() {
    let mut world = World::new();
    let id = start(&mut world, |start| start.policy.on_disconnect = OnDisconnect::Cancel);
    begin(&mut world, id);
    resume(&mut world, id);
    assert_eq!(world.state(id), State::Cancelling);
    let run = world.last.effects.iter().position(|effect| *effect == Effect::Run(id));
    let stop = world.last.effects.iter().position(|effect| *effect == Effect::Terminate(id, GRACE));
    assert!(run.is_some() && run < stop, "{:?}", world.last.effects);
}

#[test]
fn a_turn_that_was_being_stopped_is_stopped_again() {
    let mut world = World::new();
    let id = start(&mut world, |_| {});
    begin(&mut world, id);
    world.cancel(id).expect("taken");
    world.later(GRACE * 2);
    resume(&mut world, id);
    assert_eq!(world.emitted(id), []);
    assert_eq!(world.last.effects, [Effect::Run(id), Effect::Terminate(id, Duration::ZERO)]);
    assert_eq!(world.record(id).turn.as_ref().expect("a turn").resumptions, 0);
}

#[test]
fn a_turn_that_has_not_begun_waits_on() {
    let mut world = World::new();
    let first = start(&mut world, |_| {});
    let second = start(&mut world, |_| {});
    for id in [first, second] {
        resume(&mut world, id);
    }
    assert_eq!(world.last.effects.iter().filter(|e| matches!(e, Effect::Run(_))).count(), 0);
    assert_eq!(world.emitted(second), [PayloadKind::ToolCallParked]);
    world.succeed(first);
    assert!(world.has_effect(&Effect::Reserve(second)));
    assert!(world.record(second).turn.as_ref().expect("a turn").setup.is_some());
}

#[test]
fn a_call_stays_in_the_foreground_of_a_turn_that_goes_on() {
    let mut world = World::new();
    let id = start(&mut world, |_| {});
    begin(&mut world, id);
    let turn_id = world.record(id).turn_id;
    let call = world.call("bash");
    let policy = CallPolicy { call_budget: Some(10 * MINUTE), ..call.policy.clone() };
    let call = world.start(Start { turn_id, policy, ..call });
    world.later(11 * MINUTE);
    resume(&mut world, id);
    world.send(Command::Adopt { call_id: call }).expect("taken");
    assert_eq!(world.emitted(call), []);
    assert!(world.has_effect(&Effect::Arm(call, Timer::Budget, Duration::ZERO)));
    // Without its turn it has no caller.
    let loss = Loss { cause: LossCause::Turn(TurnLoss::OnRestart), last_known: world.now };
    world.send(Command::Lose { call_id: id, loss }).expect("taken");
    world.send(Command::Adopt { call_id: call }).expect("taken");
    assert_eq!(world.emitted(call), [PayloadKind::ToolCallParked]);
}

#[test]
fn resumptions_count_until_a_message_or_a_stop_in_order() {
    let mut world = World::new();
    let id = start(&mut world, |_| {});
    begin(&mut world, id);
    let counts = |world: &World| {
        let turn = world.record(id).turn.as_ref().expect("a turn");
        (turn.resumptions, turn.resumptions_without_progress)
    };
    for number in 1..=2 {
        resume(&mut world, id);
        assert_eq!(counts(&world), (number, number));
    }
    message(&mut world, id, "hello", None);
    assert_eq!(counts(&world), (2, 0));
    resume(&mut world, id);
    assert_eq!(counts(&world), (3, 1));
    world.send(Command::Interrupt { call_id: id, loss: None }).expect("taken");
    assert_eq!(counts(&world), (3, 0));
}

#[test]
fn the_record_has_what_the_history_has_not_and_drops_it_at_the_end() {
    let mut world = World::new();
    let id = start(&mut world, |_| {});
    let record = |world: &World| world.record(id).turn.clone().expect("a turn");
    assert!(record(&world).setup.expect("settings").prompt.is_some());
    begin(&mut world, id);
    assert!(record(&world).setup.expect("settings").prompt.is_none(), "the history has it");
    message(&mut world, id, "hello", Some(StopReason::MaxTokens));
    let turn = record(&world);
    assert_eq!((turn.messages, turn.rounds, turn.transcript.len()), (2, 1, 0));
    assert_eq!(turn.end.expect("an end").stop, Ok(StopReason::MaxTokens));
    world.succeed(id);
    assert_eq!((record(&world).setup, record(&world).loss), (None, None));
}

#[test]
fn a_transcript_that_is_too_large_is_given_up() {
    let mut world = World::new();
    let id = start(&mut world, |_| {});
    // As if it delivered follow-ups.
    let mut turn = world.record(id).turn.clone().expect("a turn");
    turn.delivers = true;
    let mut call = world.record(id).clone();
    call.turn = Some(turn);
    world.projection.live.insert(id, Box::new(call));
    begin(&mut world, id);
    message(&mut world, id, &"x".repeat(TRANSCRIPT_BYTES_MAX / 2), None);
    let record = |world: &World| world.record(id).turn.clone().expect("a turn");
    assert_eq!(record(&world).transcript.len(), 2);
    message(&mut world, id, &"x".repeat(TRANSCRIPT_BYTES_MAX), None);
    let turn = record(&world);
    assert_eq!(turn.loss, Some(TurnLoss::TranscriptTooLarge));
    assert!(turn.setup.is_none() && turn.transcript.is_empty());
    assert!(!world.last.changes.iter().any(|change| matches!(change, Change::Ended { .. })));
}
