//! Tools that the configuration describes.

use super::{ConfigError, ToolTable};
use crate::tool::{CommandTool, CommandToolConfig};

/// The tool that a table describes.
///
/// # Errors
/// A key is missing, unknown or wrong. The error names tool, file and line.
pub(in crate::app) fn command_tool(table: &ToolTable) -> Result<CommandTool, ConfigError> {
    let config: CommandToolConfig = table.read()?;
    CommandTool::new(config).map_err(|error| table.error(error.to_string()))
}
