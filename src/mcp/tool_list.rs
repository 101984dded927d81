//! The fetch of the list of a server's tools (`tools/list`), page by page, and the catalog that it becomes.
//!
//! `tool_page` reads one page of the list, and `running_server` keeps the catalog until it changes.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use rmcp::model::PaginatedRequestParams;
use rmcp::service::{Peer, RoleClient, ServiceError};
use serde_json::Value;

use super::call::McpTool;
use super::config::ServerConfig;
use super::connection::ServerConnection;
use super::convert::service_error;
use super::documents::document_tools;
use super::excerpt::excerpt;
use super::names::name_of;
use super::tool_page::{needs_task, notes};
use crate::model::limits::{MCP_SCHEMA_BYTES_MAX, MCP_TOOLS_MAX};
use crate::model::{Tool, ToolKind, ToolSource};
use crate::tool::{CallBudget, CallableTool, Catalog, Registry, check_schema};

/// The sentences about what is left out. Further ones are counted.
const LEFT_OUT_MAX: usize = 20;

/// Asks a server for its tools. The error is the end of a sentence.
pub(super) async fn fetch(connection: &Arc<ServerConnection>) -> Result<Catalog, String> {
    let config = &connection.config;
    let Listed { tools: listed, mut left_out } = list(&connection.peer)
        .await
        .map_err(|error| format!("its tools cannot be listed: {}", service_error(&error)))?;
    let mut tools: BTreeMap<String, Arc<dyn CallableTool>> = BTreeMap::new();
    let mut repeated = Vec::new();
    for tool in listed {
        let is_wanted =
            config.tools.is_empty() || config.tools.iter().any(|name| *name == tool.name);
        if !is_wanted {
            continue;
        }
        let own_name = tool.name.clone().into_owned();
        let needs_task = needs_task(&tool);
        let tool = match check_size(to_tool(tool, config)) {
            Ok(tool) => tool,
            Err(reason) => {
                left_out.push(reason);
                continue;
            }
        };
        if tools.contains_key(&tool.name) {
            repeated.push(tool.name);
        } else if tools.len() == MCP_TOOLS_MAX {
            left_out.push(format!("more than {MCP_TOOLS_MAX} tools"));
            break;
        } else {
            let name = tool.name.clone();
            let tool = McpTool::new(tool, own_name, needs_task, Arc::downgrade(connection));
            tools.insert(name, Arc::new(tool));
        }
    }
    left_out.extend(repeated_names(&repeated));
    let added = document_tools(connection).await;
    left_out.extend(added.left_out);
    for tool in added.tools {
        // A tool of the server with this name takes precedence.
        tools.entry(tool.describe().name.clone()).or_insert(tool);
    }
    let (registry, refused) = Registry::of_first(tools.into_values().collect());
    left_out.extend(refused.into_iter().map(|error| error.to_string()));
    let left_out = limited(left_out);
    Ok(Catalog { registry: Arc::new(registry), left_out })
}

/// Returns one sentence about names that came more than once.
fn repeated_names(names: &[String]) -> Option<String> {
    let first = names.first()?;
    let times = names.len();
    let distinct = names.iter().collect::<HashSet<&String>>().len();
    Some(match (times, distinct) {
        (1, _) => format!("a second tool named `{first}`"),
        (_, 1) => format!("{times} more tools named `{first}`"),
        _ => format!("{times} tools whose names came before, such as `{first}`"),
    })
}

/// Returns the first sentences, and the number of the others.
fn limited(mut sentences: Vec<String>) -> Vec<String> {
    let more = sentences.len().saturating_sub(LEFT_OUT_MAX);
    sentences.truncate(LEFT_OUT_MAX);
    if more > 0 {
        sentences.push(format!("and {more} more"));
    }
    sentences
}

/// The tools of all pages that can be had, and sentences about the others.
struct Listed {
    tools: Vec<rmcp::model::Tool>,
    left_out: Vec<String>,
}

/// Lists the tools, up to a few more than a catalog holds.
async fn list(peer: &Peer<RoleClient>) -> Result<Listed, ServiceError> {
    let mut listed = Listed { tools: Vec::new(), left_out: Vec::new() };
    let mut cursors: HashSet<String> = HashSet::new();
    let mut cursor = None;
    loop {
        let request = PaginatedRequestParams::default().with_cursor(cursor);
        let page = match peer.list_tools(Some(request)).await {
            Ok(page) => page,
            // The tools of the pages before are known.
            Err(error @ (ServiceError::McpError(_) | ServiceError::UnexpectedResponse))
                if !cursors.is_empty() =>
            {
                let reason = service_error(&error);
                listed.left_out.push(format!("the tools after page {}: {reason}", cursors.len()));
                return Ok(listed);
            }
            Err(error) => return Err(error),
        };
        listed.left_out.extend(notes(page.meta.as_ref()));
        listed.tools.extend(page.tools);
        let Some(next) = page.next_cursor else { return Ok(listed) };
        // A server must not be able to send pages without end.
        if !cursors.insert(next.clone()) {
            let cursor = excerpt(&next);
            listed
                .left_out
                .push(format!("the tools after the cursor `{cursor}`, which comes again"));
            return Ok(listed);
        }
        if listed.tools.len() > MCP_TOOLS_MAX || cursors.len() > MCP_TOOLS_MAX {
            listed.left_out.push(format!("the tools after page {}", cursors.len()));
            return Ok(listed);
        }
        cursor = Some(next);
    }
}

fn to_tool(tool: rmcp::model::Tool, config: &ServerConfig) -> Tool {
    let mut warnings = notes(tool.meta.as_ref());
    let name = name_of(&config.name, &tool.name);
    if !name.ends_with(&*tool.name) || tool.name.is_empty() {
        warnings.push(format!("its server names it `{}`", excerpt(&tool.name)));
    }
    let input_schema = Value::Object((*tool.input_schema).clone());
    let unusable = check_schema(&input_schema).err();
    let arguments_unchecked = unusable.is_some();
    warnings.extend(unusable.map(|cause| {
        format!("its arguments are not checked, because its schema cannot be used: {cause}")
    }));
    let hints = tool.annotations.unwrap_or_default();
    let read_only = hints.read_only_hint.unwrap_or(false);
    Tool {
        name,
        description: tool.description.or(tool.title.map(Into::into)).unwrap_or_default().into(),
        input_schema,
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
        arguments_unchecked,
        secret_arguments: config.secret_arguments.clone(),
        warnings,
    }
}

/// Refuses a tool whose schemas are too large to be kept and sent.
fn check_size(tool: Tool) -> Result<Tool, String> {
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
