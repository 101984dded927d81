//! Several ends of a call at once: there is one terminal event, and every reader sees the same.

use std::time::Duration;

use shuttle::future::{spawn, yield_now};

use crate::engine::CallRequest;
use crate::machine::{Cancel, Change, Command, Finish, Loss};
use crate::model::{CallId, PayloadKind, State, StopCause, Timestamp, ToolResult};
use crate::support::{Basis, Rules, World, check, check_both, decide_all, finds, millis, saw, who};

#[test]
fn a_cancel_a_kill_a_limit_a_close_and_the_end_leave_one_terminal_event() {
    check_both(120, ["succeeded", "was stopped"], || async {
        let world = World::new(Rules::default());
        let session = world.session().await;
        let request = CallRequest {
            execution_timeout: Some(millis(50)),
            idle_timeout: Some(millis(60)),
            ..World::request(Some(session), 25)
        };
        let id = world.task(request).await;
        let others = [world.clone(), world.clone(), world.clone()];
        let [canceller, killer, closer] = others;
        let cancel = spawn(async move { canceller.cancel(id, false).await });
        let kill = spawn(async move { killer.cancel(id, true).await });
        let close = spawn(async move {
            closer.engine.sessions().close(&who(), session, String::new(), None).await
        });
        let ended = world.ended(id).await;
        for asked in [cancel, kill] {
            let answer = asked.await.expect("an answer");
            assert!(!answer.state.is_terminal() || answer == ended, "the end is the same for all");
        }
        saw(if ended.state == State::Succeeded { "succeeded" } else { "was stopped" });
        close.await.expect("an answer").expect("a closed session");
        assert_eq!(world.ended(id).await, ended, "the first end stays");
        world.leave().await;
    });
}

#[test]
fn a_loss_a_cancel_and_the_end_leave_one_terminal_event() {
    check_both(120, ["lost", "not lost"], || async {
        let world = World::new(Rules::default());
        let id = world.task(World::request(None, 3)).await;
        // An actor that breaks is the loss of what it runs: the next one records it.
        world.log.break_next();
        let mut asked = world.wait(id, Duration::ZERO).await;
        while !asked.state.is_terminal() {
            // A sender that finds no actor has made the next one, or the one after it will.
            asked = match world.try_cancel(id, false).await {
                Ok(call) => call,
                Err(_) => world.wait(id, Duration::ZERO).await,
            };
            yield_now().await;
        }
        let ended = world.ended(id).await;
        assert_eq!(ended, asked, "the first end stays");
        saw(if ended.state == State::Lost { "lost" } else { "not lost" });
        let lost = [State::Succeeded, State::Cancelled, State::Lost];
        assert!(lost.contains(&ended.state), "{:?}", ended.state);
        world.leave().await;
    });
}

#[test]
fn a_call_that_waits_for_its_place_is_cancelled_or_runs() {
    check_both(120, ["never began", "began"], || async {
        let world = World::new(Rules { running_calls_max: 1, ..Rules::default() });
        let first = world.task(World::request(None, 20)).await;
        let second = world.task(World::request(None, 2)).await;
        let canceller = world.clone();
        let cancel = spawn(async move { canceller.cancel(second, false).await });
        let ended = world.ended(second).await;
        let count = |kind| world.log.count(second, kind);
        assert_eq!(count(PayloadKind::ToolCallAccepted), 1, "it is accepted once");
        let starts = usize::from(ended.start_time.is_some());
        assert_eq!(count(PayloadKind::ToolCallStarted), starts, "it begins once at most");
        saw(if ended.start_time.is_none() { "never began" } else { "began" });
        assert!(matches!(ended.state, State::Succeeded | State::Cancelled), "{:?}", ended.state);
        cancel.await.expect("an answer");
        world.ended(first).await;
        world.leave().await;
    });
}

/// Senders that know nothing of each other, and what they say.
fn ends(id: CallId) -> Vec<Command> {
    let cancel = |force| Command::Cancel(Cancel { force, ..Cancel::new(id, "", "", millis(1)) });
    let result = ToolResult::default();
    let finish = Finish { call_id: id, result, stopped: false, survivors: Vec::new() };
    vec![
        cancel(false),
        cancel(true),
        Command::Timeout { call_id: id, cause: StopCause::ExecutionTimeout },
        Command::Lose { call_id: id, loss: Loss::with_server(Timestamp::from_micros(1)) },
        Command::Finish(Box::new(finish)),
    ]
}

async fn end_at_once(basis: Basis) {
    let decided = decide_all(&ends, basis).await;
    let is_end = |change: &&Change| matches!(change, Change::Ended { .. });
    assert_eq!(decided.changes.iter().filter(is_end).count(), 1, "a call ends once");
    assert_eq!(decided.written.settled.len(), 1, "and once it is settled");
    assert!(decided.projection.is_idle(), "nothing is live after the end");
}

#[test]
fn the_machine_ends_a_call_once_in_every_order() {
    check(200, || end_at_once(Basis::Latest));
}

#[test]
fn a_batch_decided_on_the_state_before_it_is_found() {
    finds("a call ends once", 200, || end_at_once(Basis::BeforeBatch));
}
