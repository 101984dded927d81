//! One turn, from its prompt to its end.

use std::sync::Arc;

use async_trait::async_trait;

use super::calls::{Repetitions, Told};
use super::control::{self, NOTES};
use super::history::History;
use super::pictures::Room;
use super::sub_session;
use super::told::{BACKGROUND_NOTES, Notes};
use crate::agent::{Finish, Model, Player};
use crate::engine::directory::Handle;
use crate::engine::words::without_middle;
use crate::engine::{Engine, Error};
use crate::machine::{Command, Concurrency, Reply, Start};
use crate::model::limits::{HISTORY_BYTES_MAX, RESULT_CONTENT_BYTES_MAX};
use crate::model::{
    CallId, CallPolicy, Content, ContentKind, Labels, Message, ModelCall, Principal, Session,
    SessionId, StopReason, Tool, ToolKind, ToolResult, TurnEnd, TurnError, TurnId, TurnReport,
};
use crate::tool::{Arguments, InProcess, ToolContext};

/// The result of a turn in the background that said nothing.
const NO_OUTPUT: &str = "Task completed but produced no output.";

/// What a turn needs.
pub(super) struct Play {
    pub(super) engine: Engine,
    pub(super) who: Principal,
    pub(super) handle: Handle,
    pub(super) session_id: SessionId,
    /// As it was when the turn was asked for.
    pub(super) session: Arc<Session>,
    pub(super) call_id: CallId,
    pub(super) turn_id: TurnId,
    pub(super) player: Player,
    pub(super) system: Arc<str>,
    pub(super) prompt: String,
    pub(super) attachments: Vec<Content>,
    /// It was started to deliver follow-ups.
    pub(super) delivers: bool,
    /// It was started in the background: nobody reads along.
    pub(super) background: bool,
    pub(super) rounds_max: u32,
    pub(super) attempts_max: u32,
}

/// What a turn begins with.
pub(super) struct Begun {
    /// The history before it, as much as there is room for.
    pub(super) messages: Vec<Arc<Message>>,
    /// How many messages the session had before it.
    pub(super) messages_before: u64,
    pub(super) prompt: String,
    pub(super) attachments: Vec<Content>,
}

/// A turn while it runs.
pub(super) struct Turn {
    pub(super) play: Play,
    pub(super) history: History,
    pub(super) tools: Arc<[Tool]>,
    /// Which attempt at a request this is, counted over the whole turn.
    pub(super) attempt: u32,
    /// The model's last message.
    pub(super) final_text: String,
    /// What is to be kept of what it does.
    pub(super) notes: Notes,
    /// Follow-ups that it has taken between its rounds.
    pub(super) heard: usize,
}

#[async_trait]
impl InProcess for Play {
    async fn run(self: Box<Self>, context: ToolContext) -> ToolResult {
        let notes = Notes::of(&self);
        let mut turn = Turn {
            play: *self,
            notes,
            heard: 0,
            history: History::default(),
            tools: Arc::default(),
            attempt: 1,
            final_text: String::new(),
        };
        // Calls that it waits for go to the background when it is stopped.
        let played = context.cancellation_token().run_until_cancelled(turn.play_out()).await;
        turn.result(played).await
    }
}

impl Turn {
    async fn play_out(&mut self) -> Result<StopReason, TurnError> {
        let begun = self.begin().await?;
        match self.play.player.clone() {
            Player::Model(model) => self.play_rounds(model.as_ref()).await,
            Player::Agent(agent) => self.relay(agent.as_ref(), begun).await,
        }
    }

    async fn play_rounds(&mut self, model: &dyn Model) -> Result<StopReason, TurnError> {
        let mut repetitions = Repetitions::default();
        for round in 1..=self.play.rounds_max {
            self.hear_follow_ups().await?;
            let answer = self.ask(model).await?;
            let calls: Vec<ModelCall> = answer.calls.into_iter().map(named).collect();
            self.final_text.clone_from(&answer.text);
            self.tell(TurnReport::Message { text: answer.text.clone(), calls: calls.clone() })
                .await?;
            let message =
                Message::Assistant { text: answer.text, calls: calls.clone(), note: None };
            self.history.push(message);
            if calls.is_empty() {
                return Ok(match answer.finish {
                    Finish::Done => StopReason::EndTurn,
                    Finish::Length => StopReason::MaxTokens,
                    Finish::Refused => StopReason::Refusal,
                });
            }
            let answers = self.run_calls(&calls).await;
            let mut room = Room::default();
            for (call, answer) in calls.iter().zip(answers) {
                self.notes.add(round, &call.tool, &call.arguments, &answer.text, answer.exit_code);
                let Told { text, pictures, failed, .. } = answer.cut(&mut room);
                let id = call.id.clone();
                let report = TurnReport::Answered {
                    id: id.clone(),
                    text: text.clone(),
                    pictures: pictures.clone(),
                };
                self.tell(report).await?;
                self.history.push(Message::Tool { id, text, pictures });
                repetitions.note(call, failed)?;
            }
        }
        Ok(StopReason::MaxRounds)
    }

