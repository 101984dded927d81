//! Tools, models and agents that the configuration describes.

use super::{ConfigError, NamedTable};
use crate::acp::AgentConfig;
use crate::agent::ModelConfig;
use crate::mcp::ServerConfig;
use crate::tool::{CommandTool, CommandToolConfig};

/// The tool that a table describes.
///
/// # Errors
/// A key is missing, unknown or wrong. The error names tool, file and line.
pub(in crate::app) fn command_tool(table: &NamedTable) -> Result<CommandTool, ConfigError> {
    let config: CommandToolConfig = table.read()?;
    CommandTool::new(config).map_err(|error| table.error(error.to_string()))
}

/// The MCP server that a table describes.
///
/// # Errors
/// A key is missing, unknown or wrong. The error names server, file and line.
pub(in crate::app) fn mcp_server(table: &NamedTable) -> Result<ServerConfig, ConfigError> {
    let config: ServerConfig = table.read()?;
    config.check().map_err(|reason| table.error(reason))?;
    Ok(config)
}

/// The model that a table describes.
///
/// # Errors
/// A key is missing, unknown or wrong. The error names model, file and line.
pub(in crate::app) fn model(table: &NamedTable) -> Result<ModelConfig, ConfigError> {
    let config: ModelConfig = table.read()?;
    config.check().map_err(|reason| table.error(reason))?;
    Ok(config)
}

/// The agent that a table describes.
///
/// # Errors
/// A key is missing, unknown or wrong. The error names agent, file and line.
pub(in crate::app) fn agent(table: &NamedTable) -> Result<AgentConfig, ConfigError> {
    let config: AgentConfig = table.read()?;
    config.check().map_err(|reason| table.error(reason))?;
    Ok(config)
}
