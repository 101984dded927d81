//! The server of the demo: a process of its own, so that it can be killed.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use callpark_client::{Client, ClientOptions, TokenSource};
use tokio_util::task::TaskTracker;

use crate::{
    app::config::Environment,
    cli::{
        ephemeral_server::{VARIABLES, setup_failed},
        error::Failure,
    },
    exec::{ChildProcessConfig, ExecutorOptions, LaunchedProcess, Launcher, UnixExecutor},
    model::limits::OUTPUT_CHUNK_BYTES_MAX,
};

/// The maximum time until the server serves.
const START_TIME_MAX: Duration = Duration::from_secs(10);

/// The maximum time for the server to stop after it was asked to.
const STOP_TIME_MAX: Duration = Duration::from_secs(5);

/// The interval of the questions whether the server serves.
const START_CHECK: Duration = Duration::from_millis(20);

/// A server in a temporary folder, which is running, stopped or killed.
pub(super) struct DemoServer {
    folder: PathBuf,
    launcher: Launcher,
    /// The readers of what the server says.
    tasks: TaskTracker,
    process: Option<LaunchedProcess>,
}

impl DemoServer {
    /// Creates a server that has all its files in this folder, and starts it.
    pub(super) async fn start(folder: &Path) -> Result<Self, Failure> {
        let configuration = format!(
            "listen = [\"unix:{}\"]\ndata_dir = \"{}\"\ndrain = \"1s\"\nstop_runs = true\n",
            folder.join("socket").display(),
            folder.join("store").display()
        );
        std::fs::write(folder.join("callpark.toml"), configuration)
            .map_err(|error| setup_failed("write the configuration of the demo", &error))?;
        let variables = Environment::capture().pick(VARIABLES);
        let executor = UnixExecutor::new(ExecutorOptions {
            drain: Duration::ZERO,
            chunk_bytes_max: OUTPUT_CHUNK_BYTES_MAX,
            chunk_delay: Duration::ZERO,
            niceness: 0,
        });
        let mut server = Self {
            folder: folder.to_owned(),
            launcher: Launcher { executor, environment: Arc::new(variables) },
            tasks: TaskTracker::new(),
            process: None,
        };
        server.start_process().await?;
        Ok(server)
    }

    /// Returns the address.
    pub(super) fn endpoint(&self) -> String {
        format!("unix:{}", self.folder.join("socket").display())
    }

    /// Returns the process id, or 0 if the server is not running.
    pub(super) fn pid(&self) -> u32 {
        self.process.as_ref().map_or(0, |process| process.life.pid())
    }

    /// Starts the process, and waits until it serves.
    pub(super) async fn start_process(&mut self) -> Result<(), Failure> {
        let failed = |error: &dyn std::error::Error| setup_failed("start the server", error);
        let file = self.folder.join("callpark.toml").display().to_string();
        let program = Environment::own_program().display().to_string();
        let argv = vec![program, "serve".to_owned(), "--config".to_owned(), file];
        let environment = VARIABLES.map(str::to_owned).into();
        let config = ChildProcessConfig { argv, environment, ..ChildProcessConfig::default() };
        let process = self.launcher.launch(&config, &self.tasks, |_| {});
        let process = process.map_err(|error| failed(&error))?;
        let lines = process.last_lines.clone();
        self.process = Some(process);
        let serves = tokio::time::timeout(START_TIME_MAX, self.until_serving()).await;
        serves.map_err(|_| {
            let said = std::io::Error::other(format!("it does not serve{}", lines.suffix()));
            failed(&said)
        })?
    }

    async fn until_serving(&self) -> Result<(), Failure> {
        let client = self.client(Some(START_TIME_MAX))?;
        while !matches!(client.is_serving().await, Ok(true)) {
            tokio::time::sleep(START_CHECK).await;
        }
        Ok(())
    }

    /// Returns a client of the server, whose requests take at most `deadline`.
    pub(super) fn client(&self, deadline: Option<Duration>) -> Result<Client, Failure> {
        let options = ClientOptions::new(self.endpoint())
            .with_token(TokenSource::File(self.folder.join("store").join("token")))
            .with_deadline(deadline);
        Ok(Client::new(options)?)
    }

    /// Kills the server with `kill -9`.
    pub(super) async fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.life.kill().await;
        }
    }

    /// Stops the server with all that it runs, also if it was killed.
    pub(super) async fn stop(&mut self) -> Result<(), Failure> {
        if self.process.is_none() {
            self.start_process().await?;
        }
        if let Some(process) = self.process.take() {
            process.life.terminate(STOP_TIME_MAX).await;
        }
        self.tasks.close();
        self.tasks.wait().await;
        Ok(())
    }
}
