//! A turn that an earlier server began: its work is built again from its record and its messages.

use std::sync::Arc;

use super::history::{History, parse};
use super::run::{TurnRun, TurnSpec, turn_error};
use super::sub_agent::SubAgent;
use crate::agent::AgentBackend;
use crate::agent::prompts::{AGENT_TOOL, follow_up_message};
use crate::engine::actor::ActorHandle;
use crate::engine::call::turn_of;
use crate::engine::{CallHandle, Engine, Error, Shared};
use crate::machine::LossCause;
use crate::model::limits::{HISTORY_BYTES_MAX, RESUMPTIONS_WITHOUT_PROGRESS_MAX};
use crate::model::{
    Call, CallId, Exit, InjectedTask, Message, ModelCall, OnRestart, Origin, Outcome, Principal,
    Prompt, Scopes, Session, State, StopReason, ToolKind, Turn, TurnError, TurnLoss, TurnSetup,
};
use crate::store::{StoreError, StoredMessage};
use crate::tool::Work;

/// The point from which a turn goes on.
#[derive(Debug, Default)]
pub(super) struct DurablePoint {
    /// The number of messages of the model.
    pub(super) rounds: u32,
    /// The calls of the last one that have no result yet.
    pub(super) unanswered: Vec<ModelCall>,
    /// The end of a turn that had only to report it.
    pub(super) end: Option<Result<StopReason, TurnError>>,
}

/// Returns the work with which a live call of an earlier server goes on, or the cause for which it is
/// lost.
pub(in crate::engine) async fn resumed_work(
    shared: &Arc<Shared>,
    handle: ActorHandle,
    session: &Session,
    call: &Call,
) -> Result<Result<Work, LossCause>, StoreError> {
    let is_agent = call.tool == AGENT_TOOL && call.kind == ToolKind::Agent;
    let work: Work = match &call.turn {
        Some(turn) => match check(shared, session, call, turn).await? {
            Ok((backend, setup)) => {
                let spec = turn_spec(shared, handle, session, call, turn, backend, setup);
                Work::InProcess(Box::new(spec))
            }
            Err(loss) => return Ok(Err(LossCause::Turn(loss))),
        },
        None if is_agent => match SubAgent::resumed(shared, handle, call).await? {
            Some(agent) => Work::InProcess(Box::new(agent)),
            None => return Ok(Err(LossCause::ServerStopped)),
        },
        None => return Ok(Err(LossCause::ServerStopped)),
    };
    Ok(Ok(work))
}

/// Returns the backend and the settings of a turn that goes on, or the reason why it cannot.
async fn check(
    shared: &Shared,
    session: &Session,
    call: &Call,
    turn: &Turn,
) -> Result<Result<(AgentBackend, TurnSetup), TurnLoss>, StoreError> {
    if session.on_restart == OnRestart::Lose {
        return Ok(Err(TurnLoss::OnRestart));
    }
    if let Some(loss) = turn.loss {
        return Ok(Err(loss));
    }
    let backend = match shared.models.find(&turn.model, false) {
        Some(backend @ AgentBackend::Model(_)) => backend,
        Some(AgentBackend::Agent(_)) => return Ok(Err(TurnLoss::ExternalAgent)),
        None => return Ok(Err(TurnLoss::ModelUnknown)),
    };
    let Some(setup) = turn.setup.as_deref() else { return Ok(Err(TurnLoss::RecordOlder)) };
    let resumptions = turn.resumptions_without_progress;
    if call.state != State::Pending && resumptions >= RESUMPTIONS_WITHOUT_PROGRESS_MAX {
        return Ok(Err(TurnLoss::NoProgress));
    }
    if let Some(parent) = call.parent {
        let parent = shared.store.call(parent).await?;
        if parent.is_none_or(|parent| parent.state.is_terminal()) {
            return Ok(Err(TurnLoss::ParentEnded));
        }
    }
    Ok(Ok((backend, setup.clone())))
}

