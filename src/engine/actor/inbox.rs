//! The messages of an actor, the handle that sends them, and the snapshot that the actor publishes.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};

use crate::engine::Error;
use crate::engine::call::CallHold;
use crate::engine::idempotency::Claim;
use crate::engine::restart::Restart;
use crate::machine::{Command, FollowUpOrder, Reply, Start};
use crate::model::{CallId, Session, SessionId};
use crate::store::RequestRecord;
use crate::tool::Work;

/// The channel for the answer to a message.
pub(crate) type Answer = oneshot::Sender<Result<Reply, Error>>;

/// A message in the inbox of an actor.
pub(crate) enum ActorMessage {
    /// A command of a caller.
    Command {
        command: Command,
        /// The request to record with the command's effect.
        request: Option<RequestRecord>,
        answer: Answer,
    },
    /// The start of a call.
    Start {
        start: Box<Start>,
        /// The work to run once the call is accepted.
        work: Work,
        /// The caller waits in the foreground, so its leaving has an effect.
        attach: bool,
        /// The request to record with the call.
        request: Option<RequestRecord>,
        /// The claim on the request id, held until the record is stored, even if the caller leaves
        /// before that.
        claim: Option<Claim>,
        /// Counts the call for the limits of its tenant.
        hold: CallHold,
        answer: Answer,
    },
    /// The acknowledgement of the result of a task that has ended.
    Acknowledge { call_id: CallId, answer: Answer },
    /// A change of a follow-up.
    FollowUp {
        call_id: CallId,
        order: FollowUpOrder,
        /// The request to record with the change.
        request: Option<RequestRecord>,
        answer: Answer,
    },
    /// A claim of a running turn on follow-ups, which it injects between two rounds.
    TakeFollowUps {
        /// The call of the turn.
        turn: CallId,
        /// The tasks of the follow-ups.
        call_ids: Vec<CallId>,
        answer: Answer,
    },
    /// The question whether a call would be accepted.
    Probe { start: Box<Start>, answer: Answer },
    /// A report of a run. It is never lost: if its append fails, it is decided again.
    Report(Command),
    /// Parks the calls in the foreground whose processes go on when the server stops.
    ParkProcesses { answer: Answer },
    /// The work of a call whose run is lost, to be done again.
    Restart(CallId, Box<Restart>),
    /// A slot for a pending call.
    Slot(CallId, OwnedSemaphorePermit),
    /// One more caller waits for the call in the foreground.
    Attach(CallId),
    /// One caller of the call has left.
    Detach(CallId),
}

impl ActorMessage {
    /// Returns whether the decision reads records from the store. Such a message is decided once
    /// every earlier append is durable.
    pub(super) fn needs_stored_records(&self) -> bool {
        match self {
            Self::Acknowledge { .. } | Self::FollowUp { .. } | Self::TakeFollowUps { .. } => true,
            Self::Start { start, .. } => {
                start.turn.as_ref().is_some_and(|turn| turn.follow_ups.is_some())
            }
            _ => false,
        }
    }
}

/// The source of the session that an actor is started for.
pub(crate) enum ActorSource {
    /// A session that is not stored yet: the first append stores it.
    New(Box<Session>),
    /// A session that the store has.
    Stored(SessionId),
}

impl ActorSource {
    pub(crate) fn session_id(&self) -> SessionId {
        match self {
            Self::New(session) => session.id,
            Self::Stored(id) => *id,
        }
    }
}

/// The session of an actor, as it can be read without asking the actor.
#[derive(Debug, Clone)]
pub(crate) enum SessionSnapshot {
    /// The actor is reading the session.
    Loading,
    /// The session as it was when the actor started or its settings last changed. Its counts may be
    /// older than those of the store.
    Known(Arc<Session>),
    /// The session does not exist or cannot be read.
    Failed(Error),
}

/// A handle to the actor of a session. The actor does not retire while a handle exists.
#[derive(Debug, Clone)]
pub(crate) struct ActorHandle {
    pub(crate) inbox: mpsc::Sender<ActorMessage>,
    pub(crate) snapshot: watch::Receiver<SessionSnapshot>,
}

impl ActorHandle {
    /// Sends a command and waits for the answer.
    pub(crate) async fn command(
        &self,
        command: Command,
        request: Option<RequestRecord>,
    ) -> Result<Reply, Error> {
        self.ask(|answer| ActorMessage::Command { command, request, answer }).await
    }

    /// Sends the message that is made with the channel for its answer, and waits for the answer.
    pub(crate) async fn ask(
        &self,
        message: impl FnOnce(Answer) -> ActorMessage,
    ) -> Result<Reply, Error> {
        let (answer, answered) = oneshot::channel();
        self.inbox.send(message(answer)).await.map_err(|_| self.ended())?;
        answered.await.map_err(|_| self.ended())?
    }

    /// Waits until the actor has read its session, or has failed to.
    pub(crate) async fn loaded(&mut self) -> SessionSnapshot {
        let is_loaded = |snapshot: &SessionSnapshot| !matches!(snapshot, SessionSnapshot::Loading);
        match self.snapshot.wait_for(is_loaded).await {
            Ok(snapshot) => snapshot.clone(),
            Err(_) => SessionSnapshot::Loading,
        }
    }

    /// Returns the error for a caller whose actor has ended.
    fn ended(&self) -> Error {
        match &*self.snapshot.borrow() {
            SessionSnapshot::Failed(error) => error.clone(),
            SessionSnapshot::Loading | SessionSnapshot::Known(_) => Error::Draining,
        }
    }
}
