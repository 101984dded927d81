//! One turn in an agent's process.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agent_client_protocol::Error as ProtocolError;
use agent_client_protocol::v1::schema::{
    CancelNotification, ContentBlock, ContentChunk, McpServer, NewSessionRequest, PromptRequest,
    PromptResponse, RequestPermissionResponse, SessionId as ProtocolSessionId, SessionNotification,
    SessionUpdate, StopReason as ProtocolStopReason,
};
use tokio::time::{Instant, sleep_until, timeout};

use super::config::AgentConfig;
use super::event_sink::{EventSink, TurnAbort};
use super::own_calls::OwnCalls;
use super::permission::{choose_option, is_allowed, tool_name};
use super::process::{AgentMessage, PermissionRequest, Process, discard};
use super::prompt::{PromptParts, blocks};
use super::tool_server::{AgentToolCall, OpenToolSession, ToolToken};
use super::usage::{TokenCounts, usage_since};
use crate::agent::{AgentEvent, AgentRequest, ModelErrorCode};
use crate::model::{StopReason, Tool};
use crate::telemetry::Metrics;

/// The time in which an agent must end a turn that is cancelled.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// The time in which the last answer of a process that has ended must be read.
const LAST_ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// A conversation that an agent's process holds.
pub(super) struct Conversation {
    id: ProtocolSessionId,
    settings: ConversationSettings,
    /// The number of messages of the session after the last turn.
    messages_after: u64,
    /// The agent's token counts after the last turn.
    counts: TokenCounts,
    tools: ToolsState,
}

/// The part that callpark's tools have in a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ToolsState {
    /// There are none.
    NotOffered,
    /// The agent has not asked for them.
    Offered,
    /// As before, and it was reported.
    Missed,
    /// The agent has asked for them, and has the instructions for them.
    Known,
}

/// The settings that cannot be changed within a conversation.
#[derive(PartialEq)]
struct ConversationSettings {
    system: Arc<str>,
    tools: Arc<[Tool]>,
    working_directory: PathBuf,
}

/// The process and the channels of one turn.
pub(super) struct TurnIo<'a> {
    pub(super) config: &'a AgentConfig,
    pub(super) process: &'a mut Process,
    pub(super) token: &'a ToolToken,
    /// The server with callpark's tools, in a form that the agent can use, or `None` if there is none.
    pub(super) tool_server: Option<McpServer>,
    pub(super) sink: &'a EventSink,
    pub(super) metrics: &'a Metrics,
}

/// The conversation in which a turn runs.
struct OpenConversation {
    conversation: Conversation,
    is_new: bool,
}

