//! A server in this process: a free port, a store of its own, a token.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use callpark::agent::Agent;
use callpark::config::{AdvertisedAddress, Environment, LoadOptions};
use callpark::internals::engine::Clock;
use callpark::store::Store;
use callpark::tool::CallableTool;
use callpark::{Config, Server};
use callpark_proto::v1::background_tasks_client::BackgroundTasksClient;
use callpark_proto::v1::tool_runner_client::ToolRunnerClient;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use super::program::Clients;
use super::soon;

/// Settings by name, as flags would give them.
pub type Settings<'a> = &'a [(&'a str, &'a str)];

/// The tools and agents of a program that embeds the server, and its own store and clock.
#[derive(Clone, Default)]
pub struct Additions {
    /// The tools.
    pub tools: Vec<Arc<dyn CallableTool>>,
    /// The agents.
    pub agents: Vec<Arc<dyn Agent>>,
    /// The store, or `None` for a database.
    pub store: Option<Arc<dyn Store>>,
    /// The clock, or `None` for that of the machine.
    pub clock: Option<Arc<dyn Clock>>,
    /// The address at which other servers of its store reach it, or `None` if there are none.
    pub advertise: Option<AdvertisedAddress>,
}

/// Puts the token on every request.
#[derive(Clone)]
pub struct WithToken(pub MetadataValue<Ascii>);

impl tonic::service::Interceptor for WithToken {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// A channel that shows the token.
pub type AuthorisedChannel = InterceptedService<Channel, WithToken>;

/// A running server, stopped on request or when it is dropped.
pub struct TestServer {
    /// Services for tools and sessions.
    pub tools: ToolRunnerClient<AuthorisedChannel>,
    /// Services for background tasks.
    pub tasks: BackgroundTasksClient<AuthorisedChannel>,
    /// A connection without a token.
    pub channel: Channel,
    /// `http://127.0.0.1:PORT`.
    pub endpoint: String,
    /// The address of the operators' page, if `admin-listen` is set.
    pub admin: Option<std::net::SocketAddr>,
    token: String,
    folder: PathBuf,
    settings: Vec<(String, String)>,
    file: Option<PathBuf>,
    more: Additions,
    stop: CancellationToken,
    running: Option<JoinHandle<()>>,
    /// Removed with the server that made it.
    owned: Option<tempfile::TempDir>,
}

impl TestServer {
    /// A server with the defaults.
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// A server with these settings beside the defaults.
    pub async fn with(settings: Settings<'_>) -> Self {
        let folder = super::folder();
        let settings = settings.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        let path = folder.path().to_owned();
        Self::serve(path, settings, None, Additions::default(), Some(folder)).await
    }

    /// A server that also has what this TOML configuration says, such as tools.
    pub async fn with_config(toml: &str, settings: Settings<'_>) -> Self {
        Self::with_config_and(toml, Additions::default(), settings).await
    }

    /// A server that also has these tools.
    pub async fn with_tools(tools: Vec<Arc<dyn CallableTool>>) -> Self {
        Self::with_tools_and(tools, &[]).await
    }

    /// A server that also has these tools, with these settings beside the defaults.
    pub async fn with_tools_and(tools: Vec<Arc<dyn CallableTool>>, settings: Settings<'_>) -> Self {
        Self::with_more(Additions { tools, ..Additions::default() }, settings).await
    }

    /// A server that also has these tools and agents, with these settings beside the defaults.
    pub async fn with_more(more: Additions, settings: Settings<'_>) -> Self {
        let folder = super::folder();
        let path = folder.path().to_owned();
        let settings = settings.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        Self::serve(path, settings, None, more, Some(folder)).await
    }

    /// A server that has all of this.
    pub async fn with_config_and(toml: &str, more: Additions, settings: Settings<'_>) -> Self {
        let folder = super::folder();
        let file = folder.path().join("callpark.toml");
        std::fs::write(&file, toml).expect("written");
        let settings = settings.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        let path = folder.path().to_owned();
        Self::serve(path, settings, Some(file), more, Some(folder)).await
    }

