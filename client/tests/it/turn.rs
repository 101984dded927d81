//! One turn: its outcome, and its stream.

use callpark_client::{EndReason, Origin, RunTurn, TurnOutcome, v1};
use callpark_proto::v1::{run_turn_response::Outcome, session_event::Payload};

use crate::{
    fake::{Fake, Play, Step},
    story::{delivered, event, event_with, gap, send, unavailable},
};

fn request() -> RunTurn {
    RunTurn::new("well?")
}

fn of_call(call_id: &str, event: v1::SessionEvent) -> v1::SessionEvent {
    v1::SessionEvent { call_id: call_id.to_owned(), ..event }
}

/// The acceptance of the turn itself.
fn accepted_turn(sequence: i64) -> v1::SessionEvent {
    let accepted = v1::ToolCallAccepted { kind: v1::Kind::Agent.into(), ..Default::default() };
    of_call("call-1", event_with(sequence, Payload::ToolCallAccepted(Box::new(accepted))))
}

/// The acceptance of a call that the turn makes.
fn accepted_tool(sequence: i64) -> v1::SessionEvent {
    let accepted = v1::ToolCallAccepted { tool: "agent".to_owned(), ..Default::default() };
    of_call("call-2", event_with(sequence, Payload::ToolCallAccepted(Box::new(accepted))))
}

fn parked(call_id: &str, reason: v1::ParkReason, sequence: i64) -> v1::SessionEvent {
    let parked = v1::ToolCallParked { reason: reason.into(), ..Default::default() };
    of_call(call_id, event_with(sequence, Payload::ToolCallParked(parked)))
}

fn idle(sequence: i64) -> v1::SessionEvent {
    event_with(sequence, Payload::SessionIdle(v1::SessionIdle::default()))
}

#[tokio::test(start_paused = true)]
async fn a_turn_is_run_to_its_result_or_parked() {
    let answer = |outcome| v1::RunTurnResponse {
        session_id: "ses-1".to_owned(),
        turn_id: "turn-1".to_owned(),
        call_id: "call-1".to_owned(),
        outcome,
        ..Default::default()
    };
    let result = v1::TurnResult {
        error: Some(v1::SessionError::default()),
        end_reason: EndReason::TurnError.into(),
        ..Default::default()
    };
    let parked = v1::ParkedCall { background_id: "bg-1".to_owned(), ..Default::default() };
    let fake = Fake::start();
    fake.run_turn.plays([
        Play::Answer(answer(Some(Outcome::Result(result.clone())))),
        Play::Answer(answer(Some(Outcome::Parked(parked.clone())))),
        Play::Answer(v1::RunTurnResponse { dry_run: true, ..Default::default() }),
        Play::Answer(answer(None)),
    ]);
    let client = fake.client();
    let turns = client.turns();
    let TurnOutcome::Finished(turn) = turns.run(request()).await.unwrap() else { panic!() };
    assert_eq!((turn.turn_id.as_str(), turn.call_id.as_str()), ("turn-1", "call-1"));
    assert_eq!((turn.result.end_reason(), &turn.result), (EndReason::TurnError, &result));
    let TurnOutcome::Parked(task) = turns.run(request()).await.unwrap() else { panic!() };
    assert_eq!((task.background_id(), task.notice()), ("bg-1", Some(&parked)));
    assert_eq!((task.turn_id(), task.call_id()), (Some("turn-1"), Some("call-1")));
    assert!(matches!(turns.run(request()).await.unwrap(), TurnOutcome::Checked(_)));
    assert_eq!(turns.run(request()).await.unwrap_err().origin(), Origin::Answer);
}

