//! A temporary server of a command: in this process, with a store in a temporary folder.

use std::{
    error::Error,
    path::{Path, PathBuf},
    time::Duration,
};

use callpark_client::{Client, ClientOptions, TokenSource};
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{error::Failure, exit::Exit};
use crate::app::{
    self, Server,
    config::{Config, Environment, LoadOptions},
};

const STOP_TIME_MAX: Duration = Duration::from_secs(10);

/// The variables that every such server sees: none of callpark's, so that it behaves the same for
/// every user.
pub(crate) const VARIABLES: [&str; 5] = ["PATH", "HOME", "LANG", "TMPDIR", "TZ"];

/// The specification of a temporary server.
#[derive(Debug, Clone, Default)]
pub(crate) struct EphemeralServerSpec {
    /// The folder of its store and its configuration file.
    pub(crate) folder: PathBuf,
    /// The content of its configuration file.
    pub(crate) configuration: String,
    /// The names of more environment variables that it sees.
    pub(crate) variables: Vec<String>,
}

impl EphemeralServerSpec {
    /// Returns `true` if the process has a variable of this name that is not empty.
    pub(crate) fn has_variable(name: &str) -> bool {
        Environment::capture().get(name).is_some()
    }

    fn config(&self) -> Result<Config, Failure> {
        // Without a file of its own, the server would read the user's.
        let file = self.folder.join("callpark.toml");
        std::fs::write(&file, &self.configuration)
            .map_err(|error| setup_failed("write the temporary server's configuration", &error))?;
        let store = self.folder.join("store");
        let flags =
            [("listen", "127.0.0.1:0"), ("data-dir", &store.to_string_lossy()), ("drain", "2s")];
        let variables = VARIABLES.map(str::to_owned);
        let variables = variables.into_iter().chain(self.variables.iter().cloned());
        let loaded = Config::load(LoadOptions {
            config_file: Some(file),
            overrides: flags.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            environment: Environment::capture().pick(variables).into_iter().collect(),
        });
        loaded
            .map(|loaded| loaded.config)
            .map_err(|error| setup_failed("configure the temporary server", &error))
    }
}

/// A temporary server that is running or has been stopped.
pub(crate) struct EphemeralServer {
    pub(crate) endpoint: String,
    token: TokenSource,
    running: Option<Running>,
}

struct Running {
    stop: CancellationToken,
    serving: JoinHandle<Result<(), app::Error>>,
}

impl EphemeralServer {
    /// Starts a server on any free port.
    pub(crate) async fn start(spec: EphemeralServerSpec) -> Result<Self, Failure> {
        let server = Server::builder(spec.config()?)
            .build()
            .await
            .map_err(|error| setup_failed("start the temporary server", &error))?;
        let address = server.addresses().first().copied();
        let token = server.token_file().map(Path::to_owned);
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let serving = tasks.spawn(server.run(stop.clone()));
        let endpoint = address.map(|address| format!("http://{address}")).unwrap_or_default();
        Ok(Self {
            endpoint,
            token: token.map_or(TokenSource::None, TokenSource::File),
            running: Some(Running { stop, serving }),
        })
    }

    /// Returns a client of the server, whose requests take at most `deadline`.
    pub(crate) fn client(&self, deadline: Option<Duration>) -> Result<Client, Failure> {
        let options = ClientOptions::new(self.endpoint.clone())
            .with_token(self.token.clone())
            .with_deadline(deadline);
        Ok(Client::new(options)?)
    }

    /// Stops the server if it is running, and waits until it has released its store.
    pub(crate) async fn stop(&mut self) -> Result<(), Failure> {
        let Some(Running { stop, serving }) = self.running.take() else { return Ok(()) };
        stop.cancel();
        let failed = |error: &dyn Error| setup_failed("stop the temporary server", error);
        match timeout(STOP_TIME_MAX, serving).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(error))) => Err(failed(&error)),
            Ok(Err(error)) => Err(failed(&error)),
            Err(error) => Err(failed(&error)),
        }
    }
}

/// Returns the failure of a step that a command with a temporary server needs.
pub(crate) fn setup_failed(step: &str, error: &dyn Error) -> Failure {
    Failure::new(Exit::Config, format!("cannot {step}: {error}"))
}
