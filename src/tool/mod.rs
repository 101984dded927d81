//! The port to tools: their descriptions, their arguments, and the work that a call becomes.
//!
//! A program that embeds callpark adds tools as [functions](FunctionTool), or implements
//! [`CallableTool`], whose work may be a process, code inside the server, or work elsewhere.

mod built_in;
mod coerce;
mod command;
mod function;
mod large_input;
mod provided;
mod provider;
mod registry;
mod schema;
mod secret;
mod template;
mod toolbox;
mod values;
mod work;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::model::{Tool, WorkHandle};

pub use command::{CallBudget, CommandToolConfig};
pub(crate) use large_input::{on_input, rough_size};
pub(crate) use secret::{calls_without_secrets, hidden_argument, without_secrets};

pub use function::{FunctionResult, FunctionTool, ToolError, ToolOutput};
pub use work::{InProcess, ToolContext, Work, WorkEvent};

#[doc(hidden)]
pub use built_in::{BuiltInOptions, bash, python};
#[doc(hidden)]
pub use coerce::{CoercedArguments, coerce_arguments};
#[doc(hidden)]
pub use command::{CommandTool, CommandToolError};
#[doc(hidden)]
pub use provider::{Catalog, PROVIDER_SEPARATOR, ProviderUnavailable, ResolvedTool, ToolProvider};
#[doc(hidden)]
pub use registry::{
    Registry, RegistryError, TOOL_NAME_BYTES_MAX, check_arguments, check_schema, is_tool_name,
};
#[doc(hidden)]
pub use toolbox::Toolbox;
#[doc(hidden)]
pub use work::WorkReport;

/// The arguments of a call: a JSON object.
pub type Arguments = Map<String, Value>;

/// One error in the arguments of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgumentError {
    /// The path from the root of the arguments, such as `env.PATH` or `items[3]`. The root is empty.
    pub path: String,
    /// The error, and a valid form.
    pub description: String,
}

/// The context of a call: the environment of the server in which it runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CallContext {
    /// The folder in which command tools run unless they or their arguments name another.
    pub working_directory: Option<PathBuf>,
    /// The environment variables of the server, from which each tool picks by name.
    pub environment: Arc<BTreeMap<String, String>>,
}

/// A tool that can be called.
pub trait CallableTool: Send + Sync + 'static {
    /// Returns the description of the tool and of its arguments.
    fn describe(&self) -> &Tool;

    /// Turns arguments that satisfy the schema into work.
    ///
    /// # Errors
    ///
    /// Every error in the arguments that the schema cannot find.
    fn prepare(
        &self,
        arguments: &Arguments,
        context: &CallContext,
    ) -> Result<Work, Vec<ArgumentError>>;

    /// Returns the work with which an earlier call goes on after a restart of this server, from the handle
    /// that its work has [kept](ToolContext::keep_handle), or `None` if it cannot go on. Its output begins
    /// anew: what the log has already is not added again.
    fn take_up(&self, _handle: &WorkHandle, _context: &CallContext) -> Option<Work> {
        None
    }
}
