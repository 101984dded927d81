//! External agents that speak the Agent Client Protocol (ACP) over the pipes of a process.
//!
//! Each session has a process of its own, which is started at the session's first turn and ends when
//! it has been idle for a while. The process holds one conversation, and is sent the history if it
//! doesn't know it. What an agent does with its own tools is shown as calls. It finds callpark's tools
//! at an MCP server on the loopback interface, where each process authenticates with its own token; an
//! agent that doesn't support MCP over HTTP is given a program to start in its place, the bridge.
//!
//! An agent repeats the whole output of a call in each update; only the new part is emitted. If the
//! output doesn't continue the previous one, all of it is emitted again behind a separator.

mod bridge;
mod call_details;
mod config;
mod error;
mod event_sink;
mod host;
mod own_calls;
mod permission;
mod pool;
mod process;
mod prompt;
mod read_gate;
mod slot;
mod tool_server;
mod turn;
mod usage;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use crate::agent::{Agent, AgentEvent, AgentRequest, AgentStream, ModelErrorCode};
use crate::exec::Launcher;
use crate::model::SessionId;
use crate::telemetry::Metrics;

pub use bridge::{ADDRESS_VARIABLE, TOKEN_VARIABLE, run_bridge};
pub use config::{AgentConfig, Permissions};
use error::agent_error;
use pool::ProcessPool;

/// An agent that speaks ACP.
pub struct AcpAgent {
    pool: Arc<ProcessPool>,
}

impl AcpAgent {
    /// Creates an agent without starting a process. The configuration must be valid. `bridge` is the
    /// program `callpark`, which an agent that doesn't support MCP over HTTP can start.
    pub fn new(
        config: AgentConfig,
        launcher: Launcher,
        metrics: Metrics,
        bridge: Option<PathBuf>,
    ) -> Self {
        Self { pool: Arc::new(ProcessPool::new(config, launcher, metrics, bridge)) }
    }
}

#[async_trait]
impl Agent for AcpAgent {
    fn name(&self) -> &str {
        self.pool.agent()
    }

    fn turn(&self, request: AgentRequest) -> AgentStream {
        let pool = self.pool.clone();
        Box::pin(async_stream::stream! {
            let mut events = match pool.enqueue(request) {
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
            // The worker has ended without an event for it.
            let reason = "its turn ended before it was complete";
            yield Err(agent_error(pool.agent(), ModelErrorCode::Connection, reason));
        })
    }

    async fn forget(&self, session_id: SessionId) {
        self.pool.forget(session_id).await;
    }

    async fn close(&self) {
        self.pool.close().await;
    }
}
