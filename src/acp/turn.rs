//! One turn of an agent's process.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agent_client_protocol::Error as ProtocolError;
use agent_client_protocol::v1::schema::{
    CancelNotification, ContentBlock, ContentChunk, HttpHeader, McpServer, McpServerHttp,
    NewSessionRequest, PromptRequest, PromptResponse, RequestPermissionOutcome,
    RequestPermissionResponse, SessionId as ProtocolSessionId, SessionNotification, SessionUpdate,
    StopReason as ProtocolStopReason,
};
use tokio::time::{Instant, sleep_until, timeout};

use super::calls::Calls;
use super::config::AgentConfig;
use super::permission::{answer, is_allowed, tool_name};
use super::process::{Asked, Incoming, Process};
use super::prompt::blocks;
use super::telling::{Halt, Telling};
use super::tools::{OpenDesk, Pass, SERVER_NAME};
use super::usage::{Counts, since};
use crate::agent::{AgentEvent, AgentRequest, ModelErrorCode};
use crate::model::{StopReason, Tool};
use crate::telemetry::Metrics;

/// How long an agent may take to end a turn that is cancelled.
const CANCEL_GRACE: Duration = Duration::from_secs(5);

/// How long the answer of a process that has ended may take to be read.
const LAST_ANSWER: Duration = Duration::from_secs(1);

/// A conversation that an agent's process holds.
pub(super) struct Conversation {
    id: ProtocolSessionId,
    known: Known,
    /// How many messages the session had after the last turn, which ended well.
    messages_after: u64,
    /// What all of its turns have used, as the agent counts.
    used: Counts,
}

/// What can't be changed without a new conversation.
#[derive(PartialEq)]
struct Known {
    system: Arc<str>,
    tools: Arc<[Tool]>,
    working_directory: PathBuf,
}

/// What a turn is played with.
pub(super) struct Stage<'a> {
    pub(super) config: &'a AgentConfig,
    pub(super) process: &'a mut Process,
    pub(super) pass: &'a Pass,
    pub(super) telling: &'a Telling,
    pub(super) metrics: &'a Metrics,
}

/// A conversation that is about to go on.
struct Opened {
    conversation: Conversation,
    is_new: bool,
}

