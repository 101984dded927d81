//! Two appends of a session under way at once, of which the first may fail. The actor, its inbox
//! and its timers are the engine's own; the store refuses what doesn't follow its head.

use std::time::Duration;

use shuttle::future::spawn;

use crate::engine::{CallRequest, Error, Started};
use crate::model::{CallId, State};
use crate::store::StoreError;
use crate::support::{Rules, World, check, check_both, millis, saw, who};

/// The id of a task that was accepted; none if the store had no room for it.
async fn try_start(world: &World, request: CallRequest) -> Option<CallId> {
    let request = CallRequest { background: true, ..request };
    match world.engine.calls().start(&who(), request).await {
        Ok(Started::Call(handle)) => Some(handle.call_id),
        Err(Error::Store(StoreError::Full(_))) => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn decisions_on_a_failed_append_have_not_happened() {
    check_both(150, ["refused", "accepted"], || async {
        let world = World::new(Rules::default());
        let session = world.session().await;
        // Its limit changes a record and emits no event: an append that doesn't move the head.
        let limited = CallRequest {
            execution_timeout: Some(millis(20)),
            ..World::request(Some(session), crate::support::FOR_EVER)
        };
        let first = world.task(limited).await;
        world.log.fail_some(2);
        let starts = (1..=3).map(|steps| {
            let world = world.clone();
            spawn(async move { try_start(&world, World::request(Some(session), steps)).await })
        });
        let mut accepted = vec![first];
        for start in starts.collect::<Vec<_>>() {
            let id = start.await.expect("an answer");
            saw(if id.is_some() { "accepted" } else { "refused" });
            accepted.extend(id);
        }
        world.log.fail_some(0);
        for id in &accepted {
            let ended = world.ended(*id).await;
            let expected = if *id == first { State::TimedOut } else { State::Succeeded };
            assert_eq!(ended.state, expected, "{}", ended.reason);
        }
        let mut logged = world.log.calls();
        logged.sort();
        accepted.sort();
        assert_eq!(logged, accepted, "the log has the accepted calls, and nothing else");
        world.leave().await;
    });
}

#[test]
fn reports_that_could_not_be_saved_are_made_again() {
    check(150, || async {
        let world = World::new(Rules::default());
        let session = world.session().await;
        let ids = [
            world.task(World::request(Some(session), 1)).await,
            world.task(World::request(Some(session), 4)).await,
        ];
        world.log.fail_some(4);
        for id in ids {
            let ended = world.wait(id, Duration::from_secs(1_000_000)).await;
            assert_eq!(ended.state, State::Succeeded, "{}", ended.reason);
        }
        world.leave().await;
    });
}
