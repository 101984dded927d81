//! One turn, from its prompt to its end.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rand::RngExt as _;

use super::budget;
use super::external_agent;
use super::follow_ups::{FollowUpNotes, inject_follow_ups};
use super::history::History;
use super::images::ImageBudget;
use super::resume::{self, DurablePoint};
use super::round;
use super::sub_agent;
use super::task_tools;
use super::tool_calls::{
    ModelVisibleResult, Repetitions, ToolCalls, incomplete_calls, with_call_id,
};
use crate::agent::{AgentBackend, FinishReason, Model, prompts};
use crate::engine::actor::ActorHandle;
use crate::engine::{CallHandle, Engine, Error};
use crate::machine::{Command, Reply, Start};
use crate::model::limits::{HISTORY_BYTES_MAX, RESULT_CONTENT_BYTES_MAX};
use crate::model::{
    CallId, CallPolicy, Content, ContentKind, Message, ModelCall, Origin, Principal, Progress,
    Prompt, Session, SessionId, StopReason, Tool, ToolKind, ToolResult, Turn, TurnEnd, TurnError,
    TurnId, TurnReport, TurnSetup, Usage,
};
use crate::tool::{InProcess, ToolContext, calls_without_secrets};

/// The longest pause between two attempts, as a multiple of the first one.
const RETRY_DELAY_GROWTH_MAX: u32 = 10;

/// A turn that has been accepted, with everything that it needs to run.
pub(super) struct TurnSpec {
    pub(super) engine: Engine,
    pub(super) principal: Principal,
    pub(super) handle: ActorHandle,
    pub(super) session_id: SessionId,
    /// The session as it was when the turn was requested.
    pub(super) session: Arc<Session>,
    pub(super) call_id: CallId,
    pub(super) turn_id: TurnId,
    pub(super) backend: AgentBackend,
    pub(super) system: Arc<str>,
    pub(super) prompt: String,
    pub(super) attachments: Vec<Content>,
    /// The author of the prompt.
    pub(super) origin: Origin,
    /// `true` if the turn was started to deliver follow-ups.
    pub(super) delivers: bool,
    /// `true` if the turn was started in the background.
    pub(super) background: bool,
    pub(super) rounds_max: u32,
    pub(super) attempts_max: u32,
    /// The number of the first attempt at a request.
    pub(super) attempt: u32,
    /// The record of a turn that began on an earlier server, as it was left.
    pub(super) resumed: Option<Box<Turn>>,
}

impl TurnSpec {
    /// Returns what a later server needs to go on with the turn, or `None` if none can.
    pub(super) fn setup(&self) -> Option<Box<TurnSetup>> {
        if !self.is_of_model() {
            return None;
        }
        let prompt = Prompt { text: self.prompt.clone(), attachments: self.attachments.clone() };
        Some(Box::new(TurnSetup {
            principal: self.principal.name.to_string(),
            system_message: self.system.to_string(),
            rounds_max: self.rounds_max,
            attempts_max: self.attempts_max,
            origin: self.origin,
            background: self.background,
            prompt: Some(Box::new(prompt)),
        }))
    }

    /// Returns whether callpark runs the loop of the turn, and not an agent of its own.
    pub(super) fn is_of_model(&self) -> bool {
        match self.backend {
            AgentBackend::Model(_) => true,
            AgentBackend::Agent(_) => false,
        }
    }

    /// Returns a call in the foreground that belongs to the turn.
    pub(super) fn call_start(
        &self,
        call_id: CallId,
        tool: &str,
        kind: ToolKind,
        policy: CallPolicy,
    ) -> Start {
        Start { policy, turn_id: Some(self.turn_id), ..Start::new(call_id, tool, kind) }
    }
}

