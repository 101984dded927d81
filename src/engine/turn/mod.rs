//! Turns of agents: a prompt goes to a model, whose calls of tools are run as anybody's are, until
//! it has said all that it has to say.
//!
//! A turn is a call: it has a record, can be parked, waited for, cancelled and listed, and is lost
//! when its server dies. It runs inside the server, and what it reports becomes events and messages
//! of its session's history, in one commit each.

mod calls;
mod control;
mod history;
mod pictures;
mod play;
mod redact;
mod relay;
mod round;
mod sub_session;
mod told;

use std::sync::Arc;
use std::time::Duration;

use super::actor::{ActorHandle, ActorSource};
use super::call::{CallWatch, Calls, StartRequest, turn_of};
use super::idempotency::Claimed;
use super::{DryRun, Engine, Error, NewSession, RequestKey, Shared, Started};
use crate::agent::Player;
use crate::machine::{Cancel, Command, Concurrency, Start, StartTurn, turn_stop};
use crate::model::limits::{
    BACKGROUND_TURN_SECONDS, TURN_ATTEMPTS_DEFAULT, TURN_ATTEMPTS_MAX, TURN_IDLE_SECONDS,
    TURN_ROUNDS_DEFAULT, TURN_ROUNDS_MAX, TURN_SECONDS_DEFAULT,
};
use crate::model::{
    BusyPolicy, Call, CallId, CallPolicy, Content, FollowUp, FollowUpPolicy, Labels, OnDisconnect,
    Principal, Session, SessionId, State, StopReason, ToolKind, TurnError, TurnId, Unresolved,
};
use crate::telemetry::CallCap;
use crate::tool::Work;
use play::Play;
pub use sub_session::SubSession;

/// A turn that somebody wants.
#[derive(Debug, Clone, Default)]
pub struct TurnRequest {
    /// Its session; none: a new one.
    pub session_id: Option<SessionId>,
    /// What is asked.
    pub prompt: String,
    /// What comes with it.
    pub attachments: Vec<Content>,
    /// The model; empty: the session's, or the server's.
    pub model: String,
    /// The system message; empty: the session's, or the server's.
    pub system_message: String,
    /// The rounds with the model; 0: as many as the session says, or the server.
    pub max_rounds: u32,
    /// The attempts at one request to the model; 0: three.
    pub max_attempts: u32,
    /// What happens if the session runs a turn.
    pub busy_policy: BusyPolicy,
    /// The id of the request.
    pub request: Option<RequestKey>,
    /// It goes straight to the background.
    pub background: bool,
    /// What it does about tasks that are there.
    pub concurrency: Concurrency,
    /// What it is for.
    pub description: String,
    /// Its hard limit; none: 600 s in the background, else 24 h.
    pub execution_timeout: Option<Duration>,
    /// When its end must be told.
    pub follow_up: FollowUpPolicy,
    /// It outlives its session's closing.
    pub detached: bool,
    /// The caller's own marks.
    pub labels: Labels,
    /// Check everything, start nothing.
    pub dry_run: bool,
    /// It is to deliver these follow-ups; none: it is a caller's.
    pub follow_ups: Option<Vec<FollowUp>>,
    /// It works for a call of another session, in one that is made for it.
    pub sub_session: Option<Box<SubSession>>,
}

/// How a turn ended.
#[derive(Debug, Clone, PartialEq)]
pub struct TurnOutcome {
    /// Its record.
    pub call: Call,
    /// Well, for this reason; or not.
    pub stop: Result<StopReason, TurnError>,
    /// Its calls that haven't ended.
    pub unresolved: Vec<Unresolved>,
}

/// A turn that was stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CancelledTurn {
    /// Which; none: none ran.
    pub turn_id: Option<TurnId>,
    /// Its calls that go on in the background.
    pub running: Vec<CallId>,
    /// It had been stopped before.
    pub replayed: bool,
}

/// The turns of an engine.
#[derive(Debug, Clone)]
pub struct Turns {
    shared: Arc<Shared>,
}

