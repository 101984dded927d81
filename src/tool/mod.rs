//! The port to tools: what there is, and what a call of it means.

mod built_in;
mod command;
mod registry;
mod schema;
mod template;
mod toolbox;
mod values;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::model::{ProcessSpec, Progress, Tool, ToolResult};

pub use built_in::{BuiltInOptions, bash, python};
pub use command::{CallBudget, CommandTool, CommandToolConfig, CommandToolError};
pub use registry::{Registry, RegistryError, check_arguments};
pub use toolbox::{
    Catalog, PROVIDER_SEPARATOR, ProviderUnavailable, ResolvedTool, ToolProvider, Toolbox,
};

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

/// What a tool asks the engine to do for a call.
pub enum Work {
    /// Run this process; its output is the result.
    Process(ProcessSpec),
    /// Run this code inside the server.
    InProcess(Box<dyn InProcess>),
    /// Tell what comes of work that is done elsewhere. Stopping the call stops telling, and no more.
    /// A stream that ends without [`WorkEvent::Ended`] is a failure.
    Followed(BoxStream<'static, WorkEvent>),
}

/// What comes of work that is done elsewhere.
#[derive(Debug)]
pub enum WorkEvent {
    /// More output.
    Output(Bytes),
    /// It ended. The result holds nothing that was told as output before.
    Ended(Box<ToolResult>),
}

/// Work that runs inside the server.
#[async_trait]
pub trait InProcess: Send {
    /// Runs to the end. `stop` says that the result isn't wanted any more: return soon. Progress
    /// may be told through the channel, which takes as much as the log can.
    async fn run(
        self: Box<Self>,
        progress: mpsc::Sender<Progress>,
        stop: CancellationToken,
    ) -> ToolResult;
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
