//! callpark runs the tool calls and sessions of AI agents as durable, observable work.
//!
//! If a call takes longer than its budget, it is parked, not cancelled: its caller gets a background
//! id, and the call continues.
//!
//! A program embeds callpark as a [`Server`]: a [`Config`], and a [store](store::Store),
//! [tools](tool::FunctionTool) and [agents](agent::Agent) of its own.
//!
//! # Features
//!
//! All but `testing` are on by default; none is needed for a server with tools of the program's own.
//!
//! - `acp`: agents that speak the Agent Client Protocol.
//! - `cli`: the command line, which is the program `callpark`.
//! - `jwt`: callers with JSON Web Tokens of an identity provider.
//! - `mcp`: tools of MCP servers.
//! - `openai`: models behind an OpenAI-compatible chat endpoint.
//! - `postgres`: a store in a database of PostgreSQL, for a program that embeds the server.
//! - `testing`: the cases that every store must pass.
//!
//! ARCHITECTURE.md in the repository explains how the parts fit together.

// What is hidden here is public in `internals` only, and needs no docs.
#[cfg(feature = "acp")]
#[doc(hidden)]
mod acp;
pub mod agent;
mod app;
#[doc(hidden)]
mod audit;
#[doc(hidden)]
mod auth;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
mod engine;
#[doc(hidden)]
mod exec;
#[doc(hidden)]
mod http_server;
#[doc(hidden)]
mod machine;
#[cfg(feature = "mcp")]
#[doc(hidden)]
mod mcp;
pub mod model;
mod quota;
#[doc(hidden)]
mod redact;
#[doc(hidden)]
mod rpc;
pub mod store;
mod sync;
#[doc(hidden)]
mod telemetry;
pub mod tool;

pub use app::config::Config;
pub use app::{Error, Server, ServerBuilder};

pub mod config {
    //! The types of the fields of [`Config`](crate::Config), and its sources.

    #[cfg(feature = "acp")]
    #[doc(inline)]
    pub use crate::acp::{AgentConfig, Permissions};
    #[cfg(feature = "openai")]
    pub use crate::agent::{CallIds, HeaderSource, MaxTokensField, ModelConfig, PriceConfig};
    pub use crate::app::config::{
        AdvertisedAddress, AuthMode, ByteSize, ConfigError, Environment, InvalidValue,
        ListenAddress, LoadOptions, Loaded, LogFilter, Origin, Row, Setting, SettingError,
        SocketMode, StoreAddress, TcpAddress, VariableName, settings,
    };
    pub use crate::auth::ClientCertificateConfig;
    #[cfg(feature = "jwt")]
    pub use crate::auth::jwt::{JwtAlgorithm, JwtIssuerConfig};
    #[cfg(feature = "mcp")]
    #[doc(inline)]
    pub use crate::mcp::ServerConfig as McpServerConfig;
    pub use crate::quota::TenantLimits;
    #[doc(inline)]
    pub use crate::telemetry::LogFormat;
    pub use crate::tool::{CallBudget, CommandToolConfig};
}

/// Parts of the server for the tests, benchmarks and fuzz targets of callpark itself. They change
/// without notice.
#[doc(hidden)]
pub mod internals {
    #[cfg(feature = "acp")]
    pub mod acp {
        pub use crate::acp::*;
    }
    pub mod audit {
        pub use crate::audit::*;
    }
    pub mod auth {
        pub use crate::auth::*;
    }
    pub mod engine {
        pub use crate::engine::*;
    }
    pub mod exec {
        pub use crate::exec::*;
    }
    pub mod http_server {
        pub use crate::http_server::*;
    }
    pub mod machine {
        pub use crate::machine::*;
    }
    #[cfg(feature = "mcp")]
    pub mod mcp {
        pub use crate::mcp::*;
    }
    pub mod quota {
        pub use crate::quota::*;
    }
    pub mod redact {
        pub use crate::redact::*;
    }
    pub mod rpc {
        pub use crate::rpc::*;
    }
    pub mod telemetry {
        pub use crate::telemetry::*;
    }
}
