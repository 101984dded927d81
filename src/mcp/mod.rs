//! Tools of MCP servers: processes that callpark talks to over their pipes, and servers at a URL.
//!
//! A server is started when one of its tools is first asked for, and again after it has ended, with
//! a pause that doubles. Its tools are named `<server>__<tool>`. A server that hangs, exits or sends
//! invalid messages fails only its own calls.

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
    /// Creates a server that is started on first use.
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
        let catalog = async { self.supervisor.server().await?.catalog().await };
        catalog
            .await
            .map_err(|reason| ProviderUnavailable { provider: self.name().to_owned(), reason })
    }

    async fn close(&self) {
        self.supervisor.close().await;
    }
}
