//! One tool of a server, and one call of it.

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use rmcp::model::{CallToolRequest, CallToolRequestParams, ClientRequest, ServerResult};
use rmcp::service::ServiceError;

use super::connection::ServerConnection;
use super::convert::{failure, result, service_error};
use super::remote_task::follow_new;
use super::request::{Answer, answer_of};
use super::result_parts::ConvertedResult;
use super::resumed_call::ResumedCall;
use super::task_handle::TaskHandle;
use super::task_only::call_as_task;
use crate::model::{Tool, ToolResult, WorkHandle};
use crate::tool::{
    ArgumentError, Arguments, CallContext, CallableTool, InProcess, ToolContext, Work,
};

/// A tool of a server.
pub(super) struct McpTool {
    tool: Tool,
    /// The server's own name for the tool.
    own_name: String,
    /// `true` if it runs as a task of the protocol of 2025-11-25 only.
    needs_task: bool,
    connection: Weak<ServerConnection>,
}

impl McpTool {
    pub(super) fn new(
        tool: Tool,
        own_name: String,
        needs_task: bool,
        connection: Weak<ServerConnection>,
    ) -> Self {
        Self { tool, own_name, needs_task, connection }
    }
}

impl CallableTool for McpTool {
    fn describe(&self) -> &Tool {
        &self.tool
    }

    fn prepare(&self, arguments: &Arguments, _: &CallContext) -> Result<Work, Vec<ArgumentError>> {
        let params = CallToolRequestParams::new(self.own_name.clone());
        let params = params.with_arguments(arguments.clone());
        let (connection, needs_task) = (self.connection.clone(), self.needs_task);
        Ok(Work::InProcess(Box::new(McpCall { connection, params, needs_task })))
    }

    fn take_up(&self, handle: &WorkHandle, _: &CallContext) -> Option<Work> {
        let handle = TaskHandle::read(handle)?;
        let connection = self.connection.clone();
        Some(Work::InProcess(Box::new(ResumedCall { connection, handle })))
    }
}

struct McpCall {
    connection: Weak<ServerConnection>,
    params: CallToolRequestParams,
    needs_task: bool,
}

#[async_trait]
impl InProcess for McpCall {
    async fn run(self: Box<Self>, context: ToolContext) -> ToolResult {
        let Some(connection) = self.connection.upgrade() else {
            return failure("the MCP server has ended: try again".to_owned());
        };
        let called = match self.needs_task {
            true => call_as_task(&connection, self.params, &context).await,
            false => call(&connection, self.params, &context).await,
        };
        match called {
            Ok(result) => result.deliver(&context).await,
            Err(reason) => failure(connection.error(&reason)),
        }
    }
}

/// Calls the tool. An error is an error of the server, as the end of a sentence.
async fn call(
    connection: &Arc<ServerConnection>,
    params: CallToolRequestParams,
    context: &ToolContext,
) -> Result<ConvertedResult, String> {
    let request = ClientRequest::CallToolRequest(CallToolRequest::new(params));
    match answer_of(connection, request, context).await? {
        Answer::Stopped(stopped) => Ok(stopped),
        Answer::Result(ServerResult::CallToolResult(answer)) => Ok(result(answer)),
        Answer::Result(ServerResult::CreateTaskResult(answer)) => {
            follow_new(connection, answer.task, context).await
        }
        // rmcp's form of an answer without content.
        Answer::Result(ServerResult::EmptyResult(_) | ServerResult::TaskAckResult(_)) => {
            Ok(ConvertedResult::default())
        }
        Answer::Result(_) => Err(service_error(&ServiceError::UnexpectedResponse)),
    }
}
