//! One tool of a server, and one call of it.

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use rmcp::model::{CallToolRequest, CallToolRequestParams, ClientRequest, ServerResult};
use rmcp::service::{PeerRequestOptions, RequestHandle, RoleClient, ServiceError};
use tokio::time::timeout;

use super::connection::{CANCEL_TIMEOUT, ServerConnection};
use super::convert::{ConvertedResult, failure, result, service_error, stopped};
use super::remote_task::follow;
use crate::model::{Tool, ToolResult};
use crate::tool::{
    ArgumentFault, Arguments, CallContext, CallableTool, InProcess, ToolContext, Work,
};

/// A tool of a server.
pub(super) struct McpTool {
    tool: Tool,
    /// The server's own name for the tool.
    own_name: String,
    connection: Weak<ServerConnection>,
}

impl McpTool {
    pub(super) fn new(tool: Tool, own_name: String, connection: Weak<ServerConnection>) -> Self {
        Self { tool, own_name, connection }
    }
}

impl CallableTool for McpTool {
    fn describe(&self) -> &Tool {
        &self.tool
    }

    fn prepare(&self, arguments: &Arguments, _: &CallContext) -> Result<Work, Vec<ArgumentFault>> {
        let params = CallToolRequestParams::new(self.own_name.clone());
        let params = params.with_arguments(arguments.clone());
        Ok(Work::InProcess(Box::new(McpCall { connection: self.connection.clone(), params })))
    }
}

struct McpCall {
    connection: Weak<ServerConnection>,
    params: CallToolRequestParams,
}

#[async_trait]
impl InProcess for McpCall {
    async fn run(self: Box<Self>, context: ToolContext) -> ToolResult {
        let Some(connection) = self.connection.upgrade() else {
            return failure("the MCP server has ended: try again".to_owned());
        };
        match call(&connection, self.params, &context).await {
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
    let stop = context.cancellation_token();
    let request = CallToolRequest::new(params);
    let sending = connection.peer.send_cancellable_request(
        ClientRequest::CallToolRequest(request),
        PeerRequestOptions::no_options(),
    );
    let sent = tokio::select! {
        sent = sending => sent,
        reason = connection.closed() => return Err(reason.to_owned()),
    };
    let mut sent: RequestHandle<RoleClient> = match sent {
        Ok(sent) => sent,
        Err(error) => return Err(connection.request_error(&error).await),
    };
    let mut reports = connection.notifications.progress_of(&sent.progress_token);
    let answer = loop {
        tokio::select! {
            biased;
            // First: to cancel a call that was answered with a task would not end the task.
            answer = &mut sent.rx => {
                break answer.unwrap_or(Err(ServiceError::TransportClosed));
            }
            () = stop.cancelled() => {
                // With a bound: the server may not be reading.
                let cancel = sent.cancel(Some("the result is not wanted any more".to_owned()));
                let _sent = timeout(CANCEL_TIMEOUT, connection.until_closed(cancel)).await;
                return Ok(stopped());
            }
            report = reports.next() => {
                // The log may be full, and a stop ends the wait for it.
                let _sent = stop.run_until_cancelled(context.progress(report)).await;
            }
            reason = connection.closed() => return Err(reason.to_owned()),
        }
    };
    while let Some(report) = reports.try_next() {
        let _sent = stop.run_until_cancelled(context.progress(report)).await;
    }
    match answer {
        Ok(ServerResult::CallToolResult(answer)) => Ok(result(answer)),
        Ok(ServerResult::CreateTaskResult(answer)) => {
            follow(connection, answer.task, context).await
        }
        Ok(ServerResult::InputRequiredResult(_)) => {
            Err("it asks for input, which callpark cannot give".to_owned())
        }
        // rmcp's form of an answer without content.
        Ok(ServerResult::EmptyResult(_) | ServerResult::TaskAckResult(_)) => {
            Ok(ConvertedResult::default())
        }
        Ok(_) => Err(service_error(&ServiceError::UnexpectedResponse)),
        Err(error @ ServiceError::McpError(_)) => Err(service_error(&error)),
        Err(error) => Err(connection.request_error(&error).await),
    }
}
