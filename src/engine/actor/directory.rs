//! The directory of actors: one for each session that is in use. An actor is created when it is
//! needed, and retires when it has been idle for a while.

use std::collections::HashMap;

use tokio::sync::{mpsc, watch};

use super::inbox::{ActorHandle, ActorMessage, SessionSnapshot};
use crate::model::SessionId;
use crate::sync::{Mutex, MutexGuard, PoisonError};

/// The receiving ends with which a new actor is started.
pub(crate) struct ActorSeed {
    pub(crate) inbox: mpsc::Receiver<ActorMessage>,
    pub(crate) snapshot: watch::Sender<SessionSnapshot>,
}

/// The actors that exist.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    actors: Mutex<HashMap<SessionId, ActorHandle>>,
}

impl Directory {
    /// Returns the actor of the session and, if there was none, the seed with which the caller must
    /// start it.
    pub(crate) fn get_or_insert(
        &self,
        id: SessionId,
        inbox_commands_max: usize,
    ) -> (ActorHandle, Option<ActorSeed>) {
        let mut actors = self.lock();
        if let Some(handle) = actors.get(&id) {
            return (handle.clone(), None);
        }
        let (sender, inbox) = mpsc::channel(inbox_commands_max);
        let (snapshot, published) = watch::channel(SessionSnapshot::Loading);
        let handle = ActorHandle { inbox: sender, snapshot: published };
        actors.insert(id, handle.clone());
        (handle, Some(ActorSeed { inbox, snapshot }))
    }

    /// Returns whether a session has an actor.
    pub(crate) fn has(&self, id: SessionId) -> bool {
        self.lock().contains_key(&id)
    }

    /// Returns all actors.
    pub(crate) fn all(&self) -> Vec<ActorHandle> {
        self.lock().values().cloned().collect()
    }

    /// Removes an idle actor, and returns `true`, unless a handle of it exists or its inbox holds a
    /// message. Nothing can reach a removed actor any more; the next caller creates another one.
    pub(crate) fn retire(&self, id: SessionId, inbox: &mpsc::Receiver<ActorMessage>) -> bool {
        let mut actors = self.lock();
        // Handles are counted first: a message is in the inbox before its sender is dropped.
        let unused = actors.get(&id).is_none_or(|handle| handle.inbox.strong_count() == 1)
            && inbox.is_empty();
        if unused {
            actors.remove(&id);
        }
        unused
    }

    /// Removes an actor that has ended.
    pub(crate) fn remove(&self, id: SessionId) {
        self.lock().remove(&id);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, ActorHandle>> {
        // The map is consistent after a panic: every change to it is one call.
        self.actors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