#[async_trait]
impl InProcess for TurnSpec {
    async fn run(self: Box<Self>, context: ToolContext) -> ToolResult {
        let notes = FollowUpNotes::new(&self);
        // The calls that the turn waits for stay in the foreground, and are parked if it is stopped.
        let attached = resume::attach(&self).await;
        let mut run = TurnRun {
            notes,
            injected: 0,
            fixed_bytes: 0,
            history: History::default(),
            tools: Arc::default(),
            attempt: self.attempt,
            attached,
            final_text: String::new(),
            spec: *self,
        };
        // If the turn is stopped, the calls that it waits for are parked.
        let stopped = context.cancellation_token().run_until_cancelled(run.run()).await;
        run.into_result(stopped).await
    }
}

/// The beginning of a turn, as an external agent needs it.
pub(super) struct TurnStart {
    /// The messages before the turn, within the size limit of a history.
    pub(super) messages: Vec<Arc<Message>>,
    /// The number of all messages before the turn.
    pub(super) messages_before: u64,
    pub(super) prompt: String,
    pub(super) attachments: Vec<Content>,
}

/// A turn that is running.
pub(super) struct TurnRun {
    pub(super) spec: TurnSpec,
    pub(super) history: History,
    pub(super) tools: Arc<[Tool]>,
    /// The size of the system message and the tools in a request, in bytes.
    pub(super) fixed_bytes: usize,
    /// The number of the current attempt at a request, counted over the whole turn.
    pub(super) attempt: u32,
    /// The last text of the model. A message without text does not replace it.
    pub(super) final_text: String,
    pub(super) notes: FollowUpNotes,
    /// The number of follow-ups that were injected between the rounds.
    pub(super) injected: usize,
    /// The live calls of a turn that goes on, until their results are recorded. `None` for other turns.
    pub(super) attached: Option<Vec<CallHandle>>,
}

impl TurnRun {
    async fn run(&mut self) -> Result<StopReason, TurnError> {
        let resumed = self.spec.resumed.take();
        match (self.spec.backend.clone(), resumed) {
            (AgentBackend::Model(model), Some(turn)) => {
                let point = resume::read_back(self, *turn).await?;
                self.set_up().await?;
                self.run_rounds(model.as_ref(), point).await
            }
            (AgentBackend::Model(model), None) => {
                self.begin().await?;
                self.run_rounds(model.as_ref(), DurablePoint::default()).await
            }
            (AgentBackend::Agent(agent), _) => {
                let start = self.begin().await?;
                external_agent::run(self, agent.as_ref(), start).await
            }
        }
    }

    async fn run_rounds(
        &mut self,
        model: &dyn Model,
        point: DurablePoint,
    ) -> Result<StopReason, TurnError> {
        let mut repetitions = Repetitions::default();
        if let Some(end) = point.end {
            return end;
        }
        if !point.unanswered.is_empty() {
            self.answer_calls(point.rounds, &point.unanswered, &mut repetitions).await?;
        }
        self.attached = None;
        for round in point.rounds + 1..=self.spec.rounds_max {
            if budget::is_used_up(self).await? {
                return Ok(StopReason::BudgetUsedUp);
            }
            inject_follow_ups(self).await?;
            let answer = round::ask(self, model, round).await?;
            let calls: Vec<ModelCall> = answer.calls.into_iter().map(with_call_id).collect();
            if !answer.text.trim().is_empty() {
                self.final_text.clone_from(&answer.text);
            }
            let (data, shown) = (answer.provider_data, calls_without_secrets(&self.tools, &calls));
            let stop = calls.is_empty().then_some(match answer.finish {
                FinishReason::Done => StopReason::EndTurn,
                FinishReason::Length => StopReason::MaxTokens,
                FinishReason::Refused => StopReason::Refusal,
            });
            self.record(TurnReport::Message {
                text: answer.text.clone(),
                calls: shown.clone(),
                incomplete_call_ids: incomplete_calls(&calls, answer.finish),
                provider_data: data.clone(),
                stop,
            })
            .await?;
            self.history.push(Message::Assistant {
                text: answer.text,
                calls: shown,
                provider_data: data,
                note: None,
                origin: Origin::Model,
            });
            if let Some(stop) = stop {
                return Ok(stop);
            }
            self.answer_calls(round, &calls, &mut repetitions).await?;
        }
        Ok(StopReason::MaxRounds)
    }