impl Stage<'_> {
    /// Plays a turn, in the conversation of the last one if the agent knows all that was said. Gives
    /// the conversation back when the next turn can go on with it.
    pub(super) async fn play(
        mut self,
        request: &AgentRequest,
        last: Option<Conversation>,
    ) -> Result<Option<Conversation>, Halt> {
        let mut desk = self.pass.desk.open(request.tools.clone());
        let opened = self.open(request, last).await?;
        let mut conversation = opened.conversation;
        let takes_images = self.process.capabilities.prompt_capabilities.image;
        let prompt = blocks(request, opened.is_new, takes_images);
        let prompt = PromptRequest::new(conversation.id.clone(), prompt);
        let mut calls = Calls::new(&self.config.name, request.tools.clone(), self.metrics.clone());
        let asking = self.process.connection.send_request(prompt).block_task();
        let mut asking = std::pin::pin!(asking);
        let listened = self.listen(request, &mut desk, &mut calls, asking.as_mut()).await;
        let response = match listened {
            Ok(response) => response,
            Err(Halt::Dropped) => {
                self.cancel(&conversation.id, asking).await?;
                return Err(Halt::Dropped);
            }
            Err(halt) => return Err(halt),
        };
        if let Some(counts) = &response.usage {
            let counts = Counts::from(counts);
            let used = since(conversation.used, counts);
            conversation.used = counts;
            self.telling.tell(AgentEvent::Used(used)).await?;
        }
        let (reason, goes_on) = match response.stop_reason {
            ProtocolStopReason::EndTurn => (StopReason::EndTurn, true),
            ProtocolStopReason::MaxTokens => (StopReason::MaxTokens, true),
            ProtocolStopReason::MaxTurnRequests => (StopReason::MaxRounds, true),
            // The agent forgets what it has refused.
            ProtocolStopReason::Refusal => (StopReason::Refusal, false),
            ProtocolStopReason::Cancelled => (StopReason::Cancelled, false),
            other => {
                let reason = format!("it ended the turn for a reason that isn't known: {other:?}");
                return Err(self.process.blame(ModelErrorCode::Garbled, &reason).into());
            }
        };
        self.telling.tell(AgentEvent::Finished(reason)).await?;
        conversation.messages_after = request.messages_after;
        Ok(goes_on.then_some(conversation))
    }

    /// The conversation of the last turn, or a new one.
    async fn open(
        &mut self,
        request: &AgentRequest,
        last: Option<Conversation>,
    ) -> Result<Opened, Halt> {
        let chosen = request.working_directory.as_ref().or(self.config.working_directory.as_ref());
        let working_directory = chosen.cloned().unwrap_or_else(|| PathBuf::from("."));
        let working_directory = std::path::absolute(&working_directory).map_err(|error| {
            let path = working_directory.display();
            let reason = format!("its working directory {path} has no absolute path: {error}");
            self.process.blame(ModelErrorCode::Refused, &reason)
        })?;
        let (system, tools) = (request.system.clone(), request.tools.clone());
        let known = Known { system, tools, working_directory };
        if let Some(last) = last
            && last.known == known
            && request.messages_before == last.messages_after
        {
            return Ok(Opened { conversation: last, is_new: false });
        }
        let asked = NewSessionRequest::new(known.working_directory.clone());
        let asked = asked.mcp_servers(self.servers(&known.tools));
        let opening = self.process.connection.send_request(asked).block_task();
        let limit = self.config.start_timeout();
        // What it tells meanwhile, such as the commands that it knows, is about no turn.
        let opening = beside(self.process, timeout(limit, opening));
        let opened = match self.telling.heard(opening).await? {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => return Err(self.process.failed("session/new", &error).await.into()),
            Err(_) => {
                let reason = format!("it made no session in {limit:?} (start_timeout)");
                return Err(self.process.blame(ModelErrorCode::Timeout, &reason).into());
            }
        };
        let (id, used) = (opened.session_id, Counts::default());
        let conversation = Conversation { id, known, messages_after: 0, used };
        Ok(Opened { conversation, is_new: true })
    }

    /// Where the agent finds callpark's tools.
    fn servers(&self, tools: &[Tool]) -> Vec<McpServer> {
        if tools.is_empty() {
            return Vec::new();
        }
        if !self.process.capabilities.mcp_capabilities.http {
            let agent = &self.config.name;
            tracing::warn!(agent, "the agent gets no tools of callpark's: it takes none by HTTP");
            return Vec::new();
        }
        let token = HttpHeader::new("Authorization", format!("Bearer {}", self.pass.token));
        let server = McpServerHttp::new(SERVER_NAME, self.pass.url.clone());
        vec![McpServer::Http(server.headers(vec![token]))]
    }

    /// Tells what the agent does, until it answers the prompt.
    async fn listen(
        &mut self,
        request: &AgentRequest,
        desk: &mut OpenDesk,
        calls: &mut Calls,
        mut asking: std::pin::Pin<&mut impl Future<Output = Result<PromptResponse, ProtocolError>>>,
    ) -> Result<PromptResponse, Halt> {
        let mut dying: Option<Instant> = None;
        let answered = loop {
            let Process { incoming, pipes, .. } = &mut *self.process;
            let next = async {
                tokio::select! {
                    biased;
                    Some(incoming) = incoming.recv() => Next::Said(incoming),
                    Some(call) = desk.asked.recv() => Next::Call(call),
                    answered = &mut asking => Next::Answered(answered),
                }
            };
            let next = self.telling.heard(next);
            let next = tokio::select! {
                biased;
                next = next => next?,
                () = pipes.ended(), if dying.is_none() => Next::Ended,
                () = until(dying) => return Err(self.process.parted().await.into()),
            };
            match next {
                Next::Said(incoming) => self.said(incoming, request, calls).await?,
                Next::Call((call, answer)) => {
                    self.telling.tell(AgentEvent::Call(call, answer)).await?;
                }
                Next::Answered(answered) => break answered,
                // It may have answered before.
                Next::Ended => dying = Some(Instant::now() + LAST_ANSWER),
            }
        };
        // All that was said before the answer is here.
        while let Ok(incoming) = self.process.incoming.try_recv() {
            self.said(incoming, request, calls).await?;
        }
        match answered {
            Ok(response) => Ok(response),
            Err(error) => Err(self.process.failed("the prompt", &error).await.into()),
        }
    }

    async fn said(
        &mut self,
        incoming: Incoming,
        request: &AgentRequest,
        calls: &mut Calls,
    ) -> Result<(), Halt> {
        match incoming {
            Incoming::Update(notification) => self.update(*notification, calls).await,
            Incoming::Permission(asked) => {
                let Asked { request: asked, responder } = *asked;
                let (kind, is_callparks) = calls.asked_for(&asked.tool_call);
                let (permissions, tool) =
                    (self.config.permissions, tool_name(&self.config.name, kind));
                // Callpark decides of its own tools when they are called.
                let is_allowed =
                    is_callparks || is_allowed(permissions, &request.allowed_tools, &tool);
                let outcome = answer(is_allowed, &asked.options);
                tracing::debug!(tool, is_allowed, "an agent asked for permission");
                // One that can't be answered any more has ended.
                let _sent = responder.respond(RequestPermissionResponse::new(outcome));
                Ok(())
            }
        }
    }

    async fn update(
        &mut self,
        notification: SessionNotification,
        calls: &mut Calls,
    ) -> Result<(), Halt> {
        match notification.update {
            SessionUpdate::AgentMessageChunk(chunk) => match text(chunk) {
                Some(text) => self.telling.tell(AgentEvent::Text(text)).await,
                None => Ok(()),
            },
            SessionUpdate::AgentThoughtChunk(chunk) => match text(chunk) {
                Some(text) => self.telling.tell(AgentEvent::Reasoning(text)).await,
                None => Ok(()),
            },
            SessionUpdate::ToolCall(call) => calls.begun(call, self.telling).await,
            SessionUpdate::ToolCallUpdate(update) => calls.changed(update, self.telling).await,
            other => {
                tracing::debug!(agent = self.config.name, ?other, "an agent tells more");
                Ok(())
            }
        }
    }

    /// Cancels the prompt, and waits for its end. An agent that doesn't end it in time is an error.
    async fn cancel(
        &mut self,
        id: &ProtocolSessionId,
        asking: impl Future<Output = Result<PromptResponse, ProtocolError>>,
    ) -> Result<(), Halt> {
        let telling =
            self.process.connection.send_notification(CancelNotification::new(id.clone()));
        let ended = beside(self.process, timeout(CANCEL_GRACE, asking));
        let ended = tokio::select! {
            biased;
            () = self.telling.stop.cancelled() => return Err(Halt::Stopped),
            ended = ended => ended,
        };
        match ended {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.process.failed("the prompt", &error).await.into()),
            Err(_) => {
                let reason = match telling {
                    Ok(()) => format!("it went on {CANCEL_GRACE:?} after session/cancel"),
                    Err(error) => format!("it can't be told to cancel: {error}"),
                };
                Err(self.process.blame(ModelErrorCode::Timeout, &reason).into())
            }
        }
    }
}

/// What happens next in a turn.
enum Next {
    Said(Incoming),
    Call(super::tools::AskedCall),
    Answered(Result<PromptResponse, ProtocolError>),
    Ended,
}

/// Waits for what is to come while what the agent says is let go.
async fn beside<T>(process: &mut Process, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            biased;
            Some(incoming) = process.incoming.recv() => let_go(incoming),
            done = &mut work => return done,
        }
    }
}

/// Something that is said outside of a turn.
pub(super) fn let_go(incoming: Incoming) {
    match incoming {
        Incoming::Update(update) => tracing::trace!(?update, "an agent speaks out of turn"),
        Incoming::Permission(asked) => {
            let outcome = RequestPermissionOutcome::Cancelled;
            // One that can't be answered any more has ended.
            let _sent = asked.responder.respond(RequestPermissionResponse::new(outcome));
        }
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

fn text(chunk: ContentChunk) -> Option<String> {
    match chunk.content {
        ContentBlock::Text(text) => Some(text.text),
        other => {
            tracing::debug!(?other, "an agent's answer holds what is no text");
            None
        }
    }
}