    async fn serve(
        folder: PathBuf,
        settings: Vec<(String, String)>,
        file: Option<PathBuf>,
        more: Additions,
        owned: Option<tempfile::TempDir>,
    ) -> Self {
        let mut config = config(&folder, &settings, file.clone());
        config.advertise.clone_from(&more.advertise);
        let mut builder = Server::builder(config);
        for tool in &more.tools {
            builder = builder.tool(tool.clone());
        }
        for agent in &more.agents {
            builder = builder.agent(agent.clone());
        }
        if let Some(store) = &more.store {
            builder = builder.store(store.clone());
        }
        if let Some(clock) = &more.clock {
            builder = builder.clock(clock.clone());
        }
        let server = builder.build().await.expect("a server");
        let token = std::fs::read_to_string(server.token_file().expect("a token file"));
        let token = token.expect("a token").trim().to_owned();
        let admin = server.admin_address();
        let endpoint = format!("http://{}", server.addresses()[0]);
        let channel = Endpoint::from_shared(endpoint.clone()).expect("an endpoint").connect_lazy();
        let value = format!("Bearer {token}").parse().expect("a header");
        let authorised = InterceptedService::new(channel.clone(), WithToken(value));
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let running = TaskTracker::new().spawn(async move {
            server.run(stopped).await.expect("served");
        });
        Self {
            tools: ToolRunnerClient::new(authorised.clone()).max_decoding_message_size(16 << 20),
            tasks: BackgroundTasksClient::new(authorised).max_decoding_message_size(16 << 20),
            channel,
            endpoint,
            admin,
            token,
            folder,
            settings,
            file,
            more,
            stop,
            running: Some(running),
            owned,
        }
    }

    /// The token that callers show.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Clients on a connection of their own.
    pub fn connect(&self) -> Clients {
        Clients::new(&self.endpoint, &self.token)
    }

    /// The folder of its store.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Sends a GET request to the operators' page, and returns the answer with its head.
    pub async fn http(&self, path: &str) -> String {
        let address = self.admin.expect("an address");
        let answer = async {
            let mut stream = TcpStream::connect(address).await.expect("connected");
            let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.expect("written");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("read");
            answer
        };
        soon(path, answer).await
    }

    /// Stops it, and waits until it has stopped.
    pub async fn stop(&mut self) {
        self.stop.cancel();
        if let Some(running) = self.running.take() {
            soon("the server's stop", running).await.expect("no panic");
        }
    }

    /// Begins to stop it, and doesn't wait.
    pub fn begin_stop(&self) {
        self.stop.cancel();
    }

    /// Stops it and starts another on the same store.
    pub async fn restart(mut self) -> Self {
        self.stop().await;
        let (folder, settings) = (self.folder.clone(), self.settings.clone());
        let (file, owned) = (self.file.clone(), self.owned.take());
        let more = std::mem::take(&mut self.more);
        Self::serve(folder, settings, file, more, owned).await
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(running) = self.running.take() {
            running.abort();
        }
    }
}

fn config(folder: &Path, settings: &[(String, String)], file: Option<PathBuf>) -> Config {
    let mut overrides = vec![
        ("listen".to_owned(), "127.0.0.1:0".to_owned()),
        ("data-dir".to_owned(), folder.display().to_string()),
        ("drain".to_owned(), "2s".to_owned()),
    ];
    overrides.extend_from_slice(settings);
    let environment = Environment::capture();
    let options = LoadOptions { config_file: file, overrides, environment };
    Config::load(options).expect("a configuration").config
}

/// Checks the code and the reason of an error.
#[track_caller]
pub fn check_reason(status: &Status, code: Code, reason: &str) {
    let info = status.get_details_error_info();
    let found = info.as_ref().map(|info| info.reason.as_str());
    assert_eq!((status.code(), found), (code, Some(reason)), "{status:?}");
    assert_eq!(info.map(|info| info.domain), Some("callpark".to_owned()));
}
