//! The start of processes that callpark talks to over their pipes: MCP servers and agents.

use std::sync::Arc;

use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use super::unix::PipedProcess;
use super::{ChildProcessConfig, LastLines, ProcessLife, StartError, UnixExecutor};
use crate::model::{Environment, ProcessSpec};

/// Starts the processes that callpark talks to.
#[derive(Debug, Clone)]
pub struct Launcher {
    /// The executor that starts them.
    pub executor: UnixExecutor,
    /// The variables of callpark that a configuration may let a process see.
    pub environment: Arc<Environment>,
}

/// A process that was started to be talked to.
#[derive(Debug)]
pub struct LaunchedProcess {
    /// The server's end of the standard input.
    pub stdin: Sender,
    /// The server's end of the standard output.
    pub stdout: Receiver,
    /// The process itself. Dropping it kills the process.
    pub life: ProcessLife,
    /// The last lines that the process has written to its standard error.
    pub last_lines: LastLines,
    /// The task that reads the standard error. It ends when all writers have closed it.
    pub stderr_task: JoinHandle<()>,
}

impl Launcher {
    /// Starts a process and a task that reads its standard error, which calls `log` with each line.
    /// Must be called inside a Tokio runtime.
    ///
    /// # Errors
    ///
    /// The reason why the process could not be started, and what to do.
    pub fn launch(
        &self,
        config: &ChildProcessConfig,
        tasks: &TaskTracker,
        log: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<LaunchedProcess, StartError> {
        let spec = ProcessSpec {
            argv: config.argv.clone(),
            working_directory: config.working_directory.clone(),
            environment: config.environment(&self.environment),
            stdin: None,
        };
        let PipedProcess { stdin, stdout, stderr, life } = self.executor.connect(&spec)?;
        let last_lines = LastLines::default();
        let lines = last_lines.clone();
        let stderr_task = tasks.spawn(async move { lines.follow(stderr, log).await });
        Ok(LaunchedProcess { stdin, stdout, life, last_lines, stderr_task })
    }
}
