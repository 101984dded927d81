//! Tools of MCP servers: processes that callpark talks to over their pipes, and servers at a URL.
//!
//! A server is started when one of its tools is first asked for, and again after it has ended, with
//! a pause that doubles. Its tools are named `<server>__<tool>`. A server that hangs, exits or sends
//! invalid messages fails only its own calls.

mod answer_error;
mod call;
mod call_result;
mod catalog;
mod config;
mod connection;
mod convert;
mod events;
mod handler;
mod http;
mod http_body;
mod http_request;
mod mend;
mod message;
mod names;
mod negotiate;
mod notifications;
mod open;
mod open_requests;
mod pipes;
mod remote;
mod remote_task;
mod result_forms;
mod session;
mod subscriptions;
mod supervisor;
mod token;
mod tool_list;
mod unreadable;

use std::sync::Arc;

use async_trait::async_trait;

use crate::exec::Launcher;
use crate::telemetry::Metrics;
use crate::tool::{Catalog, ProviderUnavailable, ToolProvider};

pub use config::ServerConfig;
use supervisor::Supervisor;

/// Reads the lines of a server that has not answered some calls. For fuzzing.
#[doc(hidden)]
pub struct LineReader(open_requests::OpenRequests);

#[doc(hidden)]
impl LineReader {
    /// Creates a reader with calls of these ids.
    pub fn new(calls: &[i64]) -> Self {
        let open = open_requests::OpenRequests::default();
        for id in calls {
            let id = rmcp::model::RequestId::Number(*id);
            open.insert(id, open_requests::Method::CallTool);
        }
        Self(open)
    }

    /// Reads a line. Returns the ids of the calls that it ends, and whether they ended well.
    pub fn read(&self, line: &[u8]) -> Vec<(i64, bool)> {
        use rmcp::model::{JsonRpcMessage, RequestId};
        let end = |message| match message {
            JsonRpcMessage::Response(response) => Some((response.id, true)),
            JsonRpcMessage::Error(error) => Some((error.id?, false)),
            JsonRpcMessage::Request(_) | JsonRpcMessage::Notification(_) => None,
        };
        let number = |(id, is_good)| match id {
            RequestId::Number(id) => Some((id, is_good)),
            RequestId::String(_) => None,
        };
        message::read(line, &self.0)
            .messages
            .into_iter()
            .filter_map(end)
            .filter_map(number)
            .collect()
    }
}

/// An MCP server, as a provider of tools.
pub struct McpServer {
    supervisor: Arc<Supervisor>,
}

impl McpServer {
    /// Creates a server that is started on first use.
    pub fn new(config: ServerConfig, launcher: Launcher, metrics: Metrics) -> Self {
        Self { supervisor: Arc::new(Supervisor::new(config, launcher, metrics)) }
    }
}

#[async_trait]
impl ToolProvider for McpServer {
    fn name(&self) -> &str {
        &self.supervisor.config().name
    }

    async fn catalog(&self) -> Result<Arc<Catalog>, ProviderUnavailable> {
        let catalog = async { self.supervisor.server().await?.catalog().await };
        catalog
            .await
            .map_err(|reason| ProviderUnavailable { provider: self.name().to_owned(), reason })
    }

    async fn close(&self) {
        self.supervisor.close().await;
    }
}