impl TurnIo<'_> {
    /// Runs a turn, in the conversation of the last one if the agent knows the whole history. Returns
    /// the conversation if the next turn can continue it.
    pub(super) async fn run(
        mut self,
        request: &AgentRequest,
        last: Option<Conversation>,
    ) -> Result<Option<Conversation>, TurnAbort> {
        let mut tool_calls = self.token.session.open(request.tools.clone());
        let opened = self.open(request, last).await?;
        let mut conversation = opened.conversation;
        let parts = PromptParts {
            history: opened.is_new,
            tool_instructions: self.must_instruct(&mut conversation),
            images: self.process.capabilities.prompt_capabilities.image,
        };
        let prompt = blocks(request, parts);
        let prompt = PromptRequest::new(conversation.id.clone(), prompt);
        let mut calls =
            OwnCalls::new(&self.config.name, request.tools.clone(), self.metrics.clone());
        let asking = self.process.connection.send_request(prompt).block_task();
        let mut asking = std::pin::pin!(asking);
        let answered =
            self.forward_events(request, &mut tool_calls, &mut calls, asking.as_mut()).await;
        let response = match answered {
            Ok(response) => response,
            Err(TurnAbort::Dropped) => {
                self.cancel(&conversation.id, asking).await?;
                return Err(TurnAbort::Dropped);
            }
            Err(abort) => return Err(abort),
        };
        if let Some(counts) = &response.usage {
            let counts = TokenCounts::from(counts);
            let used = usage_since(conversation.counts, counts);
            conversation.counts = counts;
            self.sink.emit(AgentEvent::Used(used)).await?;
        }
        let (reason, continues) = match response.stop_reason {
            ProtocolStopReason::EndTurn => (StopReason::EndTurn, true),
            ProtocolStopReason::MaxTokens => (StopReason::MaxTokens, true),
            ProtocolStopReason::MaxTurnRequests => (StopReason::MaxRounds, true),
            // The agent removes a refused turn from its conversation.
            ProtocolStopReason::Refusal => (StopReason::Refusal, false),
            ProtocolStopReason::Cancelled => (StopReason::Cancelled, false),
            other => {
                let reason = format!("it ended the turn for an unknown reason: {other:?}");
                return Err(self.process.error(ModelErrorCode::Malformed, &reason).into());
            }
        };
        self.report_missed_tools(&mut conversation).await?;
        self.sink.emit(AgentEvent::Finished(reason)).await?;
        conversation.messages_after = request.messages_after;
        Ok(continues.then_some(conversation))
    }

    /// Continues the conversation of the last turn, or opens a new one.
    async fn open(
        &mut self,
        request: &AgentRequest,
        last: Option<Conversation>,
    ) -> Result<OpenConversation, TurnAbort> {
        let chosen = request.working_directory.as_ref().or(self.config.working_directory.as_ref());
        let working_directory = chosen.cloned().unwrap_or_else(|| PathBuf::from("."));
        let working_directory = std::path::absolute(&working_directory).map_err(|error| {
            let path = working_directory.display();
            let reason = format!("its working directory {path} has no absolute path: {error}");
            self.process.error(ModelErrorCode::Refused, &reason)
        })?;
        let (system, tools) = (request.system.clone(), request.tools.clone());
        let settings = ConversationSettings { system, tools, working_directory };
        if let Some(last) = last
            && last.settings == settings
            && request.messages_before == last.messages_after
        {
            return Ok(OpenConversation { conversation: last, is_new: false });
        }
        let new_session = NewSessionRequest::new(settings.working_directory.clone());
        let offered = self.tool_server.take().filter(|_| !settings.tools.is_empty());
        let tools = match offered {
            Some(_) => ToolsState::Offered,
            None => ToolsState::NotOffered,
        };
        let new_session = new_session.mcp_servers(offered.into_iter().collect());
        let opening = self.process.connection.send_request(new_session).block_task();
        let limit = self.config.start_timeout();
        // Updates that arrive meanwhile, such as the available commands, belong to no turn.
        let opening = discarding_messages(self.process, timeout(limit, opening));
        let opened = match self.sink.while_wanted(opening).await? {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => {
                return Err(self.process.request_error("session/new", &error).await.into());
            }
            Err(_) => {
                let reason = format!("it did not create a session in {limit:?} (start_timeout)");
                return Err(self.process.error(ModelErrorCode::Timeout, &reason).into());
            }
        };
        let (id, counts) = (opened.session_id, TokenCounts::default());
        let conversation = Conversation { id, settings, messages_after: 0, counts, tools };
        Ok(OpenConversation { conversation, is_new: true })
    }

    /// Returns `true` if this prompt must explain callpark's tools: the agent has asked for them, and
    /// has no instructions yet.
    fn must_instruct(&self, conversation: &mut Conversation) -> bool {
        let is_due = match conversation.tools {
            ToolsState::Offered | ToolsState::Missed => self.token.session.is_known(),
            ToolsState::NotOffered | ToolsState::Known => false,
        };
        if is_due {
            conversation.tools = ToolsState::Known;
        }
        is_due
    }

    /// Reports once that the agent has not asked for callpark's tools.
    async fn report_missed_tools(&self, conversation: &mut Conversation) -> Result<(), TurnAbort> {
        if conversation.tools != ToolsState::Offered || self.token.session.is_known() {
            return Ok(());
        }
        conversation.tools = ToolsState::Missed;
        let agent = &self.config.name;
        let notice = format!(
            "the agent `{agent}` has not asked for callpark's tools: it may not start the MCP \
             servers of a session where it works, such as in a folder that it does not trust"
        );
        tracing::warn!(agent, "{notice}");
        self.sink.emit(AgentEvent::Notice(notice)).await
    }

    /// Emits everything that the agent does until it answers the prompt.
    async fn forward_events(
        &mut self,
        request: &AgentRequest,
        tool_calls: &mut OpenToolSession,
        calls: &mut OwnCalls,
        mut asking: std::pin::Pin<&mut impl Future<Output = Result<PromptResponse, ProtocolError>>>,
    ) -> Result<PromptResponse, TurnAbort> {
        let mut answer_deadline: Option<Instant> = None;
        let answered = loop {
            let Process { incoming, child, .. } = &mut *self.process;
            let next = async {
                tokio::select! {
                    biased;
                    Some(message) = incoming.recv() => Next::Message(message),
                    () = sleep_until_some(calls.due_time()) => Next::CallsDue,
                    Some(call) = tool_calls.calls.recv() => Next::Call(call),
                    answered = &mut asking => Next::Answered(answered),
                }
            };
            let next = self.sink.while_wanted(next);
            let next = tokio::select! {
                biased;
                next = next => next?,
                () = child.ended(), if answer_deadline.is_none() => Next::ProcessEnded,
                () = sleep_until_some(answer_deadline) => return Err(self.process.exit_error().await.into()),
            };
            match next {
                Next::Message(message) => self.handle_message(message, request, calls).await?,
                Next::Call((call, reply)) => {
                    self.sink.emit(AgentEvent::Call(call, reply)).await?;
                }
                Next::CallsDue => calls.open_due(Instant::now(), self.sink).await?,
                Next::Answered(answered) => break answered,
                // The process may have answered before it ended.
                Next::ProcessEnded => answer_deadline = Some(Instant::now() + LAST_ANSWER_TIMEOUT),
            }
        };
        // All messages that were sent before the answer have arrived.
        while let Ok(message) = self.process.incoming.try_recv() {
            self.handle_message(message, request, calls).await?;
        }
        calls.open_all(self.sink).await?;
        match answered {
            Ok(response) => Ok(response),
            Err(error) => Err(self.process.request_error("the prompt", &error).await.into()),
        }
    }

    async fn handle_message(
        &mut self,
        message: AgentMessage,
        request: &AgentRequest,
        calls: &mut OwnCalls,
    ) -> Result<(), TurnAbort> {
        match message {
            AgentMessage::Update(notification) => self.handle_update(*notification, calls).await,
            AgentMessage::Permission(permission) => {
                let PermissionRequest { request: permission, responder } = *permission;
                calls.permission_requested(&permission.tool_call, self.sink).await?;
                let (kind, is_callparks) = calls.requested_tool(&permission.tool_call);
                let (permissions, tool) =
                    (self.config.permissions, tool_name(&self.config.name, kind));
                // Callpark checks its own tools when they are called.
                let is_allowed =
                    is_callparks || is_allowed(permissions, &request.allowed_tools, &tool);
                let outcome = choose_option(is_allowed, &permission.options);
                tracing::debug!(tool, is_allowed, "an agent asked for permission");
                // If the answer can't be sent, the agent has ended.
                let _sent = responder.respond(RequestPermissionResponse::new(outcome));
                Ok(())
            }
        }
    }

    async fn handle_update(
        &mut self,
        notification: SessionNotification,
        calls: &mut OwnCalls,
    ) -> Result<(), TurnAbort> {
        match notification.update {
            SessionUpdate::AgentMessageChunk(chunk) => match text(chunk) {
                Some(text) => self.sink.emit(AgentEvent::Text(text)).await,
                None => Ok(()),
            },
            SessionUpdate::AgentThoughtChunk(chunk) => match text(chunk) {
                Some(text) => self.sink.emit(AgentEvent::Reasoning(text)).await,
                None => Ok(()),
            },
            SessionUpdate::ToolCall(call) => calls.start(call, self.sink).await,
            SessionUpdate::ToolCallUpdate(update) => calls.update(update, self.sink).await,
            other => {
                tracing::debug!(agent = self.config.name, ?other, "an update that is not shown");
                Ok(())
            }
        }
    }

    /// Cancels the prompt, and waits for its end. Fails if the agent doesn't end it in time.
    async fn cancel(
        &mut self,
        id: &ProtocolSessionId,
        asking: impl Future<Output = Result<PromptResponse, ProtocolError>>,
    ) -> Result<(), TurnAbort> {
        let sent = self.process.connection.send_notification(CancelNotification::new(id.clone()));
        let ended = discarding_messages(self.process, timeout(CANCEL_TIMEOUT, asking));
        let ended = tokio::select! {
            biased;
            () = self.sink.stop.cancelled() => return Err(TurnAbort::Stopped),
            ended = ended => ended,
        };
        match ended {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.process.request_error("the prompt", &error).await.into()),
            Err(_) => {
                let reason = match sent {
                    Ok(()) => format!(
                        "it did not end the turn within {CANCEL_TIMEOUT:?} of session/cancel"
                    ),
                    Err(error) => format!("session/cancel cannot be sent to it: {error}"),
                };
                Err(self.process.error(ModelErrorCode::Timeout, &reason).into())
            }
        }
    }
}

/// The next step of a turn.
enum Next {
    Message(AgentMessage),
    Call(AgentToolCall),
    /// A call has waited for its details for long enough.
    CallsDue,
    Answered(Result<PromptResponse, ProtocolError>),
    ProcessEnded,
}

/// Waits for `work`, and discards the messages that the agent sends meanwhile.
async fn discarding_messages<T>(process: &mut Process, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            biased;
            Some(message) = process.incoming.recv() => discard(message),
            done = &mut work => return done,
        }
    }
}

async fn sleep_until_some(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn text(chunk: ContentChunk) -> Option<String> {
    match chunk.content {
        ContentBlock::Text(text) => Some(text.text),
        other => {
            tracing::debug!(?other, "a part of an agent's answer that is not text");
            None
        }
    }
}
