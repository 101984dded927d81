//! The description of a tool.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::enum_table;

enum_table! {
    /// The kind of a tool, by what does the work.
    pub enum ToolKind {
        /// A process of its own.
        Command => (1, "command"),
        /// An MCP server.
        Mcp => (2, "mcp"),
        /// An agent.
        Agent => (3, "agent"),
        /// Code inside the server.
        BuiltIn => (5, "built_in"),
    }
}

/// The origin of a tool.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolSource {
    /// Part of callpark.
    BuiltIn,
    /// Defined in the server's configuration.
    Config,
    /// Offered by the MCP server of this name.
    McpServer(String),
}

/// A tool: its purpose, its arguments, and the limits of its calls.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// The name that calls use: 1 to 64 of `a-z A-Z 0-9 _ - .`.
    pub name: String,
    /// The description that models read.
    pub description: String,
    /// The JSON Schema of the arguments.
    pub input_schema: serde_json::Value,
    /// The JSON Schema of the structured results, or `None` if the tool declares none.
    pub output_schema: Option<serde_json::Value>,
    /// The kind.
    pub kind: ToolKind,
    /// `true` if the tool changes nothing.
    pub read_only: bool,
    /// `true` if the tool may delete or overwrite data, as far as is known.
    pub destructive: bool,
    /// `true` if a second call with the same arguments has no further effect.
    pub idempotent: bool,
    /// `true` if several calls may run in one session at the same time.
    pub concurrent_safe: bool,
    /// The time after which a call is parked, or `None` if it is never parked by time.
    pub call_budget: Option<Duration>,
    /// The longest time that a call may run, or `None` for the server's default.
    pub execution_timeout: Option<Duration>,
    /// The origin.
    pub source: ToolSource,
    /// `true` if arguments are not checked against the input schema, because it cannot be used.
    pub arguments_unchecked: bool,
    /// The names of arguments whose values are not kept: the tool gets them, and events, records and
    /// histories have a replacement.
    pub secret_arguments: Vec<String>,
    /// The parts of its definition that cannot be used, one sentence each.
    pub warnings: Vec<String>,
}

impl Tool {
    /// Creates a tool without limits of its own, whose calls may run at the same time, and which
    /// claims to be neither read-only, destructive nor idempotent.
    pub fn new(
        name: impl Into<String>,
        description: impl Into<String>,
        input_schema: serde_json::Value,
        kind: ToolKind,
        source: ToolSource,
    ) -> Self {
        Self {
            name: name.into(),
            description: description.into(),
            input_schema,
            output_schema: None,
            kind,
            read_only: false,
            destructive: false,
            idempotent: false,
            concurrent_safe: true,
            call_budget: None,
            execution_timeout: None,
            source,
            arguments_unchecked: false,
            secret_arguments: Vec::new(),
            warnings: Vec::new(),
        }
    }
}