    /// Runs the calls that the model asks for, and records what it is shown of them.
    async fn answer_calls(
        &mut self,
        round: u32,
        calls: &[ModelCall],
        repetitions: &mut Repetitions,
    ) -> Result<(), TurnError> {
        let results = ToolCalls::new(self).run_all(calls).await;
        let mut budget = ImageBudget::default();
        let kept = calls_without_secrets(&self.tools, calls).into_iter().zip(results);
        for (call, (kept, result)) in calls.iter().zip(kept) {
            let shown = result.text.for_people();
            self.notes.add(round, &call.tool, &kept.arguments, &shown, result.exit_code);
            let result = result.truncated(&mut budget);
            let ModelVisibleResult { text, images, failed, origin, .. } = result;
            let (id, text) = (kept.id, text.render());
            let report = TurnReport::Answered {
                id: id.clone(),
                text: text.clone(),
                pictures: images.clone(),
                origin,
            };
            self.record(report).await?;
            self.history.push(Message::Tool { id, text, pictures: images, origin });
            repetitions.note(call, failed)?;
        }
        Ok(())
    }

    /// Reads the history, records the start of the turn, and sets it up.
    async fn begin(&mut self) -> Result<TurnStart, TurnError> {
        let origin = self.spec.origin;
        let TurnSpec { engine, session_id, prompt, attachments, .. } = &mut self.spec;
        let (prompt, attachments) = (std::mem::take(prompt), std::mem::take(attachments));
        let page = engine.shared.store.messages(*session_id, HISTORY_BYTES_MAX).await;
        let page = page.map_err(|error| turn_error(&error.into()))?;
        let messages_before = page.omitted + page.messages.len() as u64;
        self.history = History::read(page)?;
        let messages = self.history.messages();
        let (text, parts) = (prompt.clone(), attachments.clone());
        let message = Message::User { text, attachments: parts, origin };
        let (text, parts) = (prompt.clone(), attachments.clone());
        let started = TurnReport::Started { prompt: text, attachments: parts, origin };
        self.record(started).await?;
        self.history.push_prompt(message);
        self.set_up().await?;
        Ok(TurnStart { messages, messages_before, prompt, attachments })
    }

    /// Finds the tools, and writes the system message.
    async fn set_up(&mut self) -> Result<(), TurnError> {
        self.tools = self.find_tools().await?;
        // An external agent gets the instructions for tools once it has asked for them.
        let has_tools = self.spec.is_of_model();
        let TurnSpec { system, background, .. } = &self.spec;
        self.spec.system = prompts::system_message(system, has_tools, *background).into();
        let tools = self.tools.iter().map(|tool| {
            tool.name.len() + tool.description.len() + tool.input_schema.to_string().len() + 100
        });
        self.fixed_bytes = self.spec.system.len() + tools.sum::<usize>();
        Ok(())
    }

    /// Returns the approximate size of the next request, in bytes of text.
    pub(super) fn request_bytes(&self) -> usize {
        self.fixed_bytes + self.history.weight()
    }

    /// Returns the tools of the session, and those that only turns have.
    async fn find_tools(&self) -> Result<Arc<[Tool]>, TurnError> {
        let TurnSpec { engine, principal, session_id, .. } = &self.spec;
        let listed = engine.calls().list_tools(principal, Some(*session_id)).await;
        let (tools, unavailable) = listed.map_err(|error| turn_error(&error))?;
        for source in unavailable {
            tracing::warn!(turn_id = %self.spec.turn_id, provider = source.provider,
                reason = source.reason, "the model is not offered the tools of this provider");
        }
        let others = tools.into_iter().filter(|tool| !task_tools::is_task_tool(&tool.name));
        let mut tools: Vec<Tool> = others.collect();
        tools.extend(sub_agent::tool(&self.spec));
        Ok(tools.into_iter().chain(task_tools::tools()).collect())
    }

