//! The tools that callpark adds to those of a server: one reads its resources, one gets its prompts.
//! A server that has no resources, or no prompts, gets no such tool.

use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use rmcp::model::{
    ClientRequest, GetPromptRequest, GetPromptRequestParams, GetPromptResult,
    PaginatedRequestParams, Prompt, ReadResourceRequest, ReadResourceRequestParams, Resource,
    ResourceContents, ResourceTemplate, ServerResult,
};
use rmcp::service::{Peer, RoleClient, ServiceError};
use serde_json::Value;
use tokio::time::timeout;

use super::config::ServerConfig;
use super::connection::ServerConnection;
use super::convert::{self, failure, service_error};
use super::request::{Answer, answer_of};
use super::result_parts::{ConvertedResult, Parts};
use crate::agent::prompts::{self, ListedArgument, ListedDocument};
use crate::model::limits::MCP_TOOLS_MAX;
use crate::model::{ContentKind, ResourceBody, Tool, ToolKind, ToolResult, ToolSource};
use crate::tool::{
    ArgumentError, Arguments, CallBudget, CallContext, CallableTool, InProcess, PROVIDER_SEPARATOR,
    ToolContext, Work,
};

/// The timeout for the lists of resources and prompts, without which the tools are offered.
const LIST_TIMEOUT: Duration = Duration::from_secs(5);

/// The tools that are added to those of a server, and the reasons why others are not.
#[derive(Default)]
pub(super) struct DocumentTools {
    pub(super) tools: Vec<Arc<dyn CallableTool>>,
    pub(super) left_out: Vec<String>,
}

/// Returns the tools for the resources and the prompts that the server has.
pub(super) async fn document_tools(connection: &Arc<ServerConnection>) -> DocumentTools {
    let mut added = DocumentTools::default();
    for action in [DocumentAction::ReadResource, DocumentAction::GetPrompt] {
        if !action.is_wanted(connection) {
            continue;
        }
        let listed = timeout(LIST_TIMEOUT, action.list(&connection.peer, 1)).await;
        let listed = listed.unwrap_or_else(|_| Err(format!("no answer in {LIST_TIMEOUT:?}")));
        match listed {
            Ok(listed) if listed.is_empty() => {}
            Ok(listed) => {
                let tool = action.tool(&connection.config, &listed);
                let connection = Arc::downgrade(connection);
                added.tools.push(Arc::new(DocumentTool { tool, action, connection }));
            }
            Err(reason) => {
                added.left_out.push(format!("`{}`: {reason}", action.name()));
            }
        }
    }
    added
}

/// The purpose of an added tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DocumentAction {
    ReadResource,
    GetPrompt,
}

impl DocumentAction {
    fn name(self) -> &'static str {
        match self {
            Self::ReadResource => "read_resource",
            Self::GetPrompt => "get_prompt",
        }
    }

    /// Returns `true` if the server declares such documents and the configuration allows the tool.
    fn is_wanted(self, connection: &ServerConnection) -> bool {
        let tools = &connection.config.tools;
        let is_allowed = tools.is_empty() || tools.iter().any(|name| name == self.name());
        let is_declared = connection.peer.peer_info().is_some_and(|server| match self {
            Self::ReadResource => server.capabilities.resources.is_some(),
            Self::GetPrompt => server.capabilities.prompts.is_some(),
        });
        is_allowed && is_declared
    }

    fn tool(self, config: &ServerConfig, listed: &[ListedDocument]) -> Tool {
        let name = format!("{}{PROVIDER_SEPARATOR}{}", config.name, self.name());
        let (description, schema) = match self {
            Self::ReadResource => {
                (prompts::read_resource_description(listed), prompts::read_resource_schema())
            }
            Self::GetPrompt => {
                (prompts::get_prompt_description(listed), prompts::get_prompt_schema())
            }
        };
        let source = ToolSource::McpServer(config.name.clone());
        Tool {
            read_only: true,
            idempotent: true,
            call_budget: match config.call_budget {
                CallBudget::Never => None,
                CallBudget::After(budget) => Some(budget),
            },
            execution_timeout: config.execution_timeout,
            ..Tool::new(name, description, schema, ToolKind::Mcp, source)
        }
    }

    /// Lists the documents of up to `pages_max` pages. The error is the end of a sentence.
    async fn list(
        self,
        peer: &Peer<RoleClient>,
        pages_max: usize,
    ) -> Result<Vec<ListedDocument>, String> {
        let listed = match self {
            Self::ReadResource => {
                let resources = DocumentList::Resources.pages(peer, pages_max);
                let templates = DocumentList::Templates.pages(peer, pages_max);
                // Either may be missing in a server that has the other.
                match tokio::join!(resources, templates) {
                    (Ok(one), Ok(other)) => Ok([one, other].concat()),
                    (Ok(only), Err(_)) | (Err(_), Ok(only)) => Ok(only),
                    (Err(error), Err(_)) => Err(error),
                }
            }
            Self::GetPrompt => DocumentList::Prompts.pages(peer, pages_max).await,
        };
        listed.map_err(|error| service_error(&error))
    }
}

