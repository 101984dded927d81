//! An actor that retires while a message is sent to it: nothing is sent into the void.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use shuttle::future::{spawn, yield_now};

use crate::kernels::directory::{ActorSeed, Directory};
use crate::kernels::inbox::ActorMessage;
use crate::model::{SessionId, State};
use crate::support::{Rules, World, check, finds};

#[test]
fn commands_reach_an_actor_that_is_about_to_leave() {
    check(60, || async {
        let world = World::new(Rules::default());
        let session = world.session().await;
        let commanders = [0, 1].map(|_| {
            let world = world.clone();
            spawn(async move {
                for _ in 0..2 {
                    let id = world.task(World::request(Some(session), 1)).await;
                    let ended = world.ended(id).await;
                    assert_eq!(ended.state, State::Succeeded, "{}", ended.reason);
                    // Longer than an actor stays without anything to do.
                    crate::time::sleep(crate::support::millis(1000)).await;
                }
            })
        });
        for commander in commanders {
            commander.await.expect("an end");
        }
        world.leave().await;
    });
}

/// The directory, and actors of one session that count their messages.
#[derive(Default)]
struct Office {
    directory: Directory,
    received: AtomicU32,
}

/// The way in which an idle actor leaves.
#[derive(Clone, Copy)]
enum Leaving {
    /// As `SessionActor::next` does.
    Retire,
    /// By its inbox alone, although a handle is held: the mistake.
    Remove,
}

impl Office {
    /// `Shared::actor` and `ActorHandle::ask`, without the answer.
    async fn send(self: &Arc<Self>, id: SessionId, leaving: Leaving) {
        let (handle, seed) = self.directory.get_or_insert(id, 1);
        if let Some(seed) = seed {
            let office = self.clone();
            drop(spawn(async move { office.serve(id, seed, leaving).await }));
        }
        yield_now().await;
        handle.inbox.send(ActorMessage(1)).await.expect("nothing is sent into the void");
    }

    /// `SessionActor::serve` with `SessionActor::next`, whose time without a message is a step.
    async fn serve(&self, id: SessionId, seed: ActorSeed, leaving: Leaving) {
        let mut commands = seed.inbox;
        loop {
            while let Ok(ActorMessage(count)) = commands.try_recv() {
                self.received.fetch_add(count, Ordering::SeqCst);
            }
            let left = match leaving {
                Leaving::Retire => self.directory.retire(id, &commands),
                Leaving::Remove if commands.is_empty() => {
                    self.directory.remove(id);
                    true
                }
                Leaving::Remove => false,
            };
            if left {
                return;
            }
            yield_now().await;
        }
    }
}

async fn every_message_is_received(leaving: Leaving) {
    let office = Arc::new(Office::default());
    let id = SessionId::random();
    let senders = [0, 1].map(|_| {
        let office = office.clone();
        spawn(async move {
            for _ in 0..2 {
                office.send(id, leaving).await;
            }
        })
    });
    for sender in senders {
        sender.await.expect("everything is sent");
    }
    // The last actor leaves once it has received all.
    for _ in 0..1000 {
        if office.received.load(Ordering::SeqCst) == 4 {
            return;
        }
        yield_now().await;
    }
    panic!("nothing is sent into the void: {} were", 4 - office.received.load(Ordering::SeqCst));
}

#[test]
fn nothing_is_sent_to_an_actor_that_has_left() {
    check(300, || every_message_is_received(Leaving::Retire));
}

#[test]
fn it_is_found_when_an_actor_leaves_by_its_inbox_alone() {
    finds("nothing is sent into the void", 300, || every_message_is_received(Leaving::Remove));
}
