//! Tools of MCP servers: processes that callpark talks to over their pipes, and servers at a URL.
//!
//! A server is started when one of its tools is first asked for, and again after it has ended, with
//! a pause that doubles. Its tools are named `<server>__<tool>`. A server that hangs, exits or sends
//! invalid messages fails only its own calls.
//!
//! `supervisor` and `open` start a server, `tool_list` fetches its tools, `call` calls one of them. `message`,
//! `tool_page`, `call_result` and `result_forms` read what servers send, `http` and `pipes` carry it.

mod answer_error;
mod call;
mod call_result;
mod config;
mod connection;
mod convert;
mod declined;
mod documents;
mod events;
mod excerpt;
mod handler;
mod http;
mod http_body;
mod http_request;
mod http_session;
mod http_stream;
mod http_transport;
mod line_joiner;
mod mend;
mod message;
mod names;
mod negotiate;
mod notifications;
mod open;
mod open_requests;
mod pipes;
mod polling;
mod remote;
mod remote_task;
mod request;
mod result_forms;
mod result_parts;
mod resumed_call;
mod running_server;
mod subscriptions;
mod supervisor;
mod task_handle;
mod task_only;
mod token;
mod tool_list;
mod tool_page;
mod unreadable;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use serde_json::json;
use tokio::sync::Semaphore;

use crate::exec::Launcher;
use crate::model::limits::MCP_STARTS_MAX;
use crate::model::{Tool, ToolKind, ToolSource};
use crate::telemetry::Metrics;
use crate::tool::{CallBudget, Catalog, ProviderUnavailable, ToolProvider};

pub use config::ServerConfig;
use running_server::RunningServer;
use supervisor::Supervisor;

/// The permits to start a server, which the servers of one callpark share.
#[derive(Debug, Clone)]
pub struct StartPermits(Arc<Semaphore>);

impl Default for StartPermits {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MCP_STARTS_MAX)))
    }
}

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
    /// The tools as they were last known.
    known: Mutex<Option<Arc<Catalog>>>,
}

impl McpServer {
    /// Creates a server that is started on first use.
    pub fn new(
        config: ServerConfig,
        launcher: Launcher,
        metrics: Metrics,
        permits: &StartPermits,
    ) -> Self {
        let supervisor = Supervisor::new(config, launcher, metrics, permits.0.clone());
        Self { supervisor: Arc::new(supervisor), known: Mutex::default() }
    }

    async fn catalog_of(
        &self,
        server: impl Future<Output = Result<Arc<RunningServer>, String>>,
    ) -> Result<Arc<Catalog>, ProviderUnavailable> {
        let catalog = async { server.await?.catalog().await };
        let catalog = catalog
            .await
            .map_err(|reason| ProviderUnavailable { provider: self.name().to_owned(), reason })?;
        *self.known() = Some(catalog.clone());
        Ok(catalog)
    }

    fn known(&self) -> MutexGuard<'_, Option<Arc<Catalog>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl ToolProvider for McpServer {
    fn name(&self) -> &str {
        &self.supervisor.config().name
    }

    async fn catalog(&self) -> Result<Arc<Catalog>, ProviderUnavailable> {
        self.catalog_of(self.supervisor.server()).await
    }

    async fn ready_catalog(&self) -> Result<Arc<Catalog>, ProviderUnavailable> {
        self.catalog_of(self.supervisor.ready_server()).await
    }

    fn known_catalog(&self) -> Option<Arc<Catalog>> {
        self.known().clone()
    }

    fn unknown_tool(&self, name: &str) -> Tool {
        let config = self.supervisor.config();
        let source = ToolSource::McpServer(config.name.clone());
        let call_budget = match config.call_budget {
            CallBudget::Never => None,
            CallBudget::After(budget) => Some(budget),
        };
        Tool {
            call_budget,
            execution_timeout: config.execution_timeout,
            arguments_unchecked: true,
            secret_arguments: config.secret_arguments.clone(),
            ..Tool::new(name, "", json!({}), ToolKind::Mcp, source)
        }
    }

    async fn close(&self) {
        self.supervisor.close().await;
    }
}