/// A list of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DocumentList {
    Resources,
    Templates,
    Prompts,
}

impl DocumentList {
    /// Returns the documents of up to `pages_max` pages.
    async fn pages(
        self,
        peer: &Peer<RoleClient>,
        pages_max: usize,
    ) -> Result<Vec<ListedDocument>, ServiceError> {
        let (mut listed, mut cursor) = (Vec::new(), None);
        for _ in 0..pages_max {
            let (more, next) = self.page(peer, cursor.clone()).await?;
            let is_empty = more.is_empty();
            listed.extend(more);
            // A server must not be able to send pages without end.
            let is_last = next.is_none() || next == cursor;
            cursor = next;
            if is_empty || is_last || listed.len() > MCP_TOOLS_MAX {
                break;
            }
        }
        listed.truncate(MCP_TOOLS_MAX);
        Ok(listed)
    }

    /// Returns a page and the cursor of the next one.
    async fn page(
        self,
        peer: &Peer<RoleClient>,
        cursor: Option<String>,
    ) -> Result<(Vec<ListedDocument>, Option<String>), ServiceError> {
        let page = Some(PaginatedRequestParams::default().with_cursor(cursor));
        Ok(match self {
            Self::Resources => {
                let page = peer.list_resources(page).await?;
                (page.resources.into_iter().map(resource).collect(), page.next_cursor)
            }
            Self::Templates => {
                let page = peer.list_resource_templates(page).await?;
                (page.resource_templates.into_iter().map(template).collect(), page.next_cursor)
            }
            Self::Prompts => {
                let page = peer.list_prompts(page).await?;
                (page.prompts.into_iter().map(listed_prompt).collect(), page.next_cursor)
            }
        })
    }
}

fn resource(resource: Resource) -> ListedDocument {
    let Resource { uri, name, title, description, .. } = resource;
    let description = description.or(title).unwrap_or(name);
    ListedDocument { name: uri, description, ..ListedDocument::default() }
}

fn template(template: ResourceTemplate) -> ListedDocument {
    let ResourceTemplate { uri_template, name, title, description, .. } = template;
    let description = description.or(title).unwrap_or(name);
    ListedDocument { name: uri_template, description, ..ListedDocument::default() }
}

fn listed_prompt(prompt: Prompt) -> ListedDocument {
    let Prompt { name, title, description, arguments, .. } = prompt;
    let arguments = arguments.unwrap_or_default().into_iter().map(|argument| {
        let is_required = argument.required.unwrap_or(false);
        ListedArgument { name: argument.name, is_optional: !is_required }
    });
    let arguments = arguments.collect();
    ListedDocument { name, description: description.or(title).unwrap_or_default(), arguments }
}

struct DocumentTool {
    tool: Tool,
    action: DocumentAction,
    connection: Weak<ServerConnection>,
}

impl CallableTool for DocumentTool {
    fn describe(&self) -> &Tool {
        &self.tool
    }

