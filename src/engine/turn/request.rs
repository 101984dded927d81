//! Starting, cancelling and waiting for turns.

use std::sync::Arc;
use std::time::Duration;

use super::run::TurnSpec;
use super::sub_agent::SubSession;
use crate::agent::AgentBackend;
use crate::engine::actor::{ActorHandle, ActorSource};
use crate::engine::call::{CallHold, CallWatch, Calls, StartRequest, of_prompt, turn_of};
use crate::engine::idempotency::Claimed;
use crate::engine::{DryRun, Engine, Error, RequestKey, Shared, Started};
use crate::machine::{Cancel, Command, Concurrency, Start, StartTurn, turn_stop};
use crate::model::limits::{
    BACKGROUND_TURN_SECONDS, TURN_ATTEMPTS_DEFAULT, TURN_ATTEMPTS_MAX, TURN_IDLE_SECONDS,
    TURN_ROUNDS_DEFAULT, TURN_ROUNDS_MAX, TURN_SECONDS_DEFAULT,
};
use crate::model::{
    BusyPolicy, Call, CallId, CallPolicy, Content, FollowUp, FollowUpPolicy, Labels, OnDisconnect,
    Origin, Principal, Scopes, Session, SessionId, State, StopReason, ToolKind, TurnError, TurnId,
    Unresolved,
};
use crate::telemetry::CallCap;
use crate::tool::Work;

/// A request to start a turn.
#[derive(Debug, Clone, Default)]
pub struct TurnRequest {
    /// The session of the turn, or `None` for a new one.
    pub session_id: Option<SessionId>,
    /// The prompt.
    pub prompt: String,
    /// The attachments of the prompt.
    pub attachments: Vec<Content>,
    /// The model, or an empty text for that of the session or the server.
    pub model: String,
    /// The system message, or an empty text for that of the session or the server.
    pub system_message: String,
    /// The maximum number of rounds with the model, or 0 for that of the session or the server.
    pub max_rounds: u32,
    /// The maximum number of attempts at one request to the model, or 0 for the default of 3.
    pub max_attempts: u32,
    /// The behavior if the session is running a turn.
    pub busy_policy: BusyPolicy,
    /// The id of the request, or `None` if it isn't idempotent.
    pub request: Option<RequestKey>,
    /// `true` if the turn is parked at once.
    pub background: bool,
    /// The behavior if the session has other tasks.
    pub concurrency: Concurrency,
    /// A description of the turn's purpose.
    pub description: String,
    /// The time after which the turn is parked, or `None` if it is never parked by time.
    pub call_budget: Option<Duration>,
    /// The fate of the turn when its last caller leaves.
    pub on_disconnect: OnDisconnect,
    /// The time limit, or `None` for the default: 600 s in the background, otherwise 24 h.
    pub execution_timeout: Option<Duration>,
    /// The ends of the turn that are reported by a follow-up.
    pub follow_up: FollowUpPolicy,
    /// `true` if the turn outlives its session's closing.
    pub detached: bool,
    /// The labels of the turn.
    pub labels: Labels,
    /// `true` if the request is only checked, and nothing is started.
    pub dry_run: bool,
    /// The follow-ups that the turn delivers, or `None` for a turn that a caller asked for.
    pub follow_ups: Option<Vec<FollowUp>>,
    /// The session that is created for the turn if it works for a call of another session.
    pub sub_session: Option<Box<SubSession>>,
}

/// The outcome of a turn that has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct TurnOutcome {
    /// The record of the turn.
    pub call: Call,
    /// The reason for which the turn stopped, or the error with which it failed.
    pub stop: Result<StopReason, TurnError>,
    /// The turn's calls that have not ended.
    pub unresolved: Vec<Unresolved>,
}

/// The result of cancelling a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CancelledTurn {
    /// The turn, or `None` if no turn was running.
    pub turn_id: Option<TurnId>,
    /// The turn's calls that continue in the background.
    pub running: Vec<CallId>,
    /// `true` if the turn had been cancelled before.
    pub replayed: bool,
}

/// The turns of an engine.
#[derive(Debug, Clone)]
pub struct Turns {
    shared: Arc<Shared>,
}