fn turn_spec(
    shared: &Arc<Shared>,
    handle: ActorHandle,
    session: &Session,
    call: &Call,
    turn: &Turn,
    backend: AgentBackend,
    setup: TurnSetup,
) -> TurnSpec {
    let has_begun = turn.messages > 0;
    // The note about follow-ups shows the prompt of a turn that has begun.
    let shown = || match turn.transcript.first() {
        Some(Message::User { text, .. }) => text.clone(),
        _ => String::new(),
    };
    let prompt = setup.prompt.map(|prompt| *prompt);
    let Prompt { text, attachments } =
        prompt.unwrap_or_else(|| Prompt { text: shown(), attachments: Vec::new() });
    TurnSpec {
        engine: Engine { shared: shared.clone() },
        principal: Principal {
            tenant: session.tenant.clone(),
            name: setup.principal.as_str().into(),
            scopes: Scopes::default(),
        },
        handle,
        session_id: session.id,
        session: Arc::new(session.clone()),
        call_id: call.id,
        turn_id: turn_of(call.id),
        backend,
        system: setup.system_message.into(),
        prompt: text,
        attachments,
        origin: setup.origin,
        delivers: turn.delivers,
        background: setup.background,
        rounds_max: setup.rounds_max,
        attempts_max: setup.attempts_max,
        // A turn that has begun is at its next attempt.
        attempt: call.attempt + u32::from(call.state != State::Pending),
        resumed: has_begun.then(|| Box::new(turn.clone())),
    }
}

/// Attaches a turn that goes on to its calls in the foreground. Returns `None` for other turns.
pub(super) async fn attach(spec: &TurnSpec) -> Option<Vec<CallHandle>> {
    spec.resumed.as_ref()?;
    let mut attached = Vec::new();
    let live = spec.engine.shared.store.live_calls(spec.session_id).await;
    let is_own = |call: &&Call| call.turn_id == Some(spec.turn_id) && call.id != spec.call_id;
    match live {
        Ok(live) => {
            for call in live.iter().filter(is_own).filter(|call| !call.is_task()) {
                // If the actor has ended, so has the call.
                attached.extend(attach_to(spec, call.id).await);
            }
        }
        Err(error) => {
            tracing::warn!(turn_id = %spec.turn_id, %error, "the calls of a turn cannot be read");
        }
    }
    Some(attached)
}

async fn attach_to(spec: &TurnSpec, call_id: CallId) -> Result<CallHandle, Error> {
    spec.engine.calls().attach(spec.handle.clone(), spec.session_id, call_id).await
}

/// Returns a handle of a call of the turn that was accepted before, or `None` if there is none.
pub(super) async fn accepted_before(
    spec: &TurnSpec,
    call: &ModelCall,
) -> Result<Option<CallHandle>, Error> {
    match spec.engine.shared.store.call(call.call_id).await? {
        Some(_) => attach_to(spec, call.call_id).await.map(Some),
        None => Ok(None),
    }
}

/// Returns the result, but waits for the end of this server in place of the error that it is about to
/// stop: the next server goes on.
pub(super) async fn unless_stopping<T>(result: Result<T, Error>) -> Result<T, Error> {
    match result {
        Err(Error::Draining) => std::future::pending().await,
        other => other,
    }
}

/// Reads the history with the messages of the turn, as the model was sent them last.
pub(super) async fn read_back(run: &mut TurnRun, turn: Turn) -> Result<DurablePoint, TurnError> {
    let OwnMessages { prompt, messages, omitted } = read_messages(run, &turn).await?;
    run.history.push_prompt(prompt);
    run.history.omit_in_turn(omitted);
    run.injected = turn.injected.len();
    let mut injected = turn.injected.as_slice();
    let mut reader = Reader::default();
    for (number, message) in messages {
        let count = injected.partition_point(|task| task.after < number);
        let (before, after) = injected.split_at(count);
        push_injected(run, before).await?;
        injected = after;
        reader.read(run, &message).await?;
        run.history.push(message);
    }
    push_injected(run, injected).await?;
    Ok(DurablePoint {
        rounds: turn.rounds,
        unanswered: reader.calls.split_off(reader.answered.min(reader.calls.len())),
        end: turn.end.map(|end| end.stop),
    })
}

/// The calls of the last message of the model, and the number of those with a result.
#[derive(Default)]
struct Reader {
    calls: Vec<ModelCall>,
    answered: usize,
    rounds: u32,
}

