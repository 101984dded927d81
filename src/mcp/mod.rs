//! Tools of MCP servers: processes that are talked to over their pipes, and servers at a URL.
//!
//! A server is started when somebody asks for one of its tools, and again when it has died, after a
//! while that doubles. Its tools are named `<server>__<tool>`. What it does wrong is the reason of
//! the calls that meet it, and of nothing else: a server that hangs, talks nonsense or dies costs its
//! own calls only.

mod call;
mod catalog;
mod config;
mod connection;
mod convert;
mod handler;
mod negotiate;
mod notifications;
mod open;
mod remote;
mod remote_task;
mod subscriptions;
mod supervisor;

use std::sync::Arc;

use async_trait::async_trait;

use crate::exec::Launcher;
use crate::telemetry::Metrics;
use crate::tool::{Catalog, ProviderUnavailable, ToolProvider};

pub use config::ServerConfig;
use supervisor::Supervisor;

/// An MCP server, as a provider of tools.
pub struct McpServer {
    supervisor: Arc<Supervisor>,
}

impl McpServer {
    /// A server that nobody has asked for yet.
    pub fn new(config: ServerConfig, launcher: Launcher, metrics: Metrics) -> Self {
        Self { supervisor: Arc::new(Supervisor::new(config, launcher, metrics)) }
    }
}

#[async_trait]
impl ToolProvider for McpServer {
    fn name(&self) -> &str {
        &self.supervisor.config().name
    }

    async fn catalog(&self) -> Result<Arc<Catalog>, ProviderUnavailable> {
        let catalog = async { self.supervisor.connection().await?.catalog().await };
        catalog
            .await
            .map_err(|reason| ProviderUnavailable { provider: self.name().to_owned(), reason })
    }

    async fn close(&self) {
        self.supervisor.close().await;
    }
}
