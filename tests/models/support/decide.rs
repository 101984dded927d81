//! The machine behind an inbox, without the rest of the actor: a model of `SessionActor::gather` with
//! `Batch::decide`, which decide and apply the commands that are waiting one by one.

use std::time::Duration;

use shuttle::future::spawn;

use super::{FOR_EVER, Rules, World, millis};
use crate::machine::{Change, Command, Projection, Settings, Written, decide};
use crate::model::{Call, CallId, Session, Timestamp};
use crate::store::Store as _;
use crate::sync::mpsc;

/// The state on which a command is decided.
#[derive(Clone, Copy)]
pub enum Basis {
    /// All that was decided before it, as the engine does.
    Latest,
    /// The state before its batch: the mistake.
    BeforeBatch,
}

/// The changes and effects of some commands.
pub struct Decided {
    pub changes: Vec<Change>,
    pub written: Written,
    pub projection: Projection,
}

/// Sends these commands about a call that runs, each by a task of its own, and decides them.
pub async fn decide_all(commands: &dyn Fn(CallId) -> Vec<Command>, basis: Basis) -> Decided {
    let (session, call) = running().await;
    let settings = Settings {
        grace: millis(1),
        retention: Duration::from_secs(1),
        follow_up_delay: millis(1),
        run_owner: None,
    };
    let projection = Projection::new(session, vec![call.clone()], settings);
    let (inbox, mut waiting) = mpsc::channel(8);
    for command in commands(call.id) {
        let inbox = inbox.clone();
        drop(spawn(async move { inbox.send(command).await }));
    }
    drop(inbox);
    let mut decided = Decided { changes: Vec::new(), written: Written::default(), projection };
    while let Some(first) = waiting.recv().await {
        let before = decided.projection.clone();
        let mut next = Some(first);
        while let Some(command) = next {
            let basis = match basis {
                Basis::Latest => &decided.projection,
                Basis::BeforeBatch => &before,
            };
            let now = Timestamp::from_micros(2);
            for change in decide(basis, command, now).changes {
                decided.changes.push(change.clone());
                decided.projection.apply(change, now, &mut decided.written);
            }
            next = waiting.try_recv().ok();
        }
    }
    decided
}

/// A session with a call that runs, as a server has left it.
async fn running() -> (Session, Call) {
    let world = World::new(Rules::default());
    let session = world.session().await;
    let mut handle = world.start(World::request(Some(session), FOR_EVER)).await;
    handle.detach_silently();
    let id = handle.call_id;
    let session = world.log.session(session).await.expect("the store").expect("a session");
    let call = world.log.call(id).await.expect("the store").expect("a call");
    world.engine.stop().await;
    (session, call)
}
