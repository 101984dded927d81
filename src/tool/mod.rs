//! The port to tools: what there is, and what a call of it means.

mod built_in;
mod command;
mod function;
mod registry;
mod schema;
mod template;
mod toolbox;
mod values;
mod work;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::model::Tool;

pub use command::{CallBudget, CommandToolConfig};
pub use function::{FunctionResult, FunctionTool, ToolError, ToolOutput};
pub use work::{InProcess, ToolContext, Work, WorkEvent};

#[doc(hidden)]
pub use built_in::{BuiltInOptions, bash, python};
#[doc(hidden)]
pub use command::{CommandTool, CommandToolError};
#[doc(hidden)]
pub use registry::{Registry, RegistryError, check_arguments};
#[doc(hidden)]
pub use toolbox::{Found, Offer, PROVIDER_SEPARATOR, ToolProvider, Toolbox, Unavailable};
#[doc(hidden)]
pub use work::WorkReport;

/// Arguments of a call: a JSON object.
pub type Arguments = Map<String, Value>;

/// One fault in the arguments of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgumentFault {
    /// Where: a path from the arguments' root, such as `env.PATH` or `items[3]`; empty: the root.
    pub path: String,
    /// What is wrong there, and what would be right.
    pub description: String,
}

/// What a call brings beside its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CallContext {
    /// Where command tools run unless they or their arguments say otherwise.
    pub working_directory: Option<PathBuf>,
    /// The server's variables: a tool sees those that it is allowed to, by name.
    pub environment: Arc<BTreeMap<String, String>>,
}

/// A tool.
pub trait CallableTool: Send + Sync + 'static {
    /// What it is and what it takes.
    fn describe(&self) -> &Tool;

    /// Turns checked arguments into work, or names every fault that the schema couldn't see.
    fn prepare(
        &self,
        arguments: &Arguments,
        context: &CallContext,
    ) -> Result<Work, Vec<ArgumentFault>>;
}
