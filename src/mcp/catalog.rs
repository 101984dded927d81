//! What a server offers, as tools of ours.

use std::sync::{Arc, Weak};

use rmcp::model::PaginatedRequestParams;
use rmcp::service::{Peer, RoleClient, ServiceError};
use serde_json::Value;

use super::call::McpTool;
use super::config::ServerConfig;
use super::connection::ServerConnection;
use super::convert::service_fault;
use crate::model::limits::{MCP_SCHEMA_BYTES_MAX, MCP_TOOLS_MAX};
use crate::model::{Tool, ToolKind, ToolSource};
use crate::tool::{CallBudget, CallableTool, Catalog, PROVIDER_SEPARATOR, Registry};

/// Asks a server for its tools. An error says, as the end of a sentence, what it did wrong.
pub(super) async fn fetch_catalog(
    peer: &Peer<RoleClient>,
    config: &ServerConfig,
    connection: Weak<ServerConnection>,
) -> Result<Catalog, String> {
    let listed = list(peer)
        .await
        .map_err(|error| format!("its tools can't be listed: {}", service_fault(&error)))?;
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
        match checked(described(tool, config)) {
            Ok(tool) => tools.push(Arc::new(McpTool::new(tool, own_name, connection.clone()))),
            Err(reason) => left_out.push(reason),
        }
    }
    let (registry, doubles) = Registry::of_first(tools);
    left_out.extend(doubles.into_iter().map(|error| error.to_string()));
    for reason in &left_out {
        tracing::warn!(server = config.name, reason, "a tool of an MCP server is left out");
    }
    Ok(Catalog { registry, left_out })
}

/// The tools of all pages, up to one more than is offered.
async fn list(peer: &Peer<RoleClient>) -> Result<Vec<rmcp::model::Tool>, ServiceError> {
    let (mut tools, mut cursor) = (Vec::new(), None);
    loop {
        let page = PaginatedRequestParams::default().with_cursor(cursor);
        let page = peer.list_tools(Some(page)).await?;
        let is_empty = page.tools.is_empty();
        tools.extend(page.tools);
        cursor = page.next_cursor;
        // A server may not give pages without end.
        if cursor.is_none() || is_empty || tools.len() > MCP_TOOLS_MAX {
            return Ok(tools);
        }
    }
}

fn described(tool: rmcp::model::Tool, config: &ServerConfig) -> Tool {
    let hints = tool.annotations.unwrap_or_default();
    let read_only = hints.read_only_hint.unwrap_or(false);
    Tool {
        name: format!("{}{PROVIDER_SEPARATOR}{}", config.name, tool.name),
        description: tool.description.or(tool.title.map(Into::into)).unwrap_or_default().into(),
        input_schema: Value::Object((*tool.input_schema).clone()),
        output_schema: tool.output_schema.map(|schema| Value::Object((*schema).clone())),
        kind: ToolKind::Mcp,
        read_only,
        // As the protocol has it: what changes something and doesn't say is taken for destructive.
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

/// A schema is compiled, kept and sent: what is too large for that isn't offered.
fn checked(tool: Tool) -> Result<Tool, String> {
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
