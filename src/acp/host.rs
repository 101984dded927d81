//! The parts that all processes of one agent share.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::config::AgentConfig;
use super::slot::Slots;
use super::tool_server::ToolServer;
use crate::exec::Launcher;
use crate::telemetry::Metrics;

/// The parts that all processes of one agent share.
pub(super) struct AgentHost {
    pub(super) config: AgentConfig,
    pub(super) launcher: Launcher,
    pub(super) metrics: Metrics,
    /// The program `callpark`, as the bridge to its tools, or `None` if another program runs the
    /// server.
    pub(super) bridge: Option<PathBuf>,
    pub(super) tools: ToolServer,
    pub(super) tasks: TaskTracker,
    pub(super) closing: CancellationToken,
    /// A permit for each process. It is held until the process has ended.
    pub(super) process_permits: Arc<Semaphore>,
    pub(super) slots: Slots,
}

impl AgentHost {
    pub(super) fn new(
        config: AgentConfig,
        launcher: Launcher,
        metrics: Metrics,
        bridge: Option<PathBuf>,
    ) -> Self {
        let process_permits = Arc::new(Semaphore::new(config.max_processes()));
        Self {
            config,
            launcher,
            tools: ToolServer::new(metrics.clone()),
            metrics,
            bridge,
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            process_permits,
            slots: Slots::default(),
        }
    }
}
