//! One tool of a server, and one call of it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use rmcp::model::{CallToolRequest, CallToolRequestParams, ClientRequest, ServerResult};
use rmcp::service::{PeerRequestOptions, RequestHandle, RoleClient, ServiceError};
use tokio::time::timeout;

use super::convert::{failure, result, root_cause, service_fault};
use super::link::Link;
use super::remote_task::follow;
use crate::model::{Tool, ToolResult};
use crate::tool::{
    ArgumentFault, Arguments, CallContext, CallableTool, InProcess, ToolContext, Work,
};

/// How long a server may take to hear that a call is cancelled.
pub(super) const TELLING: Duration = Duration::from_secs(1);

/// A tool of a server.
pub(super) struct McpTool {
    tool: Tool,
    /// The server's own name for it.
    own_name: String,
    /// The server, as long as it is there.
    link: Weak<Link>,
}

impl McpTool {
    pub(super) fn new(tool: Tool, own_name: String, link: Weak<Link>) -> Self {
        Self { tool, own_name, link }
    }
}

impl CallableTool for McpTool {
    fn describe(&self) -> &Tool {
        &self.tool
    }

    fn prepare(&self, arguments: &Arguments, _: &CallContext) -> Result<Work, Vec<ArgumentFault>> {
        let params = CallToolRequestParams::new(self.own_name.clone());
        let params = params.with_arguments(arguments.clone());
        Ok(Work::InProcess(Box::new(McpCall { link: self.link.clone(), params })))
    }
}

/// One call.
struct McpCall {
    link: Weak<Link>,
    params: CallToolRequestParams,
}

#[async_trait]
impl InProcess for McpCall {
    async fn run(self: Box<Self>, context: ToolContext) -> ToolResult {
        let Some(link) = self.link.upgrade() else {
            return failure("the MCP server is gone: try again".to_owned());
        };
        match call(&link, self.params, context).await {
            Ok(result) => result,
            Err(reason) => failure(link.blame(&reason)),
        }
    }
}

/// Calls the tool. An error is the server's fault, as the end of a sentence.
async fn call(
    link: &Arc<Link>,
    params: CallToolRequestParams,
    context: ToolContext,
) -> Result<ToolResult, String> {
    let stop = context.cancellation_token();
    let request = CallToolRequest::new(params);
    let sending = link.peer.send_cancellable_request(
        ClientRequest::CallToolRequest(request),
        PeerRequestOptions::no_options(),
    );
    let sent = tokio::select! {
        sent = sending => sent,
        reason = link.closed() => return Err(reason.to_owned()),
    };
    let mut sent: RequestHandle<RoleClient> = match sent {
        Ok(sent) => sent,
        Err(error) => return Err(lost(link, &error).await),
    };
    let mut listening = link.hearing.listen(&sent.progress_token);
    let answer = loop {
        tokio::select! {
            biased;
            // First, since a cancel of a call that was answered with a task would end nothing.
            answer = &mut sent.rx => {
                break answer.unwrap_or(Err(ServiceError::TransportClosed));
            }
            () = stop.cancelled() => {
                // Told for a moment: a server that doesn't read needs not hear it.
                let telling = sent.cancel(Some("the caller wants no result any more".to_owned()));
                let _told = timeout(TELLING, link.while_there(telling)).await;
                return Ok(failure("it was told to stop".to_owned()));
            }
            report = listening.next() => {
                // The log may be full; then there may be no need to wait for it any more.
                let _sent = stop.run_until_cancelled(context.progress(report)).await;
            }
            reason = link.closed() => return Err(reason.to_owned()),
        }
    };
    while let Some(report) = listening.try_next() {
        let _sent = stop.run_until_cancelled(context.progress(report)).await;
    }
    match answer {
        Ok(ServerResult::CallToolResult(answer)) => Ok(result(answer)),
        Ok(ServerResult::CreateTaskResult(answer)) => follow(link, answer.task, &context).await,
        Ok(ServerResult::InputRequiredResult(_)) => {
            Err("it asks for input, and there is nobody here to give it".to_owned())
        }
        // What rmcp makes of an answer without content.
        Ok(ServerResult::EmptyResult(_) | ServerResult::TaskAckResult(_)) => {
            Ok(ToolResult::default())
        }
        Ok(_) => Err(service_fault(&ServiceError::UnexpectedResponse)),
        Err(error @ ServiceError::McpError(_)) => Err(service_fault(&error)),
        Err(error) => Err(lost(link, &error).await),
    }
}

/// Why a connection didn't bring the answer: what the link says, once it knows.
pub(super) async fn lost(link: &Link, error: &ServiceError) -> String {
    match error {
        ServiceError::TransportClosed => {
            link.give_up("the connection is closed");
            link.closed().await.to_owned()
        }
        ServiceError::TransportSend(cause) => {
            link.give_up(&format!("it can't be talked to: {}", root_cause(cause.error.as_ref())));
            link.closed().await.to_owned()
        }
        other => service_fault(other),
    }
}
