//! What a tool is, for those who choose one.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What does the work of a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolKind {
    /// A process of its own.
    Command,
    /// A tool of an MCP server.
    Mcp,
    /// An agent.
    Agent,
    /// A worker that connected to this server.
    Worker,
    /// Code inside the server.
    BuiltIn,
}

/// Where a tool comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolSource {
    /// Part of callpark.
    BuiltIn,
    /// Described in the server's configuration.
    Config,
    /// Offered by the MCP server of this name.
    McpServer(String),
}

/// What a tool is, what it takes, and how its calls are treated.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// The name that calls use: 1 to 64 of `a-z A-Z 0-9 _ - .`.
    pub name: String,
    /// What it does, for a model to read.
    pub description: String,
    /// The JSON Schema that its arguments must satisfy.
    pub input_schema: serde_json::Value,
    /// The JSON Schema of its structured results, if it declares one.
    pub output_schema: Option<serde_json::Value>,
    /// What does the work.
    pub kind: ToolKind,
    /// It changes nothing.
    pub read_only: bool,
    /// What it changes may be lost by that, as far as is known.
    pub destructive: bool,
    /// Running it twice with the same arguments is as good as once.
    pub idempotent: bool,
    /// Several calls in one session may run at the same time.
    pub concurrent_safe: bool,
    /// How long a call may hold its caller before it is parked; none: it never parks by itself.
    pub call_budget: Option<Duration>,
    /// The hard limit of one run; none: the server's default.
    pub execution_timeout: Option<Duration>,
    /// Where it comes from.
    pub source: ToolSource,
}
