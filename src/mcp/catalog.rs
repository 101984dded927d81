//! The tools of a server, as tools of callpark.

use std::sync::Arc;

use rmcp::model::PaginatedRequestParams;
use rmcp::service::{Peer, RoleClient, ServiceError};
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::call::McpTool;
use super::config::ServerConfig;
use super::connection::ServerConnection;
use super::convert::service_error;
use super::documents::document_tools;
use crate::model::limits::{MCP_SCHEMA_BYTES_MAX, MCP_TOOLS_MAX};
use crate::model::{Tool, ToolKind, ToolSource};
use crate::tool::{CallBudget, CallableTool, Catalog, PROVIDER_SEPARATOR, Registry};

/// A server that was started, with the catalog of its tools.
pub(super) struct RunningServer {
    pub(super) connection: Arc<ServerConnection>,
    /// The catalog that was fetched last. Locked while it is fetched again.
    catalog: Mutex<Arc<Catalog>>,
}

impl RunningServer {
    /// Creates a server whose catalog is not known yet.
    pub(super) fn new(connection: Arc<ServerConnection>) -> Self {
        connection.handler.mark_stale();
        Self { connection, catalog: Mutex::default() }
    }

    /// Returns the catalog, fetched again if the server has said that it has changed.
    pub(super) async fn catalog(&self) -> Result<Arc<Catalog>, String> {
        // Held over the request: all callers wait for the same answer.
        let mut catalog = self.catalog.lock().await;
        if let Some(refresh) = self.connection.handler.take_refresh() {
            let limit = self.connection.config.start_timeout();
            let fetched = timeout(limit, fetch_catalog(&self.connection)).await;
            let fetched =
                fetched.unwrap_or_else(|_| Err(format!("it did not list its tools in {limit:?}")));
            let fetched = fetched.map_err(|reason| self.connection.error(&reason))?;
            *catalog = Arc::new(fetched);
            refresh.complete();
        }
        Ok(catalog.clone())
    }
}

/// Asks a server for its tools. The error is the end of a sentence.
async fn fetch_catalog(connection: &Arc<ServerConnection>) -> Result<Catalog, String> {
    let config = &connection.config;
    let listed = list(&connection.peer)
        .await
        .map_err(|error| format!("its tools cannot be listed: {}", service_error(&error)))?;
    let mut left_out = Vec::new();
    let mut tools: Vec<Arc<dyn CallableTool>> = Vec::new();
    for tool in listed {
        let is_wanted =
            config.tools.is_empty() || config.tools.iter().any(|name| *name == tool.name);
        if !is_wanted {
            continue;
        }
        if tools.len() == MCP_TOOLS_MAX {
            left_out.push(format!("more than {MCP_TOOLS_MAX} tools"));
            break;
        }
        let own_name = tool.name.clone().into_owned();
        match check_schemas(to_tool(tool, config)) {
            Ok(tool) => {
                tools.push(Arc::new(McpTool::new(tool, own_name, Arc::downgrade(connection))));
            }
            Err(reason) => left_out.push(reason),
        }
    }
    let added = document_tools(connection).await;
    left_out.extend(added.left_out);
    for tool in added.tools {
        // A tool of the server with this name takes precedence.
        if tools.iter().all(|own| own.describe().name != tool.describe().name) {
            tools.push(tool);
        }
    }
    let (registry, doubles) = Registry::of_first(tools);
    left_out.extend(doubles.into_iter().map(|error| error.to_string()));
    for reason in &left_out {
        tracing::warn!(server = config.name, reason, "a tool of an MCP server is left out");
    }
    Ok(Catalog { registry, left_out })
}

/// Returns the tools of all pages, up to one more than a catalog holds.
async fn list(peer: &Peer<RoleClient>) -> Result<Vec<rmcp::model::Tool>, ServiceError> {
    let (mut tools, mut cursor) = (Vec::new(), None);
    loop {
        let page = PaginatedRequestParams::default().with_cursor(cursor);
        let page = peer.list_tools(Some(page)).await?;
        let is_empty = page.tools.is_empty();
        tools.extend(page.tools);
        cursor = page.next_cursor;
        // A server must not be able to send pages without end.
        if cursor.is_none() || is_empty || tools.len() > MCP_TOOLS_MAX {
            return Ok(tools);
        }
    }
}

fn to_tool(tool: rmcp::model::Tool, config: &ServerConfig) -> Tool {
    let hints = tool.annotations.unwrap_or_default();
    let read_only = hints.read_only_hint.unwrap_or(false);
    Tool {
        name: format!("{}{PROVIDER_SEPARATOR}{}", config.name, tool.name),
        description: tool.description.or(tool.title.map(Into::into)).unwrap_or_default().into(),
        input_schema: Value::Object((*tool.input_schema).clone()),
        output_schema: tool.output_schema.map(|schema| Value::Object((*schema).clone())),
        kind: ToolKind::Mcp,
        read_only,
        // The protocol's default: a tool that is not read-only counts as destructive.
        destructive: !read_only && hints.destructive_hint.unwrap_or(true),
        idempotent: read_only || hints.idempotent_hint.unwrap_or(false),
        concurrent_safe: true,
        call_budget: match config.call_budget {
            CallBudget::Never => None,
            CallBudget::After(budget) => Some(budget),
        },
        execution_timeout: config.execution_timeout,
        source: ToolSource::McpServer(config.name.clone()),
    }
}

/// Refuses a tool whose schemas are too large to be compiled, kept and sent.
fn check_schemas(tool: Tool) -> Result<Tool, String> {
    let Tool { name, input_schema, output_schema, .. } = &tool;
    let size = |schema: &Value| schema.to_string().len();
    let size = size(input_schema) + output_schema.as_ref().map_or(0, size);
    if size > MCP_SCHEMA_BYTES_MAX {
        return Err(format!(
            "`{name}`: its schemas take {size} bytes, more than {MCP_SCHEMA_BYTES_MAX}"
        ));
    }
    Ok(tool)
}
