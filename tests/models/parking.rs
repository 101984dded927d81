//! A budget that ends with the work: a result or a background id, never both, never neither.
//! `CallHandle::settled`, the actor's timers, `Attachment` and the machine are the engine's own.

use shuttle::future::spawn;

use crate::engine::CallRequest;
use crate::machine::{Change, Command, Finish};
use crate::model::{Call, CallId, OnDisconnect, ParkReason, PayloadKind, State, ToolResult};
use crate::support::{
    Basis, FOR_EVER, Rules, World, check, check_both, decide_all, finds, millis, pause, saw,
};
use crate::time::Instant;

/// The two outcomes of the race between the budget and the work.
const BOTH: [&str; 2] = ["a result", "a background id"];

/// Checks that the log fits the answer.
fn assert_one_answer(world: &World, answer: &Call) {
    let parked = world.log.count(answer.id, PayloadKind::ToolCallParked);
    saw(BOTH[usize::from(answer.is_task())]);
    if answer.is_task() {
        assert_eq!(parked, 1, "who gets a background id has a call that was parked once");
    } else {
        assert!(answer.state.is_terminal(), "who gets no background id gets a result");
        assert_eq!(parked, 0, "a call that gave its result in time is not parked");
    }
}

/// The call ends, whatever its caller got.
async fn assert_ends(world: World, answer: Call) {
    if answer.is_task() {
        let ended = world.ended(answer.id).await;
        assert_eq!(ended.park_time, answer.park_time, "a call is parked once");
    }
    world.leave().await;
}

#[test]
fn a_budget_that_ends_with_the_work_gives_one_answer() {
    check_both(150, BOTH, || async {
        let world = World::new(Rules::default());
        let budget = Some(millis(50));
        let request = CallRequest { call_budget: budget, ..World::request(None, 12) };
        let mut handle = world.start(request).await;
        let answer = handle.wait_settled(|| None).await.expect("an answer");
        assert_one_answer(&world, &answer);
        assert_ends(world, answer).await;
    });
}

#[test]
fn a_budget_and_a_deadline_that_end_with_the_work_give_one_answer() {
    check_both(150, BOTH, || async {
        let world = World::new(Rules::default());
        let budget = Some(millis(50));
        let request = CallRequest { call_budget: budget, ..World::request(None, 12) };
        let mut handle = world.start(request).await;
        let deadline = Instant::now() + millis(50);
        let answer = handle.wait_settled(|| Some(deadline)).await.expect("an answer");
        assert_one_answer(&world, &answer);
        drop(handle);
        assert_ends(world, answer).await;
    });
}

#[test]
fn a_budget_gives_an_answer_while_the_work_goes_on() {
    check(60, || async {
        let world = World::new(Rules::default());
        let budget = Some(millis(50));
        let request = CallRequest { call_budget: budget, ..World::request(None, FOR_EVER) };
        let mut handle = world.start(request).await;
        let deadline = Instant::now() + millis(50);
        let answer = handle.wait_settled(|| Some(deadline)).await.expect("an answer");
        assert!(!answer.state.is_terminal(), "{}", answer.reason);
        assert_one_answer(&world, &answer);
        world.cancel(answer.id, false).await;
        assert_ends(world, answer).await;
    });
}

#[test]
fn two_callers_of_one_request_get_an_answer_each() {
    check(100, || async {
        let world = World::new(Rules::default());
        let request = CallRequest {
            call_budget: Some(millis(50)),
            request: Some(crate::requests::key()),
            ..World::request(None, 12)
        };
        let (other, same) = (world.clone(), request.clone());
        let calling = spawn(async move {
            let mut handle = other.start(same).await;
            handle.wait_settled(|| None).await.expect("an answer")
        });
        let mut handle = world.start(request).await;
        let answers = [
            handle.wait_settled(|| None).await.expect("an answer"),
            calling.await.expect("an answer"),
        ];
        assert_eq!(answers[0].id, answers[1].id, "both have the same call");
        for answer in &answers {
            // One may have asked after the end, of a call that was parked before.
            assert!(answer.is_task() || answer.state.is_terminal(), "an answer to each");
        }
        let [answer, _] = answers;
        assert_ends(world, answer).await;
    });
}

/// The budget and the end in one inbox.
async fn park_and_finish(basis: Basis) {
    let commands = |call_id| {
        let result = ToolResult::default();
        let finish = Finish { call_id, result, stopped: false, survivors: Vec::new() };
        let park = Command::Park { call_id, reason: ParkReason::Budget };
        vec![park, Command::Finish(Box::new(finish))]
    };
    let changes = decide_all(&commands, basis).await.changes;
    let end = changes.iter().position(|change| matches!(change, Change::Ended { .. }));
    let park = changes.iter().position(|change| matches!(change, Change::Parked(..)));
    saw(BOTH[usize::from(park.is_some())]);
    assert!(park.is_none() || park < end, "a call that gave its result is not parked");
}

#[test]
fn a_call_is_parked_before_its_end_or_not_at_all() {
    check_both(100, BOTH, || park_and_finish(Basis::Latest));
}

#[test]
fn it_is_found_when_a_call_is_parked_that_gave_its_result() {
    finds("is not parked", 100, || park_and_finish(Basis::BeforeBatch));
}

/// A call whose caller goes away at some moment, and how it ends.
async fn left(on_disconnect: OnDisconnect) -> (World, CallId, Call) {
    let world = World::new(Rules::default());
    let mut handle = world.start(CallRequest { on_disconnect, ..World::request(None, 12) }).await;
    let id = handle.call_id;
    let waiting = spawn(async move {
        // Its answer goes nowhere.
        let _ = handle.wait_settled(|| None).await;
    });
    for _ in 0..3 {
        pause().await;
    }
    waiting.abort();
    let ended = world.recorded_end(id).await;
    (world, id, ended)
}

#[test]
fn a_caller_that_leaves_while_the_call_ends_changes_no_result() {
    check_both(100, ["ended before", "was parked"], || async {
        let (world, id, ended) = left(OnDisconnect::Park).await;
        assert_eq!(ended.state, State::Succeeded, "{}", ended.reason);
        saw(if ended.is_task() { "was parked" } else { "ended before" });
        let parked = world.log.count(id, PayloadKind::ToolCallParked);
        assert_eq!(parked, usize::from(ended.is_task()), "a task is a call that was parked once");
        world.leave().await;
    });
}

#[test]
fn a_caller_that_leaves_cancels_a_call_that_has_not_ended() {
    check_both(100, ["ended before", "was stopped"], || async {
        let (world, id, ended) = left(OnDisconnect::Cancel).await;
        saw(if ended.state == State::Succeeded { "ended before" } else { "was stopped" });
        let cancelling = world.log.count(id, PayloadKind::ToolCallCancelling);
        match ended.state {
            State::Cancelled => assert_eq!(cancelling, 1, "a cancelled call was asked to stop"),
            state => assert_eq!(state, State::Succeeded, "{}", ended.reason),
        }
        world.leave().await;
    });
}
