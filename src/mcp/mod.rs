//! Tools of MCP servers: processes that are talked to over their pipes, and servers at a URL.
//!
//! A server is started when somebody asks for one of its tools, and again when it has died, after a
//! while that doubles. Its tools are named `<server>__<tool>`. What it does wrong is the reason of
//! the calls that meet it, and of nothing else: a server that hangs, talks nonsense or dies costs its
//! own calls only.

mod call;
mod config;
mod convert;
mod greeting;
mod handler;
mod hearing;
mod link;
mod news;
mod offer;
mod open;
mod remote;
mod remote_task;
mod supervisor;

use std::sync::Arc;

use async_trait::async_trait;

use crate::exec::Surroundings;
use crate::telemetry::Metrics;
use crate::tool::{Offer, ToolProvider, Unavailable};

pub use config::ServerConfig;
use supervisor::Supervisor;

/// An MCP server, as a provider of tools.
pub struct McpServer {
    supervisor: Arc<Supervisor>,
}

impl McpServer {
    /// A server that nobody has asked for yet.
    pub fn new(config: ServerConfig, surroundings: Surroundings, metrics: Metrics) -> Self {
        Self { supervisor: Arc::new(Supervisor::new(config, surroundings, metrics)) }
    }
}

#[async_trait]
impl ToolProvider for McpServer {
    fn name(&self) -> &str {
        &self.supervisor.config().name
    }

    async fn offer(&self) -> Result<Arc<Offer>, Unavailable> {
        let offer = async { self.supervisor.link().await?.offer().await };
        offer.await.map_err(|reason| Unavailable { provider: self.name().to_owned(), reason })
    }

    async fn close(&self) {
        self.supervisor.close().await;
    }
}