    /// Reads the history, tells that the turn begins, and finds the tools.
    async fn begin(&mut self) -> Result<Begun, TurnError> {
        let Play { engine, session_id, prompt, attachments, .. } = &mut self.play;
        let (prompt, attachments) = (std::mem::take(prompt), std::mem::take(attachments));
        let page = engine.shared.store.messages(*session_id, HISTORY_BYTES_MAX).await;
        let page = page.map_err(|error| failure(&error.into()))?;
        let messages_before = page.omitted + page.messages.len() as u64;
        self.history = History::read(page)?;
        let messages = self.history.messages();
        let message = Message::User { text: prompt.clone(), attachments: attachments.clone() };
        let started =
            TurnReport::Started { prompt: prompt.clone(), attachments: attachments.clone() };
        self.tell(started).await?;
        self.history.push(message);
        let Play { engine, who, session_id, .. } = &self.play;
        let (tools, unavailable) =
            engine.tools(who, Some(*session_id)).await.map_err(|error| failure(&error))?;
        for source in unavailable {
            tracing::warn!(turn_id = %self.play.turn_id, provider = source.provider,
                reason = source.reason, "the model doesn't see all tools");
        }
        let own = tools.into_iter().filter(|tool| !control::is_control(&tool.name));
        let mut tools: Vec<Tool> = own.collect();
        tools.extend(sub_session::tool(&self.play, &tools));
        self.tools = tools.into_iter().chain(control::tools()).collect();
        let background = if self.play.background { BACKGROUND_NOTES } else { "" };
        let parts = [&*self.play.system, NOTES, background].into_iter();
        let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
        self.play.system = parts.join("\n\n").into();
        Ok(Begun { messages, messages_before, prompt, attachments })
    }

    /// Puts a report into the log. It is durable when this returns.
    pub(super) async fn tell(&self, report: TurnReport) -> Result<(), TurnError> {
        let Play { engine, handle, call_id, .. } = &self.play;
        let command = Command::Turn { call_id: *call_id, report };
        match engine.command(handle, command, None).await {
            Ok(Reply::NotLive) => {
                Err(failure(&Error::Internal("the turn has ended before".into())))
            }
            Ok(_) => Ok(()),
            Err(error) => Err(failure(&error)),
        }
    }

    /// None: it was stopped.
    async fn result(self, played: Option<Result<StopReason, TurnError>>) -> ToolResult {
        let error = match &played {
            Some(Err(error)) => Some(error.message.clone()),
            Some(Ok(_)) | None => None,
        };
        let is_error = !matches!(played, Some(Ok(_)));
        if let Some(stop) = played {
            let note = self.notes.take(self.play.player.name());
            let end = TurnEnd { stop, history_omitted: self.history.omitted(), note };
            // What can't be told now is seen by the result: it ended, well or not.
            let _ = self.tell(TurnReport::Ended(end)).await;
        }
        // Whoever waits for background work hears that there is nothing more to come.
        let is_silent = self.final_text.is_empty() && self.play.background && !is_error;
        let said = if is_silent { NO_OUTPUT } else { self.final_text.as_str() };
        let text = without_middle(said, RESULT_CONTENT_BYTES_MAX);
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

fn named(call: crate::agent::WantedCall) -> ModelCall {
    let crate::agent::WantedCall { id, tool, arguments } = call;
    ModelCall { id, tool, arguments, call_id: CallId::random() }
}

impl Play {
    /// A call in the foreground that the turn makes beside those of tools that callers have.
    pub(super) fn start_of(
        &self,
        call_id: CallId,
        tool: &str,
        kind: ToolKind,
        policy: CallPolicy,
    ) -> Start {
        Start {
            call_id,
            tool: tool.to_owned(),
            kind,
            description: String::new(),
            arguments: Arguments::new(),
            arguments_bytes: 0,
            policy,
            labels: Labels::new(),
            turn_id: Some(self.turn_id),
            turn: None,
            parent: None,
            background: false,
            concurrency: Concurrency::Allow,
            is_control: false,
            has_slot: false,
        }
    }
}

/// A turn that can't go on because of the server.
pub(super) fn failure(error: &Error) -> TurnError {
    let (code, retryable) = match error {
        Error::Store(_) => ("store_unavailable", true),
        Error::Draining => ("draining", true),
        _ => ("internal", false),
    };
    TurnError { code: code.into(), message: error.to_string(), retryable }
}
