//! The port to models.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;

use super::ContextMeter;
use crate::model::{Message, ProviderData, Tool, Usage};

/// A request to a model.
#[derive(Debug, Clone, Default)]
pub struct ModelRequest {
    /// The system message, or an empty text for none.
    pub system: Arc<str>,
    /// The conversation, oldest first. Each call that a message asks for is answered right behind it.
    pub messages: Vec<Arc<Message>>,
    /// The tools that the model may call.
    pub tools: Arc<[Tool]>,
}

/// A piece of a model's answer.
#[derive(Debug, Clone, PartialEq)]
pub enum ModelEvent {
    /// More text.
    Text(String),
    /// More of the model's reasoning.
    Reasoning(String),
    /// The endpoint asked for a pause, and the request is sent again after it. Only before the first
    /// piece of the answer.
    Pausing {
        /// The pause.
        delay: Duration,
        /// The error with which the endpoint asked for it.
        error: ModelError,
    },
    /// The usage of the request. It may be reported for a request that fails, too.
    Used(Usage),
    /// The end of a complete answer. Nothing follows.
    Finished(ModelAnswer),
}

/// The end of a complete answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelAnswer {
    /// The calls that the model asks for.
    pub calls: Vec<RequestedCall>,
    /// The reason for which the answer ends.
    pub finish: FinishReason,
    /// Data that goes back with the message to the model that it came from.
    pub provider_data: Option<Box<ProviderData>>,
    /// The size of such data that was left out because it exceeds its limit, in bytes.
    pub dropped_bytes: usize,
}

/// A call of a tool that a model or an agent asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestedCall {
    /// The model's own id of the call.
    pub id: String,
    /// The name of the tool.
    pub tool: String,
    /// The arguments as the model wrote them.
    pub arguments: String,
    /// Data that goes back with the call to the model that it came from.
    pub provider_data: Option<Box<ProviderData>>,
}

/// The reason for which an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// The answer is complete, or calls are to be made.
    Done,
    /// The token limit was reached.
    Length,
    /// The model, or a filter in front of it, refused.
    Refused,
}

/// The kind of a failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ModelErrorCode {
    /// The endpoint cannot be reached, or the connection was lost.
    Connection,
    /// The endpoint sent nothing for too long.
    Timeout,
    /// The endpoint failed or is overloaded.
    Server,
    /// The endpoint asks for a pause that is too long, or that hasn't helped.
    RateLimited,
    /// The quota of the account is used up, which no pause changes.
    QuotaExhausted,
    /// The answer ended before it was complete.
    Truncated,
    /// The answer has neither text nor calls.
    Empty,
    /// The endpoint sent something else in the place of an answer, such as a web page.
    NotAnAnswer,
    /// The answer cannot be parsed.
    Malformed,
    /// The answer exceeds the size limit.
    TooLarge,
    /// The key is missing or wrong.
    Unauthenticated,
    /// The endpoint rejected the request.
    Refused,
    /// The request is longer than the context of the model.
    ContextExceeded,
    /// The request has more bytes than something in front of the model accepts, which says nothing
    /// about the context of the model.
    BodyTooLarge,
    /// An agent's process cannot be started as it is configured.
    NotStartable,
}

impl ModelErrorCode {
    /// Returns the stable name of the code.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connection => "model_connection",
            Self::Timeout => "model_timeout",
            Self::Server => "model_unavailable",
            Self::RateLimited => "model_rate_limited",
            Self::QuotaExhausted => "model_quota_exhausted",
            Self::Truncated => "model_answer_cut",
            Self::Empty => "model_answer_empty",
            Self::NotAnAnswer => "model_not_an_answer",
            Self::Malformed => "model_answer_garbled",
            Self::TooLarge => "model_answer_too_large",
            Self::Unauthenticated => "model_unauthenticated",
            Self::Refused => "model_request_refused",
            Self::ContextExceeded | Self::BodyTooLarge => "model_context_exceeded",
            Self::NotStartable => "agent_not_startable",
        }
    }

    /// Returns `true` if the same request may succeed when it is sent again soon. The pauses that an
    /// endpoint asks for have been made before [`Self::RateLimited`] is returned.
    pub fn is_transient(self) -> bool {
        matches!(
            self,
            Self::Connection
                | Self::Timeout
                | Self::Server
                | Self::Truncated
                | Self::Empty
                | Self::Malformed
        )
    }
}

/// The error of a failed request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ModelError {
    /// The kind of failure.
    pub code: ModelErrorCode,
    /// A description of what went wrong, where, and what to do.
    pub message: String,
}

/// The pieces of an answer. The stream ends with [`ModelEvent::Finished`] or an error; dropping it
/// abandons the request.
pub type AnswerStream = BoxStream<'static, Result<ModelEvent, ModelError>>;

/// A model that answers one request at a time.
pub trait Model: Send + Sync + 'static {
    /// Returns the name by which sessions choose the model.
    fn name(&self) -> &str;

    /// Returns the measure of the requests that the context of the model holds, or `None` if the model
    /// has none. Without it, a history is compacted only after the model has refused it.
    fn context(&self) -> Option<&ContextMeter> {
        None
    }

    /// Sends a request. Nothing happens before the stream is polled.
    fn answer(&self, request: ModelRequest) -> AnswerStream;
}

impl fmt::Debug for dyn Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Model").field(&self.name()).finish()
    }
}
