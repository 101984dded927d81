//! The ports to models, which answer one request at a time, and to external agents, which run whole
//! turns by themselves.

mod config;
mod external_agent;
mod model;
mod openai;
pub mod prompts;
mod registry;

pub use config::{ModelConfig, PriceConfig};
pub use external_agent::{
    Agent, AgentEvent, AgentRequest, AgentStream, CallAnswer, CallReply, OwnCall, OwnCallEvent,
};
pub use model::{
    AnswerStream, FinishReason, Model, ModelAnswer, ModelError, ModelErrorCode, ModelEvent,
    ModelRequest, RequestedCall,
};
pub use openai::OpenAiModel;
pub use registry::{AgentBackend, ModelRegistry};
