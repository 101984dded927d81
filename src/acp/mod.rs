//! Agents that speak the Agent Client Protocol (ACP): processes that are talked to over their pipes.
//!
//! Each session has a process of its own, which is started at the session's first turn and lives on
//! until it has been idle for a while. It holds one conversation, and is told what was said before
//! where it doesn't know that. What it does with its own tools is told as calls. Callpark's tools it
//! finds at an MCP server on the loopback interface, where each process shows a token of its own.
//!
//! Of a call's output an agent tells the whole each time; what is told on is only what is new. Where
//! it doesn't continue what was told before, all of it is told once more, behind a line that says so.

mod calls;
mod config;
mod failure;
mod permission;
mod pool;
mod process;
mod prompt;
mod reader;
mod telling;
mod tools;
mod turn;
mod usage;
mod worker;

use std::sync::Arc;

use async_trait::async_trait;

use crate::agent::{Agent, AgentEvent, AgentRequest, AgentStream, ModelErrorCode};
use crate::exec::Launcher;
use crate::model::SessionId;
use crate::telemetry::Metrics;

pub use config::{AgentConfig, Permissions};
use failure::blame;
use pool::Pool;

/// An agent that speaks ACP.
pub struct AcpAgent {
    pool: Arc<Pool>,
}

impl AcpAgent {
    /// An agent that nobody has asked for anything. Its configuration has been checked.
    pub fn new(config: AgentConfig, launcher: Launcher, metrics: Metrics) -> Self {
        Self { pool: Arc::new(Pool::new(config, launcher, metrics)) }
    }
}

#[async_trait]
impl Agent for AcpAgent {
    fn name(&self) -> &str {
        &self.pool.config.name
    }

    fn turn(&self, request: AgentRequest) -> AgentStream {
        let pool = self.pool.clone();
        Box::pin(async_stream::stream! {
            let mut events = match pool.order(request) {
                Ok(events) => events,
                Err(error) => {
                    yield Err(error);
                    return;
                }
            };
            while let Some(event) = events.recv().await {
                let is_last = matches!(event, Ok(AgentEvent::Finished(_)) | Err(_));
                yield event;
                if is_last {
                    return;
                }
            }
            // Whoever played it has left without a word.
            let name = &pool.config.name;
            yield Err(blame(name, ModelErrorCode::Connection, "its turn ended before it was whole"));
        })
    }

    async fn forget(&self, session_id: SessionId) {
        self.pool.forget(session_id).await;
    }

    async fn close(&self) {
        self.pool.close().await;
    }
}
