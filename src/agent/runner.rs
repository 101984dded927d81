//! The port to agents that run their own loop: what such an agent is asked, and what it tells while
//! it works.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use tokio::sync::{mpsc, oneshot};

use super::{ModelError, WantedCall};
use crate::model::{Content, Message, Picture, SessionId, StopReason, Tool, ToolResult, Usage};

/// One turn that an agent is asked for.
#[derive(Clone)]
pub struct AgentRequest {
    /// Whose turn it is. An agent keeps one conversation a session.
    pub session_id: SessionId,
    /// How it should behave. Empty: nothing is said.
    pub system: Arc<str>,
    /// The conversation before this turn, oldest first, as much of it as there is room for.
    pub messages: Vec<Arc<Message>>,
    /// How many messages the session had before this turn, those that were left out, too. An agent
    /// whose last turn in this session said that there would be so many after it knows the whole
    /// conversation; any other is told it.
    pub messages_before: u64,
    /// How many it will have once this turn has ended well. A turn adds the prompt, and all that the
    /// agent said; one that tells of background tasks only the latter.
    pub messages_after: u64,
    /// What is asked.
    pub prompt: String,
    /// What comes with it.
    pub attachments: Vec<Content>,
    /// The tools of callpark's that it may call beside its own.
    pub tools: Arc<[Tool]>,
    /// Where it works. None: where callpark does.
    pub working_directory: Option<PathBuf>,
    /// The tools that the session allows, by name; none: all. Tools of the agent's own are named
    /// `<agent>__<kind>`.
    pub allowed_tools: Arc<[String]>,
}

/// What an agent tells.
#[derive(Debug)]
pub enum AgentEvent {
    /// More text of its answer.
    Text(String),
    /// More of its reasoning.
    Reasoning(String),
    /// What it has used since it told last.
    Used(Usage),
    /// It calls a tool of callpark's, and waits for the answer. A sender that is dropped is an answer
    /// that never comes.
    Call(WantedCall, Answering),
    /// It has begun to use a tool of its own.
    OwnCall(OwnCall),
    /// The turn is over. Nothing follows.
    Finished(StopReason),
}

/// Where the answer to a call of an agent goes.
pub type Answering = oneshot::Sender<CallAnswer>;

/// What an agent is told of a call of a tool of callpark's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallAnswer {
    /// The result, in words, which name the pictures, too.
    pub text: String,
    /// The pictures in it.
    pub pictures: Vec<Picture>,
    /// The call failed.
    pub failed: bool,
}

/// A tool of its own that an agent uses.
#[derive(Debug)]
pub struct OwnCall {
    /// Its name: `<agent>__<kind>`.
    pub tool: String,
    /// What it is used for, in the agent's words.
    pub description: String,
    /// What it is given: a JSON object.
    pub arguments: serde_json::Map<String, serde_json::Value>,
    /// What comes of it. It ends without [`OwnCallEvent::Ended`] when the agent never told the end.
    pub events: mpsc::Receiver<OwnCallEvent>,
}

/// What comes of a tool of an agent's own.
#[derive(Debug)]
pub enum OwnCallEvent {
    /// More output; only what is new.
    Output(Bytes),
    /// It ended. The result holds nothing that was told as output before.
    Ended(Box<ToolResult>),
}

/// What an agent tells in one turn. The stream ends with [`AgentEvent::Finished`] or an error;
/// dropping it cancels the turn.
pub type AgentStream = BoxStream<'static, Result<AgentEvent, ModelError>>;

/// An agent that runs its own loop.
#[async_trait]
pub trait Agent: Send + Sync + 'static {
    /// The name that sessions call it by, where they would name a model.
    fn name(&self) -> &str;

    /// Asks it for one turn. Nothing happens before the stream is polled. A session has one at a time.
    fn turn(&self, request: AgentRequest) -> AgentStream;

    /// The session is over: what is held for it ends.
    async fn forget(&self, session_id: SessionId);

    /// Ends what it holds, for all sessions.
    async fn close(&self);
}

impl fmt::Debug for dyn Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Agent").field(&self.name()).finish()
    }
}