#[tokio::test(start_paused = true)]
async fn after_an_interruption_the_same_request_attaches_to_the_same_turn() {
    let ends = [
        Payload::SessionIdle(v1::SessionIdle::default()),
        Payload::SessionError(v1::SessionError::default()),
    ];
    for end in ends {
        let fake = Fake::start();
        let end = event_with(9, end);
        fake.stream_turn.plays([
            vec![send([event(4), event(7)]), Step::Cut],
            vec![send([event(4), event(7), event(8)]), Step::Fail(unavailable())],
            vec![send([event(4), event(7), event(8), end])],
        ]);
        let mut stream = fake.client().turns().stream(request());
        let items = delivered(&mut stream).await;
        let (last, before) = items.split_last().expect("an end");
        let expected = ["event 4", "event 7", "resumed after 7", "event 8", "resumed after 8"];
        assert_eq!(before, expected);
        assert!(last.ends_with(" 9"), "{last}");
        let id = stream.request_id();
        let sent = v1::RunTurnRequest::from(request().request_id(id));
        assert_eq!(fake.stream_turn.requests(), vec![sent; 3]);
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_call_does_not_end_its_turn() {
    let fake = Fake::start();
    let finished = event_with(2, Payload::ToolCallFinished(Box::default()));
    let idle = event_with(3, Payload::SessionIdle(v1::SessionIdle::default()));
    fake.stream_turn.plays([vec![send([event(1), finished]), send([idle])]]);
    let items = delivered(&mut fake.client().turns().stream(request())).await;
    assert_eq!(items.len(), 3, "{items:?}");
}

#[tokio::test(start_paused = true)]
async fn the_stream_of_a_turn_that_parks_ends() {
    for reason in [v1::ParkReason::Budget, v1::ParkReason::Deadline] {
        let fake = Fake::start();
        let steps = vec![send([accepted_turn(1), parked("call-1", reason, 2)]), Step::Hang];
        fake.stream_turn.plays([steps]);
        let items = delivered(&mut fake.client().turns().stream(request())).await;
        assert_eq!(items, ["event 1", "parked 2"]);
        assert_eq!(fake.stream_turn.requests().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_resumed_stream_of_a_turn_that_parks_ends_there_too() {
    let fake = Fake::start();
    let ended = || parked("call-1", v1::ParkReason::Budget, 3);
    fake.stream_turn.plays([
        vec![send([accepted_turn(1), event(2)]), Step::Cut],
        vec![send([accepted_turn(1), event(2), ended()])],
    ]);
    let items = delivered(&mut fake.client().turns().stream(request())).await;
    assert_eq!(items, ["event 1", "event 2", "resumed after 2", "parked 3"]);
    assert_eq!(fake.stream_turn.requests().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_was_parked_because_its_caller_left_is_streamed_to_its_end() {
    for reason in [v1::ParkReason::Disconnected, v1::ParkReason::BackgroundStart] {
        let fake = Fake::start();
        let left = || parked("call-1", reason, 2);
        fake.stream_turn.plays([
            vec![send([accepted_turn(1)]), Step::Cut],
            vec![send([accepted_turn(1), left()]), send([idle(3)])],
        ]);
        let items = delivered(&mut fake.client().turns().stream(request())).await;
        assert_eq!(items, ["event 1", "resumed after 1", "parked 2", "event 3"]);
    }
}

#[tokio::test(start_paused = true)]
async fn the_parking_of_a_call_does_not_end_its_turn() {
    let fake = Fake::start();
    let call = parked("call-2", v1::ParkReason::Budget, 3);
    let events = send([accepted_turn(1), accepted_tool(2), call, idle(4)]);
    fake.stream_turn.plays([vec![events]]);
    let items = delivered(&mut fake.client().turns().stream(request())).await;
    assert_eq!(items, ["event 1", "event 2", "parked 3", "event 4"]);
}

#[tokio::test(start_paused = true)]
async fn a_turn_whose_acceptance_is_no_longer_in_the_log_ends_where_the_server_ends_it() {
    let fake = Fake::start();
    let budget = v1::ParkReason::Budget;
    let trimmed = || gap(1, 6);
    fake.stream_turn.plays([
        // A call of the turn was parked, and the turn goes on.
        vec![trimmed(), send([parked("call-2", budget, 7), event(8)])],
        vec![trimmed(), send([parked("call-2", budget, 7), event(8), parked("call-1", budget, 9)])],
    ]);
    let items = delivered(&mut fake.client().turns().stream(request())).await;
    assert_eq!(items, ["gap 1 to 6", "parked 7", "event 8", "resumed after 8", "parked 9"]);
    assert_eq!(fake.stream_turn.requests().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_ends_without_an_item() {
    let fake = Fake::start();
    fake.stream_turn.plays([vec![Step::Cut], vec![]]);
    let request = request().dry_run();
    assert!(delivered(&mut fake.client().turns().stream(request)).await.is_empty());
    assert_eq!(fake.stream_turn.requests().len(), 2);
}
