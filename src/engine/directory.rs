//! Which actor is in charge of which session. An actor is made when it is needed, and leaves
//! when it has had nothing to do for a while.

use std::collections::HashMap;

use tokio::sync::{mpsc, watch};

use super::inbox::{Facts, Message};
use crate::model::SessionId;
use crate::sync::{Mutex, MutexGuard, PoisonError};

/// How to reach the actor of a session. While a handle is held, the actor stays.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    /// Its inbox.
    pub(crate) inbox: mpsc::Sender<Message>,
    /// What it knows of the session.
    pub(crate) facts: watch::Receiver<Facts>,
}

/// What a new actor is started with.
pub(crate) struct Vacancy {
    pub(crate) commands: mpsc::Receiver<Message>,
    pub(crate) facts: watch::Sender<Facts>,
}

/// The actors that are there.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    actors: Mutex<HashMap<SessionId, Handle>>,
}

impl Directory {
    /// The actor of the session, and, if there was none, what the caller must start it with.
    pub(crate) fn get_or_insert(
        &self,
        id: SessionId,
        inbox_commands_max: usize,
    ) -> (Handle, Option<Vacancy>) {
        let mut actors = self.lock();
        if let Some(handle) = actors.get(&id) {
            return (handle.clone(), None);
        }
        let (inbox, commands) = mpsc::channel(inbox_commands_max);
        let (facts, known) = watch::channel(Facts::Loading);
        let handle = Handle { inbox, facts: known };
        actors.insert(id, handle.clone());
        (handle, Some(Vacancy { commands, facts }))
    }

    /// Lets an idle actor go, unless somebody holds a handle or has just sent something. After a
    /// yes nothing can reach the actor any more, and the next caller makes a new one.
    pub(crate) fn retire(&self, id: SessionId, commands: &mpsc::Receiver<Message>) -> bool {
        let mut actors = self.lock();
        // Handles first: what one of them has sent is in the inbox before it is dropped.
        let unused = actors.get(&id).is_none_or(|handle| handle.inbox.strong_count() == 1)
            && commands.is_empty();
        if unused {
            actors.remove(&id);
        }
        unused
    }

    /// The actor is gone.
    pub(crate) fn remove(&self, id: SessionId) {
        self.lock().remove(&id);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Handle>> {
        // A map that a panic left behind is whole: every change to it is one call.
        self.actors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
