//! A server of a command's own: in this process, with a store in a folder of its own.

use std::{
    error::Error,
    path::{Path, PathBuf},
    time::Duration,
};

use callpark_client::{Client, ClientOptions, TokenSource};
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    app::{
        self, App,
        config::{Config, Environment, LoadOptions},
    },
    cli::{exit::Exit, failure::Failure},
};

/// Stopping takes at most so long.
const STOP_TIME_MAX: Duration = Duration::from_secs(10);

/// Variables that the server sees: none of ours, so that it is the same for everybody.
const VARIABLES: [&str; 5] = ["PATH", "HOME", "LANG", "TMPDIR", "TZ"];

/// What such a server is to be.
#[derive(Debug, Clone, Default)]
pub(crate) struct OwnServer {
    /// Where its store goes.
    pub(crate) folder: PathBuf,
    /// What its configuration file says.
    pub(crate) configuration: String,
    /// More variables that it sees.
    pub(crate) variables: Vec<String>,
}

impl OwnServer {
    /// Whether the process has a variable of this name that isn't empty.
    pub(crate) fn has_variable(name: &str) -> bool {
        Environment::capture().get(name).is_some()
    }
}

/// A server that runs, or has been stopped.
pub(crate) struct Server {
    /// Where it listens.
    pub(crate) endpoint: String,
    /// What it is.
    pub(crate) own: OwnServer,
    token: TokenSource,
    running: Option<Running>,
}

struct Running {
    stop: CancellationToken,
    serving: JoinHandle<Result<(), app::Error>>,
}

impl Server {
    /// Starts a server on any free port.
    pub(crate) async fn start(own: OwnServer) -> Result<Self, Failure> {
        let config = config(&own)?;
        let app = App::build(config).await.map_err(|error| failed("start its server", &error))?;
        let address = app.addresses().first().copied();
        let token = app.token_file().map(Path::to_owned);
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let serving = tasks.spawn(app.run(stop.clone()));
        let endpoint = address.map(|address| format!("http://{address}")).unwrap_or_default();
        Ok(Self {
            endpoint,
            own,
            token: token.map_or(TokenSource::None, TokenSource::File),
            running: Some(Running { stop, serving }),
        })
    }

    /// A client of it, whose requests take at most so long.
    pub(crate) fn client(&self, deadline: Option<Duration>) -> Result<Client, Failure> {
        let options = ClientOptions::new(self.endpoint.clone())
            .with_token(self.token.clone())
            .with_deadline(deadline);
        Ok(Client::new(options)?)
    }

    /// Stops it, if it runs, and waits until it has let go of its store.
    pub(crate) async fn stop(&mut self) -> Result<(), Failure> {
        let Some(Running { stop, serving }) = self.running.take() else { return Ok(()) };
        stop.cancel();
        match timeout(STOP_TIME_MAX, serving).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(error))) => Err(failed("stop its server", &error)),
            Ok(Err(error)) => Err(failed("stop its server", &error)),
            Err(error) => Err(failed("stop its server", &error)),
        }
    }

    /// Stops it and starts another one with the same store.
    pub(crate) async fn restart(&mut self) -> Result<(), Failure> {
        self.stop().await?;
        *self = Self::start(self.own.clone()).await?;
        Ok(())
    }
}

/// The command can't do something that it needs for its server.
pub(crate) fn failed(what: &str, error: &dyn Error) -> Failure {
    Failure::Told { exit: Exit::Config, text: format!("the command can't {what}: {error}") }
}

fn config(own: &OwnServer) -> Result<Config, Failure> {
    // A file of its own, so that the user's isn't read.
    let file = own.folder.join("callpark.toml");
    std::fs::write(&file, &own.configuration)
        .map_err(|error| failed("write its configuration", &error))?;
    let store = own.folder.join("store");
    let flags =
        [("listen", "127.0.0.1:0"), ("data-dir", &store.to_string_lossy()), ("drain", "2s")];
    let environment = Environment::capture();
    let variables = VARIABLES.map(str::to_owned).into_iter().chain(own.variables.iter().cloned());
    let loaded = Config::load(LoadOptions {
        config_file: Some(file),
        overrides: flags.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        environment: environment.pick(variables).into_iter().collect(),
    });
    loaded.map(|loaded| loaded.config).map_err(|error| failed("configure its server", &error))
}