impl Turns {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: shared.clone() }
    }

    /// Validates a request and starts its turn; or attaches to the turn that an earlier request with
    /// the same id started.
    pub async fn start(
        &self,
        principal: &Principal,
        request: TurnRequest,
    ) -> Result<Started, Error> {
        if self.shared.draining.is_cancelled() {
            self.shared.metrics.call_refused(CallCap::Draining);
            return Err(Error::Draining);
        }
        let calls = Calls::new(&self.shared);
        let store = self.shared.store.as_ref();
        let key = request.request.as_ref().filter(|_| !request.dry_run);
        let claim = match self.shared.claims.claim(store, &principal.tenant, key).await? {
            Claimed::First(claim) => claim,
            Claimed::Replay(effect) => {
                return calls.replay(principal, effect, request.background).await;
            }
        };
        let (handle, session) = match &request.sub_session {
            Some(sub) => (None, Arc::new(sub.session.clone().build(&self.shared, principal))),
            None => calls.session_of(principal, request.session_id).await?,
        };
        let backend = self.backend_for(principal, &session, &request)?;
        let call_id = new_call_id(&request);
        let mut start = start_command(&request, call_id, backend.name());
        let hold = CallHold::admit(&self.shared, &principal.tenant, &start)?;
        if request.dry_run {
            calls.probe(handle, start).await?;
            return Ok(Started::DryRun(DryRun { session_id: request.session_id }));
        }
        let handle = match handle {
            Some(handle) => handle,
            None => self.shared.actor(ActorSource::New(Box::new((*session).clone()))),
        };
        let session_id = session.id;
        let key = request.request.clone();
        let spec = self.turn_spec(principal, &handle, session, call_id, backend, request);
        if let Some(turn) = &mut start.turn {
            turn.setup = spec.setup();
        }
        let work = Work::InProcess(Box::new(spec));
        let start = StartRequest { start, request: key, hold };
        calls.accept(principal, handle, session_id, start, work, claim).await
    }

    fn backend_for(
        &self,
        principal: &Principal,
        session: &Session,
        request: &TurnRequest,
    ) -> Result<AgentBackend, Error> {
        let name = [&request.model, &session.model].into_iter().find(|name| !name.is_empty());
        let name = name.map(String::as_str).unwrap_or_default();
        let backend = self.shared.models.find(name, request.background);
        // A caller with the scopes for it has given the session its model, or started the turn whose model
        // the agent has, too.
        let is_of_session = request.model.is_empty() && !session.model.is_empty();
        let is_inherited = request.sub_session.as_ref().is_some_and(|sub| sub.inherits_model);
        let scopes = if is_of_session || is_inherited { Scopes::ALL } else { principal.scopes };
        let caller = Principal { scopes, ..principal.clone() };
        let grants = &self.shared.options.grants;
        backend
            .filter(|backend| grants.allows_model(&caller, backend.name()))
            .ok_or_else(|| self.shared.model_not_found(principal, name))
    }

    fn turn_spec(
        &self,
        principal: &Principal,
        handle: &ActorHandle,
        session: Arc<Session>,
        call_id: CallId,
        backend: AgentBackend,
        request: TurnRequest,
    ) -> TurnSpec {
        let own = [request.system_message.as_str(), &session.system_message];
        let system = own.into_iter().find(|text| !text.is_empty());
        let system = system.unwrap_or(&self.shared.options.system_message).into();
        let rounds = [request.max_rounds, session.max_rounds].into_iter().find(|count| *count > 0);
        let attempts = Some(request.max_attempts).filter(|count| *count > 0);
        TurnSpec {
            engine: Engine { shared: self.shared.clone() },
            principal: Principal { scopes: Scopes::default(), ..principal.clone() },
            handle: handle.clone(),
            session_id: session.id,
            session,
            call_id,
            turn_id: turn_of(call_id),
            backend,
            system,
            prompt: request.prompt,
            attachments: request.attachments,
            origin: match (&request.follow_ups, &request.sub_session) {
                (Some(_), _) => Origin::Callpark,
                (None, Some(_)) => Origin::Model,
                (None, None) => Origin::Person,
            },
            delivers: request.follow_ups.is_some(),
            background: request.background,
            rounds_max: rounds.unwrap_or(TURN_ROUNDS_DEFAULT).min(TURN_ROUNDS_MAX),
            attempts_max: attempts.unwrap_or(TURN_ATTEMPTS_DEFAULT).min(TURN_ATTEMPTS_MAX),
            attempt: 1,
            resumed: None,
        }
    }

    /// Returns the outcome of a turn, given the record of its call, which has ended.
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

    /// Cancels a turn, and waits until it has ended. Without an id, cancels the turn that is running.
    pub async fn cancel(
        &self,
        principal: &Principal,
        session_id: SessionId,
        turn_id: Option<TurnId>,
        reason: String,
    ) -> Result<CancelledTurn, Error> {
        let (handle, _) = self.shared.own_actor(principal, session_id).await?;
        let live = self.shared.store.live_calls(session_id).await?;
        let is_requested = |call: &&Call| match turn_id {
            Some(id) => call.turn_id == Some(id),
            None => call.state != State::Pending,
        };
        let turn = live.iter().filter(|call| call.turn.is_some()).find(is_requested);
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
        let command = Command::Cancel(Cancel::new(turn.id, &*principal.name, reason, grace));
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

/// Returns the id of the call of a turn. That of an agent follows from the call that it works for, so that
/// a later server finds it.
fn new_call_id(request: &TurnRequest) -> CallId {
    match &request.sub_session {
        Some(sub) => sub.parent.of_agent(),
        None => CallId::random(),
    }
}

fn start_command(request: &TurnRequest, call_id: CallId, model: &str) -> Start {
    let limit = if request.background { BACKGROUND_TURN_SECONDS } else { TURN_SECONDS_DEFAULT };
    let policy = CallPolicy {
        call_budget: request.call_budget,
        execution_timeout: Some(request.execution_timeout.unwrap_or(Duration::from_secs(limit))),
        idle_timeout: Some(Duration::from_secs(TURN_IDLE_SECONDS)),
        on_disconnect: request.on_disconnect,
        follow_up: request.follow_up,
        detached: request.detached,
        max_output_bytes: 0,
        // A session runs one turn at a time.
        exclusive: true,
        queued: false,
    };
    let description = match (request.description.as_str(), &request.follow_ups) {
        ("", None) => of_prompt(&request.prompt),
        (given, _) => given.to_owned(),
    };
    Start {
        description,
        policy,
        labels: request.labels.clone(),
        turn_id: Some(turn_of(call_id)),
        turn: Some(StartTurn {
            model: model.to_owned(),
            busy_policy: request.busy_policy,
            follow_ups: request.follow_ups.clone(),
            setup: None,
        }),
        parent: request.sub_session.as_ref().map(|sub| sub.parent),
        background: request.background,
        concurrency: request.concurrency,
        ..Start::new(call_id, "", ToolKind::Agent)
    }
}
