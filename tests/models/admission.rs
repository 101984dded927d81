//! Admission at the caps: never more than a cap at once, and nothing waits beside a free place.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use shuttle::future::spawn;

use crate::engine::{CallRequest, Error, Started};
use crate::machine::{Concurrency, Refusal};
use crate::model::State;
use crate::support::{FOR_EVER, Rules, World, check, check_both, finds, pause, saw, who};
use crate::sync::Semaphore;

#[test]
fn calls_of_many_sessions_run_one_after_the_other_and_all_of_them_run() {
    check(80, || async {
        let world = World::new(Rules { running_calls_max: 1, ..Rules::default() });
        let mut calls = Vec::new();
        for steps in [1, 8, 20] {
            let world = world.clone();
            calls.push(spawn(async move {
                let id = world.task(World::request(None, steps)).await;
                world.ended(id).await
            }));
        }
        for call in calls {
            let ended = call.await.expect("an end");
            assert_eq!(ended.state, State::Succeeded, "{}", ended.reason);
        }
        assert_eq!(world.processes.started(), 3, "each call runs once");
        assert_eq!(world.processes.running_max(), 1, "one place, one process");
        world.leave().await;
    });
}

#[test]
fn a_place_that_is_found_for_a_cancelled_call_goes_to_the_next() {
    check_both(80, ["never began", "began"], || async {
        let world = World::new(Rules { running_calls_max: 1, ..Rules::default() });
        let session = world.session().await;
        let mut ids = Vec::new();
        for steps in [40, 5, 1] {
            ids.push(world.task(World::request(Some(session), steps)).await);
        }
        let canceller = world.clone();
        let second = ids[1];
        let cancel = spawn(async move { canceller.cancel(second, false).await });
        let ended = world.ended(ids[2]).await;
        assert_eq!(ended.state, State::Succeeded, "{}", ended.reason);
        cancel.await.expect("an answer");
        let cancelled = world.ended(second).await;
        saw(if cancelled.start_time.is_none() { "never began" } else { "began" });
        world.ended(ids[0]).await;
        assert_eq!(world.processes.running_max(), 1, "one place, one process");
        world.leave().await;
    });
}

#[test]
fn a_call_that_waits_for_another_holds_no_place() {
    check(80, || async {
        let world = World::new(Rules { running_calls_max: 2, ..Rules::default() });
        let session = world.session().await;
        let first = world.task(World::request(Some(session), FOR_EVER)).await;
        let concurrency = Concurrency::Queue;
        let behind = CallRequest { concurrency, ..World::request(Some(session), 1) };
        let behind = world.task(behind).await;
        let other = world.clone();
        let running = spawn(async move {
            let id = other.task(World::request(None, 1)).await;
            other.ended(id).await
        });
        // Its end shows that the second place was free.
        running.await.expect("an end");
        world.cancel(first, false).await;
        let ended = world.ended(behind).await;
        assert_eq!(ended.state, State::Succeeded, "{}", ended.reason);
        world.ended(first).await;
        world.leave().await;
    });
}

#[test]
fn of_calls_at_once_a_session_takes_as_many_as_its_cap() {
    check(80, || async {
        let world = World::new(Rules { live_tasks_max: 2, ..Rules::default() });
        let session = world.session().await;
        let mut calls = Vec::new();
        for _ in 0..3 {
            let world = world.clone();
            calls.push(spawn(async move {
                let request = World::request(Some(session), FOR_EVER);
                match world.engine.calls().start(&who(), request).await {
                    Ok(Started::Call(mut handle)) => {
                        handle.detach_silently();
                        true
                    }
                    Err(Error::Refused(Refusal::TaskLimit { limit: 2, .. })) => false,
                    other => panic!("{other:?}"),
                }
            }));
        }
        let mut accepted = 0;
        for call in calls {
            accepted += usize::from(call.await.expect("an answer"));
        }
        assert_eq!(accepted, 2, "the cap is reached and not passed");
        assert!(world.processes.running_max() <= 2, "what was refused doesn't run");
        world.engine.stop().await;
    });
}

#[test]
fn it_is_found_when_a_free_place_is_seen_and_not_taken() {
    finds("one place, one process", 200, || async {
        let places = Arc::new(Semaphore::new(1));
        let running = Arc::new(AtomicUsize::new(0));
        let runs = [0, 1].map(|_| {
            let (places, running) = (places.clone(), running.clone());
            spawn(async move {
                if places.available_permits() > 0 {
                    pause().await;
                    let place = places.acquire_owned();
                    let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                    assert_eq!(now, 1, "one place, one process");
                    drop(place);
                    pause().await;
                    running.fetch_sub(1, Ordering::SeqCst);
                }
            })
        });
        for run in runs {
            run.await.expect("an end");
        }
    });
}
