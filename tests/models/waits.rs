//! A wait that begins while the end commits. All of it is the engine's own: `Calls::wait`,
//! `Calls::wait_many`, the actor with its append, `Topics`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use shuttle::future::spawn;

use crate::engine::WaitMode;
use crate::kernels::topics::Topics;
use crate::support::{Rules, World, check, check_all, check_both, finds, millis, pause, saw, who};

#[test]
fn a_wait_that_begins_while_the_end_commits_gets_the_end() {
    check(100, || async {
        let world = World::new(Rules::default());
        let id = world.task(World::request(None, 2)).await;
        let other = world.clone();
        let waiting = spawn(async move { other.ended(id).await });
        let ended = world.ended(id).await;
        assert_eq!(waiting.await.expect("a wait"), ended);
        world.leave().await;
    });
}

#[test]
fn a_wait_that_times_out_while_the_end_commits_returns_the_true_state() {
    check_both(100, ["the end", "no end"], || async {
        let world = World::new(Rules::default());
        let id = world.task(World::request(None, 8)).await;
        let call = world.wait(id, millis(50)).await;
        let ended = world.ended(id).await;
        saw(if call.state.is_terminal() { "the end" } else { "no end" });
        assert!(!call.state.is_terminal() || call == ended, "an end is reported as it is");
        world.leave().await;
    });
}

#[test]
fn a_wait_for_several_gets_the_first_and_the_last_end() {
    check(60, || async {
        let world = World::new(Rules::default());
        let ids =
            [world.task(World::request(None, 1)).await, world.task(World::request(None, 3)).await];
        let calls = world.engine.calls();
        let (who, long) = (who(), Duration::from_secs(1_000_000));
        let any = calls.wait_many(&who, &ids, WaitMode::Any, long, true);
        assert!(!any.await.expect("an answer").settled.is_empty(), "one has ended");
        let all = calls.wait_many(&who, &ids, WaitMode::All, long, true);
        assert_eq!(all.await.expect("an answer").settled.len(), 2, "all have ended");
        world.leave().await;
    });
}

/// A stored value, and the topic of its versions.
#[derive(Clone, Default)]
struct Kept {
    stored: Arc<AtomicU64>,
    topics: Topics<u8, u64>,
}

impl Kept {
    async fn store(&self, version: u64) {
        self.stored.store(version, Ordering::SeqCst);
        pause().await;
        self.topics.publish(&1, version);
    }

    async fn read(&self) -> u64 {
        pause().await;
        self.stored.load(Ordering::SeqCst)
    }
}

#[test]
fn who_subscribes_and_then_reads_misses_no_version() {
    check_all(|| async {
        let kept = Kept::default();
        let writer = kept.clone();
        let writing = spawn(async move { writer.store(1).await });
        let mut changes = kept.topics.subscribe(&1);
        changes.newest();
        while kept.read().await == 0 {
            changes.changed().await;
        }
        writing.await.expect("a version");
    });
}

#[test]
fn a_read_before_the_subscription_is_found() {
    finds("deadlock", 200, || async {
        let kept = Kept::default();
        let writer = kept.clone();
        let writing = spawn(async move { writer.store(1).await });
        while kept.read().await == 0 {
            kept.topics.subscribe(&1).changed().await;
        }
        writing.await.expect("a version");
    });
}

#[test]
fn topics_that_come_and_go_keep_their_subscribers() {
    check(300, || async {
        let kept = Kept::default();
        let writer = kept.clone();
        let writing = spawn(async move {
            for version in 1..=2 {
                writer.store(version).await;
            }
        });
        let passing = kept.clone();
        let passer = spawn(async move {
            for _ in 0..2 {
                passing.topics.subscribe(&1).newest();
                pause().await;
            }
        });
        let mut changes = kept.topics.subscribe(&1);
        changes.newest();
        while kept.read().await < 2 {
            changes.changed().await;
        }
        writing.await.expect("versions");
        passer.await.expect("a listener");
    });
}
