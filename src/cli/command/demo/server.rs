//! The demo's server: in this process, with a store in a folder of its own.

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

/// Every request takes at most so long.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(15);
/// Stopping takes at most so long.
const STOP_TIME_MAX: Duration = Duration::from_secs(10);

/// Variables that the demo's server sees: none of ours, so that it is the same for everybody.
const VARIABLES: [&str; 5] = ["PATH", "HOME", "LANG", "TMPDIR", "TZ"];

/// A server that runs, or has been stopped.
pub(super) struct Server {
    /// Where it listens.
    pub(super) endpoint: String,
    /// Where its store is.
    pub(super) folder: PathBuf,
    token: TokenSource,
    running: Option<Running>,
}

struct Running {
    stop: CancellationToken,
    serving: JoinHandle<Result<(), app::Error>>,
}

impl Server {
    /// Starts a server on any free port, with its store and token in `folder`.
    pub(super) async fn start(folder: &Path) -> Result<Self, Failure> {
        let config = config(folder)?;
        let app = App::build(config).await.map_err(|error| failed("start its server", &error))?;
        let address = app.addresses().first().copied();
        let token = app.token_file().map(Path::to_owned);
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let serving = tasks.spawn(app.run(stop.clone()));
        let endpoint = address.map(|address| format!("http://{address}")).unwrap_or_default();
        Ok(Self {
            endpoint,
            folder: folder.to_owned(),
            token: token.map_or(TokenSource::None, TokenSource::File),
            running: Some(Running { stop, serving }),
        })
    }

    /// A client of it.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        Ok(Client::new(ClientOptions {
            endpoint: self.endpoint.clone(),
            token: self.token.clone(),
            deadline: Some(REQUEST_TIME_MAX),
            ..ClientOptions::default()
        })?)
    }

    /// Stops it, if it runs, and waits until it has let go of its store.
    pub(super) async fn stop(&mut self) -> Result<(), Failure> {
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
    pub(super) async fn restart(&mut self) -> Result<(), Failure> {
        self.stop().await?;
        *self = Self::start(&self.folder.clone()).await?;
        Ok(())
    }
}

/// The demo can't do something.
pub(super) fn failed(what: &str, error: &dyn Error) -> Failure {
    Failure::Told { exit: Exit::Config, text: format!("the demo can't {what}: {error}") }
}

fn config(folder: &Path) -> Result<Config, Failure> {
    // An empty one of its own, so that the user's isn't read.
    let file = folder.join("callpark.toml");
    std::fs::write(&file, "").map_err(|error| failed("write its configuration", &error))?;
    let store = folder.join("store");
    let flags =
        [("listen", "127.0.0.1:0"), ("data-dir", &store.to_string_lossy()), ("drain", "2s")];
    let environment = Environment::capture();
    let loaded = Config::load(LoadOptions {
        config_file: Some(file),
        overrides: flags.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        environment: environment.pick(VARIABLES.map(str::to_owned)).into_iter().collect(),
    });
    loaded.map(|loaded| loaded.config).map_err(|error| failed("configure its server", &error))
}
