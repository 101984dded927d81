//! The ports to models, which answer one request at a time, and to external agents, which run whole
//! turns by themselves.

#[cfg(feature = "openai")]
mod config;
mod context;
mod external_agent;
#[cfg(feature = "openai")]
mod headers;
mod model;
#[cfg(feature = "openai")]
mod openai;
pub mod prompts;
mod registry;

#[cfg(feature = "openai")]
pub use config::{CallIds, MaxTokensField, ModelConfig, PriceConfig};
pub use context::ContextMeter;
pub use external_agent::{
    Agent, AgentEvent, AgentRequest, AgentStream, CallAnswer, CallReply, OwnCall, OwnCallEvent,
};
#[cfg(feature = "openai")]
pub use headers::HeaderSource;
pub use model::{
    AnswerStream, FinishReason, Model, ModelAnswer, ModelError, ModelErrorCode, ModelEvent,
    ModelRequest, RequestedCall,
};
#[cfg(feature = "openai")]
pub use openai::OpenAiModel;
#[cfg(all(fuzzing, feature = "openai"))]
pub use openai::fuzzing;
pub use registry::{AgentBackend, ModelRegistry};