impl Turns {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: shared.clone() }
    }

    /// Checks a request whole, then starts its turn; or finds the one that an earlier request with
    /// the same id started.
    pub async fn start(&self, who: &Principal, wanted: TurnRequest) -> Result<Started, Error> {
        if self.shared.draining.is_cancelled() {
            self.shared.metrics.call_refused(CallCap::Draining);
            return Err(Error::Draining);
        }
        let calls = Calls::new(&self.shared);
        let store = self.shared.store.as_ref();
        let key = wanted.request.as_ref().filter(|_| !wanted.dry_run);
        let claim = match self.shared.claims.claim(store, &who.tenant, key).await? {
            Claimed::First(claim) => claim,
            Claimed::Replay(effect) => return calls.replay(who, effect, wanted.background).await,
        };
        let (handle, session) = match &wanted.sub_session {
            Some(sub) => (None, Arc::new(sub.session.clone().build(&self.shared, who))),
            None => calls.session_of(who, wanted.session_id).await?,
        };
        let player = self.model_for(&session, &wanted)?;
        let start = start_command(&wanted, player.name());
        if wanted.dry_run {
            calls.probe(handle, start).await?;
            return Ok(Started::DryRun(DryRun { session_id: wanted.session_id }));
        }
        let handle = match handle {
            Some(handle) => handle,
            None => self.shared.actor(ActorSource::New(Box::new((*session).clone()))),
        };
        let session_id = session.id;
        let request = wanted.request.clone();
        let play = self.play(who, &handle, session, start.call_id, player, wanted);
        let work = Work::InProcess(Box::new(play));
        calls.accept(who, handle, session_id, StartRequest { start, request }, work, claim).await
    }

    fn model_for(&self, session: &Session, wanted: &TurnRequest) -> Result<Player, Error> {
        let name = [&wanted.model, &session.model].into_iter().find(|name| !name.is_empty());
        let name = name.map(String::as_str).unwrap_or_default();
        let models = &self.shared.models;
        models.find(name, wanted.background).ok_or_else(|| Error::ModelNotFound {
            name: name.to_owned(),
            models: models.names().map(str::to_owned).collect(),
        })
    }

    fn play(
        &self,
        who: &Principal,
        handle: &ActorHandle,
        session: Arc<Session>,
        call_id: CallId,
        player: Player,
        wanted: TurnRequest,
    ) -> Play {
        let own = [wanted.system_message.as_str(), &session.system_message];
        let system = own.into_iter().find(|text| !text.is_empty());
        let system = system.unwrap_or(&self.shared.options.system_message).into();
        let rounds = [wanted.max_rounds, session.max_rounds].into_iter().find(|count| *count > 0);
        let attempts = Some(wanted.max_attempts).filter(|count| *count > 0);
        Play {
            engine: Engine { shared: self.shared.clone() },
            who: who.clone(),
            handle: handle.clone(),
            session_id: session.id,
            session,
            call_id,
            turn_id: turn_of(call_id),
            player,
            system,
            prompt: wanted.prompt,
            attachments: wanted.attachments,
            delivers: wanted.follow_ups.is_some(),
            background: wanted.background,
            rounds_max: rounds.unwrap_or(TURN_ROUNDS_DEFAULT).min(TURN_ROUNDS_MAX),
            attempts_max: attempts.unwrap_or(TURN_ATTEMPTS_DEFAULT).min(TURN_ATTEMPTS_MAX),
        }
    }

    /// How the turn of a call that has ended went.
    pub async fn outcome(&self, call: Call) -> Result<TurnOutcome, Error> {
        let live = self.shared.store.live_calls(call.session_id).await?;
        let own = live.into_iter().filter(|other| other.turn_id == call.turn_id);
        let unresolved = own
            .map(|call| Unresolved {
                call_id: call.id,
                tool: call.tool.clone(),
                is_task: call.is_task(),
            })
            .collect();
        let stop = turn_stop(&call);
        Ok(TurnOutcome { call, stop, unresolved })
    }

    /// Stops a turn, and waits for its end; without an id the one that runs.
    pub async fn cancel(
        &self,
        who: &Principal,
        session_id: SessionId,
        turn_id: Option<TurnId>,
        reason: String,
    ) -> Result<CancelledTurn, Error> {
        let (handle, _) = self.shared.own_actor(who, session_id).await?;
        let live = self.shared.store.live_calls(session_id).await?;
        let is_meant = |call: &&Call| match turn_id {
            Some(id) => call.turn_id == Some(id),
            None => call.state != State::Pending,
        };
        let turn = live.iter().filter(|call| call.turn.is_some()).find(is_meant);
        let Some(turn) = turn else {
            let ended = match turn_id {
                Some(id) => self.shared.store.call(call_of(id)).await?,
                None => None,
            };
            let own = ended.filter(|call| call.session_id == session_id && call.turn.is_some());
            let running = self.running_tasks(session_id, own.as_ref().and(turn_id)).await?;
            let replayed = own.as_ref().is_some_and(|call| call.cancellation.is_some());
            return Ok(CancelledTurn { turn_id: own.and(turn_id), running, replayed });
        };
        let mut watch = CallWatch::new(&self.shared, turn.id);
        let grace = self.shared.options.machine.grace;
        let command = Command::Cancel(Cancel::new(turn.id, &*who.name, reason, grace));
        handle.command(command, None).await?;
        watch.wait_until(|version| version.ended, None, &self.shared.draining).await?;
        let running = self.running_tasks(session_id, turn.turn_id).await?;
        let replayed = turn.cancellation.is_some();
        Ok(CancelledTurn { turn_id: turn.turn_id, running, replayed })
    }

    async fn running_tasks(
        &self,
        session_id: SessionId,
        turn_id: Option<TurnId>,
    ) -> Result<Vec<CallId>, Error> {
        let live = self.shared.store.live_calls(session_id).await?;
        let own = live.iter().filter(|call| call.turn_id.is_some() && call.turn_id == turn_id);
        Ok(own.filter(|call| call.is_task()).map(|call| call.id).collect())
    }
}

fn call_of(turn_id: TurnId) -> CallId {
    CallId::from_bytes(*turn_id.as_bytes())
}

fn start_command(wanted: &TurnRequest, model: &str) -> Start {
    let call_id = CallId::random();
    let limit = if wanted.background { BACKGROUND_TURN_SECONDS } else { TURN_SECONDS_DEFAULT };
    let policy = CallPolicy {
        call_budget: None,
        execution_timeout: Some(wanted.execution_timeout.unwrap_or(Duration::from_secs(limit))),
        idle_timeout: Some(Duration::from_secs(TURN_IDLE_SECONDS)),
        on_disconnect: OnDisconnect::Park,
        follow_up: wanted.follow_up,
        detached: wanted.detached,
        max_output_bytes: 0,
        // One turn a session at a time.
        exclusive: true,
        queued: false,
    };
    Start {
        description: wanted.description.clone(),
        policy,
        labels: wanted.labels.clone(),
        turn_id: Some(turn_of(call_id)),
        turn: Some(StartTurn {
            model: model.to_owned(),
            busy_policy: wanted.busy_policy,
            follow_ups: wanted.follow_ups.clone(),
        }),
        parent: wanted.sub_session.as_ref().map(|sub| sub.parent),
        background: wanted.background,
        concurrency: wanted.concurrency,
        ..Start::new(call_id, "", ToolKind::Agent)
    }
}
