//! The port to external agents, which run their own loop.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use tokio::sync::{mpsc, oneshot};

use super::{ModelError, RequestedCall};
use crate::model::{Content, Image, Message, SessionId, StopReason, Tool, ToolResult, Usage};

/// A request for one turn.
#[derive(Clone)]
pub struct AgentRequest {
    /// The session of the turn. An agent holds one conversation for each session.
    pub session_id: SessionId,
    /// The system message, or an empty text for none.
    pub system: Arc<str>,
    /// The instructions for the tools of callpark, for an agent that has asked for them.
    pub tool_instructions: String,
    /// The conversation before this turn, oldest first, within the size limit of a history.
    pub messages: Vec<Arc<Message>>,
    /// The number of messages before this turn, including those that were left out. If it equals
    /// `messages_after` of the agent's last turn in this session, the agent knows the whole
    /// conversation; otherwise the conversation must be sent to it.
    pub messages_before: u64,
    /// The number of messages after this turn, if the turn ends well. A turn adds the prompt and the
    /// agent's answer; a turn that delivers follow-ups adds only the answer.
    pub messages_after: u64,
    /// The prompt.
    pub prompt: String,
    /// The attachments of the prompt.
    pub attachments: Vec<Content>,
    /// The tools of callpark that the agent may call beside its own.
    pub tools: Arc<[Tool]>,
    /// The agent's working directory, or `None` for that of callpark.
    pub working_directory: Option<PathBuf>,
    /// The names of the tools that the session allows; empty if it allows all. The agent's own tools
    /// are named `<agent>__<kind>`.
    pub allowed_tools: Arc<[String]>,
}

/// A piece of an agent's turn.
#[derive(Debug)]
pub enum AgentEvent {
    /// More text of the answer.
    Text(String),
    /// More of the agent's reasoning.
    Reasoning(String),
    /// The usage since the last such event.
    Used(Usage),
    /// A call of one of callpark's tools. The agent waits for the answer; if the sender is dropped,
    /// the answer never arrives.
    Call(RequestedCall, CallReply),
    /// The beginning of a call of one of the agent's own tools.
    OwnCall(OwnCall),
    /// A remark about the agent, for people who read the log.
    Notice(String),
    /// The end of the turn. Nothing follows.
    Finished(StopReason),
}

/// The channel on which the answer to a call is returned.
pub type CallReply = oneshot::Sender<CallAnswer>;

/// The answer to an agent's call of one of callpark's tools.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallAnswer {
    /// The result as text, which also names the images.
    pub text: String,
    /// The images of the result.
    pub images: Vec<Image>,
    /// `true` if the call failed.
    pub failed: bool,
}

/// A call that an agent makes of one of its own tools.
#[derive(Debug)]
pub struct OwnCall {
    /// The name of the tool: `<agent>__<kind>`.
    pub tool: String,
    /// The agent's description of the call.
    pub description: String,
    /// The arguments, a JSON object.
    pub arguments: serde_json::Map<String, serde_json::Value>,
    /// The progress of the call. The channel closes without [`OwnCallEvent::Ended`] if the agent
    /// never reported the end.
    pub events: mpsc::Receiver<OwnCallEvent>,
}

/// A piece of a call of an agent's own tool.
#[derive(Debug)]
pub enum OwnCallEvent {
    /// Details of the call that became known after its beginning: its title, its input.
    Details(String),
    /// New output.
    Output(Bytes),
    /// The end of the call. The result doesn't repeat the output.
    Ended(Box<ToolResult>),
}

/// The events of one turn. The stream ends with [`AgentEvent::Finished`] or an error; dropping it
/// cancels the turn.
pub type AgentStream = BoxStream<'static, Result<AgentEvent, ModelError>>;

/// An external agent.
#[async_trait]
pub trait Agent: Send + Sync + 'static {
    /// Returns the name by which sessions choose the agent, in the place of a model's name.
    fn name(&self) -> &str;

    /// Starts a turn. Nothing happens before the stream is polled. A session has at most one turn at
    /// a time.
    fn turn(&self, request: AgentRequest) -> AgentStream;

    /// Releases everything that is held for a session, which is closed.
    async fn forget(&self, session_id: SessionId);

    /// Releases everything that is held for all sessions.
    async fn close(&self);
}

impl fmt::Debug for dyn Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Agent").field(&self.name()).finish()
    }
}
