//! Calls of an earlier server, whose tasks go on at an MCP server.

use std::sync::{Arc, Weak};

use async_trait::async_trait;

use super::connection::ServerConnection;
use super::convert::failure;
use super::task_handle::{TaskError, TaskHandle, TaskProtocol};
use super::{remote_task, task_only};
use crate::model::ToolResult;
use crate::tool::{InProcess, ToolContext};

/// A call of an earlier server, whose task is polled again.
pub(super) struct ResumedCall {
    pub(super) connection: Weak<ServerConnection>,
    pub(super) handle: TaskHandle,
}

#[async_trait]
impl InProcess for ResumedCall {
    async fn run(self: Box<Self>, context: ToolContext) -> ToolResult {
        let Some(connection) = self.connection.upgrade() else {
            return failure("the MCP server has ended: try again".to_owned());
        };
        self.handle.keep(&context).await;
        let connection: &Arc<ServerConnection> = &connection;
        let ended = match self.handle.protocol {
            TaskProtocol::AskedFor => {
                task_only::follow(connection, &self.handle.task_id, None, &context).await
            }
            TaskProtocol::MadeByServer => {
                remote_task::follow(connection, &self.handle.task_id, None, &context).await
            }
        };
        match ended {
            Ok(result) => result.deliver(&context).await,
            Err(TaskError::Failed(reason)) => failure(connection.error(&reason)),
            Err(TaskError::Forgotten(reason)) => {
                tracing::warn!(call_id = %context.call_id(), reason, "a task was forgotten");
                context.forget_handle().await;
                failure(connection.error(&reason))
            }
        }
    }
}