impl Reader {
    async fn read(&mut self, run: &mut TurnRun, message: &Message) -> Result<(), TurnError> {
        match message {
            Message::User { .. } => {}
            Message::Assistant { text, calls, .. } => {
                if !text.trim().is_empty() {
                    run.final_text.clone_from(text);
                }
                self.calls.clone_from(calls);
                (self.answered, self.rounds) = (0, self.rounds + 1);
            }
            Message::Tool { text, .. } => {
                let call = self.calls.get(self.answered);
                self.answered += 1;
                if let Some(call) = call.filter(|_| run.spec.delivers) {
                    let exit_code = exit_code(run, call.call_id).await?;
                    run.notes.add(self.rounds, &call.tool, &call.arguments, text, exit_code);
                }
            }
        }
        Ok(())
    }
}

async fn exit_code(run: &TurnRun, id: CallId) -> Result<Option<i32>, TurnError> {
    let call = run.spec.engine.shared.store.call(id).await;
    let call = call.map_err(|error| turn_error(&error.into()))?;
    Ok(match call.and_then(|call| call.outcome) {
        Some(Outcome::Result(result)) => match result.exit {
            Some(Exit::Code(code)) => Some(code),
            Some(Exit::Signal(_)) | None => None,
        },
        Some(Outcome::Failure(_)) | None => None,
    })
}

/// Adds the message about tasks that the turn has claimed, as the model was shown it.
async fn push_injected(run: &mut TurnRun, injected: &[InjectedTask]) -> Result<(), TurnError> {
    let mut tasks = Vec::with_capacity(injected.len());
    for task in injected {
        let call = run.spec.engine.shared.store.call(task.call_id).await;
        tasks.extend(call.map_err(|error| turn_error(&error.into()))?);
    }
    if !tasks.is_empty() {
        let (text, attachments) = (follow_up_message(&tasks), Vec::new());
        run.history.push(Message::User { text, attachments, origin: Origin::Callpark });
    }
    Ok(())
}

/// The messages that a turn has recorded.
struct OwnMessages {
    prompt: Message,
    /// The others with their numbers in the turn, whose prompt is 1.
    messages: Vec<(u64, Message)>,
    /// The number of those that exceed the size limit of a history.
    omitted: u64,
}

/// Reads the history before the turn, and the messages of the turn.
async fn read_messages(run: &mut TurnRun, turn: &Turn) -> Result<OwnMessages, TurnError> {
    let (store, session_id) = (run.spec.engine.shared.store.clone(), run.spec.session_id);
    let page = store.messages(session_id, HISTORY_BYTES_MAX).await;
    let mut page = page.map_err(|error| turn_error(&error.into()))?;
    if turn.delivers {
        run.history = History::read(page)?;
        let mut messages = (1..).zip(turn.transcript.iter().cloned());
        let (_, prompt) = messages.next().ok_or_else(without_prompt)?;
        return Ok(OwnMessages { prompt, messages: messages.collect(), omitted: 0 });
    }
    let newest = page.messages.last().map_or(0, |message| message.number);
    let first = (newest + 1).saturating_sub(turn.messages);
    let count = page.messages.partition_point(|message| message.number < first);
    let own = page.messages.split_off(count);
    page.omitted = first.saturating_sub(1).saturating_sub(count as u64);
    run.history = History::read(page)?;
    let numbered = |stored: &StoredMessage| Ok((stored.number - first + 1, parse(stored)?));
    let mut messages: Vec<(u64, Message)> = own.iter().map(numbered).collect::<Result<_, _>>()?;
    if messages.first().is_some_and(|(number, _)| *number == 1) {
        let (_, prompt) = messages.remove(0);
        return Ok(OwnMessages { prompt, messages, omitted: 0 });
    }
    let found = store.messages_after(session_id, first.saturating_sub(1), 1, usize::MAX).await;
    let found = found.map_err(|error| turn_error(&error.into()))?;
    let prompt = parse(found.messages.first().ok_or_else(without_prompt)?)?;
    // The message that asks for these calls is left out, so their results are, too.
    let is_result = |(_, message): &(u64, Message)| matches!(message, Message::Tool { .. });
    let results = messages.iter().take_while(|message| is_result(message)).count();
    messages.drain(..results);
    let omitted = (turn.messages - 1).saturating_sub(messages.len() as u64);
    Ok(OwnMessages { prompt, messages, omitted })
}

fn without_prompt() -> TurnError {
    turn_error(&Error::Internal("the prompt of the turn is not in its history".into()))
}