    /// Records a report. It is durable when this returns.
    pub(super) async fn record(&self, report: TurnReport) -> Result<(), TurnError> {
        let TurnSpec { handle, call_id, .. } = &self.spec;
        let command = Command::Turn { call_id: *call_id, report };
        match handle.command(command, None).await {
            Ok(Reply::NotLive) => {
                Err(turn_error(&Error::Internal("the turn has already ended".into())))
            }
            Ok(_) => Ok(()),
            Err(error) => Err(turn_error(&error)),
        }
    }

    /// Counts and records the usage of a request.
    pub(super) async fn record_usage(&self, usage: Usage, model: &str) -> Result<(), TurnError> {
        self.spec.engine.shared.metrics.model_used(model, &usage);
        self.record(TurnReport::Used { usage, model: model.to_owned() }).await
    }

    /// Records that another attempt follows after `failures` failed ones, and waits before it.
    pub(super) async fn pause_before_retry(
        &mut self,
        failures: u32,
        error: TurnError,
    ) -> Result<(), TurnError> {
        let growth = 2u32.saturating_pow(failures - 1).min(RETRY_DELAY_GROWTH_MAX);
        let longest = self.spec.engine.shared.options.model_retry_delay * growth;
        let delay: Duration = longest.mul_f64(rand::rng().random_range(0.5..=1.0));
        self.record_retry(delay, error).await?;
        tokio::time::sleep(delay).await;
        Ok(())
    }

    /// Records a remark as progress of the turn.
    pub(super) async fn note_progress(&self, message: String) {
        let progress = Progress { done: 0.0, total: None, message };
        let command = Command::Progress { call_id: self.spec.call_id, progress };
        // If the turn isn't live any more, it is being stopped.
        let _ = self.spec.handle.command(command, None).await;
    }

    /// Records that another attempt follows after `delay`.
    pub(super) async fn record_retry(
        &mut self,
        delay: Duration,
        error: TurnError,
    ) -> Result<(), TurnError> {
        self.attempt += 1;
        self.record(TurnReport::Retrying { attempt: self.attempt, delay, error }).await
    }

    /// Restarts the turn's idle timeout.
    pub(super) async fn keep_alive(&self) {
        let command = Command::Alive { call_id: self.spec.call_id };
        // If the turn isn't live any more, it is being stopped.
        let _ = self.spec.handle.command(command, None).await;
    }

    /// Records the end of the turn, and returns its result. `stopped` is `None` if the turn was
    /// cancelled.
    async fn into_result(self, stopped: Option<Result<StopReason, TurnError>>) -> ToolResult {
        let error = match &stopped {
            Some(Err(error)) => Some(error.message.clone()),
            Some(Ok(_)) | None => None,
        };
        let is_error = !matches!(stopped, Some(Ok(_)));
        if let Some(stop) = stopped {
            let note = self.notes.take(self.spec.backend.name());
            let end = TurnEnd { stop, history_omitted: self.history.omitted(), note };
            // If this can't be recorded, the result still says whether the turn succeeded.
            let _ = self.record(TurnReport::Ended(end)).await;
        }
        let text = prompts::truncate_middle(&self.final_text, RESULT_CONTENT_BYTES_MAX);
        let is_empty = text.is_empty();
        let content = Content { kind: ContentKind::Text(text), stream: None, offset: 0 };
        ToolResult {
            content: if is_empty { Vec::new() } else { vec![content] },
            is_error,
            error_message: error.unwrap_or_default(),
            ..ToolResult::default()
        }
    }
}

/// Returns the error of a turn that cannot continue because of an error of the server.
pub(super) fn turn_error(error: &Error) -> TurnError {
    let (code, retryable) = match error {
        Error::Store(_) => ("store_unavailable", true),
        Error::Draining => ("draining", true),
        _ => ("internal", false),
    };
    TurnError { code: code.into(), message: error.to_string(), retryable }
}
