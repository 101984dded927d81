//! What an actor is told, what it begins with, and what it lets everybody know.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::Error;
use super::requests::Claim;
use crate::machine::{Command, FollowUpOrder, Reply, Start};
use crate::model::{CallId, Session, SessionId};
use crate::store::RequestRecord;
use crate::tool::Work;

/// Where the answer to a command goes.
pub(crate) type Answer = oneshot::Sender<Result<Reply, Error>>;

/// What arrives in the inbox.
pub(crate) enum Message {
    /// Somebody commands and wants an answer.
    Command {
        /// What.
        command: Command,
        /// The request to record with it.
        request: Option<RequestRecord>,
        /// Who wants the answer.
        answer: Answer,
    },
    /// Somebody starts a call.
    Start {
        /// The call.
        start: Box<Start>,
        /// What running it means.
        work: Work,
        /// Its caller waits for it: going away means something.
        attach: bool,
        /// The request to record with it.
        request: Option<RequestRecord>,
        /// Held until the record is stored, even if the asker leaves before.
        claim: Option<Claim>,
        /// Who wants the answer.
        answer: Answer,
    },
    /// Somebody has the result of a task that has ended.
    Acknowledge {
        /// The task.
        call_id: CallId,
        /// Who wants the answer.
        answer: Answer,
    },
    /// Something is to become of a follow-up.
    FollowUp {
        /// Its task.
        call_id: CallId,
        /// What.
        order: FollowUpOrder,
        /// The request to record with it.
        request: Option<RequestRecord>,
        /// Who wants the answer.
        answer: Answer,
    },
    /// A turn wants to tell of follow-ups.
    TakeFollowUps {
        /// The call that the turn is.
        turn: CallId,
        /// The tasks.
        call_ids: Vec<CallId>,
        /// Who wants the answer.
        answer: Answer,
    },
    /// Somebody asks what would become of a call.
    Probe {
        /// The call.
        start: Box<Start>,
        /// Who asks.
        answer: Answer,
    },
    /// A runner reports. Never lost: reported again when the store is back.
    Report(Command),
    /// A place to run is there for a call.
    Slot(CallId, OwnedSemaphorePermit),
    /// One more caller waits for the call.
    Attach(CallId),
    /// One caller of the call went away.
    Detach(CallId),
}

impl Message {
    /// It rests on records that are in the store only: it is taken once all that came before it is
    /// there.
    pub(super) fn is_about_stored(&self) -> bool {
        match self {
            Self::Acknowledge { .. } | Self::FollowUp { .. } | Self::TakeFollowUps { .. } => true,
            Self::Start { start, .. } => {
                start.turn.as_ref().is_some_and(|turn| turn.follow_ups.is_some())
            }
            _ => false,
        }
    }
}

/// What an actor begins with.
pub(crate) enum Origin {
    /// A session that isn't stored yet: the first append stores it.
    New(Box<Session>),
    /// A session that the store has.
    Stored(SessionId),
}

/// What everybody may know of a session without asking its actor.
#[derive(Debug, Clone)]
pub(crate) enum Facts {
    /// The actor is reading it.
    Loading,
    /// The session as it was when the actor came. Its tenant, tools and folder never change.
    Known(Arc<Session>),
    /// There is none, or it can't be read.
    Failed(Error),
}
