//! The ports to models, which answer one request, and to agents, which run a whole turn by
//! themselves.

#[cfg(feature = "openai")]
mod config;
#[cfg(feature = "openai")]
mod openai;
mod runner;

use std::fmt;
use std::sync::Arc;

use futures::stream::BoxStream;

use crate::model::{Message, Tool, Usage};

#[cfg(feature = "openai")]
pub use config::{ModelConfig, PriceConfig};
#[cfg(feature = "openai")]
pub use openai::OpenAiModel;
pub use runner::{
    Agent, AgentEvent, AgentRequest, AgentStream, Answering, CallAnswer, OwnCall, OwnCallEvent,
};

/// What a model is asked.
#[derive(Debug, Clone, Default)]
pub struct ModelRequest {
    /// How it should behave. Empty: nothing is said.
    pub system: Arc<str>,
    /// The conversation, oldest first. Each call that a message asks for is answered right behind it.
    pub messages: Vec<Arc<Message>>,
    /// The tools that it may call.
    pub tools: Arc<[Tool]>,
}

/// A piece of a model's answer.
#[derive(Debug, Clone, PartialEq)]
pub enum ModelEvent {
    /// More text.
    Text(String),
    /// More of its reasoning.
    Reasoning(String),
    /// What the request has used. It may come when the request fails, too.
    Used(Usage),
    /// The answer is whole. Nothing follows.
    Finished(ModelAnswer),
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelAnswer {
    /// The calls that it asks for.
    pub calls: Vec<WantedCall>,
    /// Why it ends here.
    pub finish: Finish,
}

/// A call of a tool that a model asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedCall {
    /// The model's own name for it.
    pub id: String,
    /// The tool.
    pub tool: String,
    /// The arguments as the model wrote them.
    pub arguments: String,
}

/// Why an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// All is said, or calls are to be made.
    Done,
    /// The limit of tokens was reached.
    Length,
    /// The model, or what stands before it, refused.
    Refused,
}

/// What kind of failure a request met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ModelErrorCode {
    /// The endpoint can't be reached, or the connection was lost.
    Connection,
    /// It has said nothing for too long.
    Timeout,
    /// It failed, or is overloaded.
    Server,
    /// It asks for a pause that is too long, or that hasn't helped.
    RateLimited,
    /// The answer ended before it was whole.
    Cut,
    /// The answer can't be read.
    Garbled,
    /// The answer is larger than any should be.
    TooLarge,
    /// The key is missing or wrong.
    Unauthenticated,
    /// It doesn't take the request.
    Refused,
    /// An agent's process can't be started as it is configured.
    NotStartable,
}

impl ModelErrorCode {
    /// A stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connection => "model_connection",
            Self::Timeout => "model_timeout",
            Self::Server => "model_unavailable",
            Self::RateLimited => "model_rate_limited",
            Self::Cut => "model_answer_cut",
            Self::Garbled => "model_answer_garbled",
            Self::TooLarge => "model_answer_too_large",
            Self::Unauthenticated => "model_unauthenticated",
            Self::Refused => "model_request_refused",
            Self::NotStartable => "agent_not_startable",
        }
    }

    /// The same request may succeed when it is sent again at once or soon. Pauses that an endpoint
    /// asks for have been made before [`Self::RateLimited`] is given.
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Connection | Self::Timeout | Self::Server | Self::Cut | Self::Garbled)
    }
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ModelError {
    /// What kind of failure.
    pub code: ModelErrorCode,
    /// What went wrong, where, and what to do.
    pub message: String,
}

/// The pieces of an answer. The stream ends with [`ModelEvent::Finished`] or an error; dropping it
/// gives the request up.
pub type AnswerStream = BoxStream<'static, Result<ModelEvent, ModelError>>;

/// A model that can be asked.
pub trait Model: Send + Sync + 'static {
    /// The name that sessions call it by.
    fn name(&self) -> &str;

    /// Asks it. Nothing happens before the stream is polled.
    fn answer(&self, request: ModelRequest) -> AnswerStream;
}

impl fmt::Debug for dyn Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Model").field(&self.name()).finish()
    }
}

/// What plays the turns of a session.
#[derive(Debug, Clone)]
pub enum Player {
    /// A model, which is asked round by round, and whose calls are run between the rounds.
    Model(Arc<dyn Model>),
    /// An agent that runs its own loop.
    Agent(Arc<dyn Agent>),
}

impl Player {
    /// The name that sessions call it by.
    pub fn name(&self) -> &str {
        match self {
            Self::Model(model) => model.name(),
            Self::Agent(agent) => agent.name(),
        }
    }
}

/// The models and agents of a server.
#[derive(Debug, Clone, Default)]
pub struct Models {
    all: Arc<[Player]>,
    default: String,
    background: String,
}

impl Models {
    /// These models and agents. The default one, and the one of turns that are started in the
    /// background, are the first one where nobody says.
    ///
    /// # Errors
    ///
    /// Two have one name, or a name that is given is none of theirs.
    pub fn new(
        all: Vec<Player>,
        default: Option<String>,
        background: Option<String>,
    ) -> Result<Self, String> {
        for (index, player) in all.iter().enumerate() {
            if all[..index].iter().any(|earlier| earlier.name() == player.name()) {
                return Err(format!("two models or agents have the name `{}`", player.name()));
            }
        }
        let first = all.first().map(|player| player.name().to_owned()).unwrap_or_default();
        let chosen = |name: Option<String>, other: &str| match name {
            Some(name) if all.iter().any(|player| player.name() == name) => Ok(name),
            Some(name) => {
                Err(format!("there is no model `{name}` among [[models]] and [[agents]]"))
            }
            None => Ok(other.to_owned()),
        };
        let default = chosen(default, &first)?;
        let background = chosen(background, &default)?;
        Ok(Self { all: all.into(), default, background })
    }

    /// The model or agent of this name; of no name, the default one.
    pub fn find(&self, name: &str, in_background: bool) -> Option<Player> {
        let name = match (name, in_background) {
            ("", true) => &self.background,
            ("", false) => &self.default,
            (name, _) => name,
        };
        self.all.iter().find(|player| player.name() == name).cloned()
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(Player::name)
    }

    /// The agents among them.
    pub fn agents(&self) -> impl Iterator<Item = &Arc<dyn Agent>> {
        self.all.iter().filter_map(|player| match player {
            Player::Agent(agent) => Some(agent),
            Player::Model(_) => None,
        })
    }
}