    fn prepare(&self, arguments: &Arguments, _: &CallContext) -> Result<Work, Vec<ArgumentError>> {
        let (connection, action) = (self.connection.clone(), self.action);
        let arguments = arguments.clone();
        Ok(Work::InProcess(Box::new(DocumentCall { connection, action, arguments })))
    }
}

struct DocumentCall {
    connection: Weak<ServerConnection>,
    action: DocumentAction,
    arguments: Arguments,
}

#[async_trait]
impl InProcess for DocumentCall {
    async fn run(self: Box<Self>, context: ToolContext) -> ToolResult {
        let Some(connection) = self.connection.upgrade() else {
            return failure("the MCP server has ended: try again".to_owned());
        };
        match self.answer(&connection, &context).await {
            Ok(result) => result.deliver(&context).await,
            Err(reason) => failure(connection.error(&reason)),
        }
    }
}

impl DocumentCall {
    async fn answer(
        self,
        connection: &Arc<ServerConnection>,
        context: &ToolContext,
    ) -> Result<ConvertedResult, String> {
        let text = |name: &str| self.arguments.get(name).and_then(Value::as_str);
        let name = match self.action {
            DocumentAction::ReadResource => text("uri"),
            DocumentAction::GetPrompt => text("name"),
        };
        let request = match (self.action, name) {
            (_, None) => {
                let listing = self.action.list(&connection.peer, MCP_TOOLS_MAX);
                let stop = context.cancellation_token();
                let listed = stop.run_until_cancelled(connection.until_closed(listing)).await;
                let listed = listed.flatten().unwrap_or_else(|| Err("it ended".to_owned()))?;
                let text = prompts::document_list(&listed);
                return Ok(ConvertedResult { text, ..ConvertedResult::default() });
            }
            (DocumentAction::ReadResource, Some(uri)) => {
                let params = ReadResourceRequestParams::new(uri);
                ClientRequest::ReadResourceRequest(ReadResourceRequest::new(params))
            }
            (DocumentAction::GetPrompt, Some(name)) => {
                let arguments = self.arguments.get("arguments").and_then(Value::as_object);
                let mut params = GetPromptRequestParams::new(name);
                params.arguments = arguments.cloned();
                ClientRequest::GetPromptRequest(GetPromptRequest::new(params))
            }
        };
        match answer_of(connection, request, context).await? {
            Answer::Stopped(stopped) => Ok(stopped),
            Answer::Result(ServerResult::ReadResourceResult(read)) => Ok(documents(read.contents)),
            Answer::Result(ServerResult::GetPromptResult(got)) => Ok(prompt(got)),
            Answer::Result(_) => Err(service_error(&ServiceError::UnexpectedResponse)),
        }
    }
}

/// Converts the contents of a resource. One text alone is the whole result.
fn documents(contents: Vec<ResourceContents>) -> ConvertedResult {
    let mut parts = Parts::new();
    let is_alone = contents.len() == 1;
    for contents in contents {
        match convert::resource(contents) {
            ContentKind::Resource { uri, body: Some(ResourceBody::Text(text)), .. } => {
                match is_alone {
                    true => parts.note(&text),
                    false => parts.note(&prompts::document_text(&uri, &text)),
                }
            }
            ContentKind::Resource { media_type, body: Some(ResourceBody::Blob(data)), .. }
                if media_type.starts_with("image/") =>
            {
                parts.push(ContentKind::Image { media_type, data });
            }
            other => parts.push(other),
        }
    }
    parts.into_result()
}

/// Converts a prompt. Its messages become text.
fn prompt(got: GetPromptResult) -> ConvertedResult {
    let mut parts = Parts::new();
    if let Some(description) = got.description {
        parts.note(&description);
    }
    for message in got.messages {
        let role = convert::role_name(&message.role);
        match convert::kind(message.content) {
            ContentKind::Text(text) => parts.note(&prompts::prompt_message(role, &text)),
            other => {
                parts.note(&prompts::prompt_message(role, ""));
                parts.push(other);
            }
        }
    }
    parts.into_result()
}
