//! The server as a whole: built from a configuration, it serves until it is told to stop.

pub mod admin;
pub mod config;
mod error;
mod health;
pub mod listener;
pub mod tls;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;

use crate::acp::AcpAgent;
use crate::agent::{Agent, AgentBackend, ModelRegistry, OpenAiModel};
use crate::auth::{OpenVerifier, TokenFile, TokenVerifier, Verifier};
use crate::engine::{Engine, EngineOptions, EngineParts, SystemClock};
use crate::exec::{ExecutorOptions, Launcher, UnixExecutor, close_inherited_on_exec};
use crate::machine::Settings;
use crate::mcp::McpServer;
use crate::model::limits::{OPEN_REQUEST_BYTES_MAX, OUTPUT_CHUNK_BYTES_MAX, OUTPUT_DELAY_MS};
use crate::rpc::{self, MessageLimits, RequestLayer, RequestOptions, WireCodec};
use crate::store::{CachedStore, SqliteOptions, SqliteStore, Synchronous};
use crate::telemetry::Metrics;
use crate::tool::{self, BuiltInOptions, CallableTool, Registry, ToolProvider, Toolbox};

use config::{AuthMode, Config, Environment, agent, command_tool, mcp_server, model};
pub use error::Error;
use health::Health;
use listener::{Incoming, bind};

/// From TERM to KILL for what still runs when the server stops.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// How long the engine may take to stop, whatever its store and its processes do.
const STOP_MAX: Duration = Duration::from_secs(5);

/// How long the last answers may take once `drain` is over.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// What a program that has callpark inside adds to what the configuration says.
#[derive(Clone, Default)]
pub struct Additions {
    /// Tools.
    pub tools: Vec<Arc<dyn CallableTool>>,
    /// Agents, which sessions name where they would name a model.
    pub agents: Vec<Arc<dyn Agent>>,
}

/// A server that holds its store and its addresses, and doesn't serve yet.
pub struct App {
    engine: Engine,
    incoming: Incoming,
    addresses: Vec<SocketAddr>,
    admin: Option<(TcpListener, SocketAddr)>,
    layer: RequestLayer,
    metrics: Metrics,
    token_file: Option<PathBuf>,
    config: Config,
}

impl App {
    /// Takes what the configuration names: the addresses, the store, the token; and ends what an
    /// older server has left unfinished.
    ///
    /// # Errors
    /// One of them can't be had: each says which, and what to do.
    pub async fn build(config: Config) -> Result<Self, Error> {
        Self::build_with(config, Additions::default()).await
    }

    /// The same with the tools and agents of a program that has callpark inside.
    ///
    /// # Errors
    /// As [`App::build`]; a tool, a model or an agent of this name is there already.
    pub async fn build_with(config: Config, more: Additions) -> Result<Self, Error> {
        // Descriptors that the server was born with are not for its tools.
        close_inherited_on_exec();
        let metrics = Metrics::new(rpc::methods());
        if let Some(folder) = config.working_directory.as_ref().filter(|folder| !folder.is_dir()) {
            return Err(Error::WorkingDirectory(folder.clone()));
        }
        let executor = UnixExecutor::new(ExecutorOptions {
            drain: config.output_drain,
            chunk_bytes_max: OUTPUT_CHUNK_BYTES_MAX,
            chunk_delay: Duration::from_millis(OUTPUT_DELAY_MS),
            niceness: config.tool_niceness,
        });
        let tools = toolbox(&config, more.tools, &executor, &metrics)?;
        let listener_options = config.listener_options()?;
        let listeners = bind(&config.listen, "listen").await?;
        let addresses = addresses(&listeners)?;
        let admin = admin_listener(&config).await?;
        let options =
            SqliteOptions { path: config.data_dir.clone(), synchronous: Synchronous::Full };
        let store = SqliteStore::open(&options, metrics.clone())?;
        let store = CachedStore::new(Arc::new(store), metrics.clone());
        let (verifier, token_file) = verifier(&config)?;
        let models = models(&config, more.agents, &executor, &metrics)?;
        let engine = Engine::new(EngineParts {
            store: Arc::new(store),
            codec: Arc::new(WireCodec),
            executor: Arc::new(executor),
            tools,
            models,
            clock: Arc::new(SystemClock),
            metrics: metrics.clone(),
            options: engine_options(&config),
        });
        engine.recover().await?;
        let read_timeout = config.request_read_timeout;
        let options = RequestOptions { verifier, metrics: metrics.clone(), read_timeout };
        Ok(Self {
            engine,
            incoming: Incoming::new(listeners, listener_options, metrics.clone()),
            addresses,
            admin,
            layer: RequestLayer::new(options),
            metrics,
            token_file,
            config,
        })
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where it answers operators.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|(_, address)| *address)
    }

    /// The file with the token that callers must show; none when it asks for none.
    pub fn token_file(&self) -> Option<&Path> {
        self.token_file.as_deref()
    }

    /// Serves until `stop`, then lets what is under way end: requests and streams within the
    /// configured time, processes within two seconds more.
    ///
    /// # Errors
    /// The transport failed.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Error> {
        let Self { engine, incoming, admin, layer, metrics, config, .. } = self;
        let limits = MessageLimits {
            request_bytes_max: config.max_request.as_usize(),
            response_bytes_max: config.max_response.as_usize(),
        };
        let (health, routes) = Health::beside(rpc::routes(&engine, limits)).await?;
        engine.sweep();
        engine.follow_ups().start_delivery();
        let serving = server(&config)
            .layer(layer)
            .add_routes(with_reflection(routes)?)
            .serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
        let over = CancellationToken::new();
        let drained = async {
            health.follow(&engine, stop.clone()).await;
            engine.drain();
            tokio::time::sleep(config.drain).await;
        };
        let admin = async {
            match admin {
                Some((listener, _)) => {
                    let ready = health.ready();
                    admin::serve(listener, metrics.clone(), ready, over.clone()).await;
                }
                None => over.cancelled().await,
            }
        };
        let main = async {
            let mut serving = std::pin::pin!(serving);
            let served = tokio::select! {
                served = &mut serving => Some(served),
                () = drained => None,
            };
            // What is still waited for is answered while the engine stops: the transport has a
            // moment to send it.
            let last = async {
                match served {
                    Some(served) => served,
                    None => {
                        tokio::time::timeout(LAST_ANSWERS, serving).await.unwrap_or_else(|_| {
                            tracing::warn!("requests were cut: they took longer than `drain`");
                            Ok(())
                        })
                    }
                }
            };
            let stopped = async {
                if tokio::time::timeout(STOP_MAX, engine.stop()).await.is_err() {
                    tracing::warn!("not all work has stopped: what is left is lost");
                }
            };
            let (served, ()) = tokio::join!(last, stopped);
            over.cancel();
            served
        };
        let (served, (), ()) = tokio::join!(main, admin, metrics.upkeep(over.clone()));
        Ok(served?)
    }
}

fn server(config: &Config) -> Server {
    Server::builder()
        .max_concurrent_streams(Some(config.max_streams_per_connection))
        .http2_max_local_error_reset_streams(Some(config.max_local_error_resets))
        .http2_max_header_list_size(Some(config.max_header_list.bytes()))
        .http2_keepalive_interval(Some(config.keepalive_interval))
        .http2_keepalive_timeout(Some(config.keepalive_timeout))
}

/// The services, with both versions of reflection.
fn with_reflection(routes: Routes) -> Result<Routes, Error> {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(callpark_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let v1 = reflection().build_v1()?.max_decoding_message_size(OPEN_REQUEST_BYTES_MAX);
    let v1alpha = reflection().build_v1alpha()?.max_decoding_message_size(OPEN_REQUEST_BYTES_MAX);
    Ok(routes.add_service(v1).add_service(v1alpha))
}

fn addresses(listeners: &[TcpListener]) -> Result<Vec<SocketAddr>, Error> {
    let addresses: Result<Vec<_>, _> = listeners.iter().map(TcpListener::local_addr).collect();
    addresses.map_err(Error::Address)
}

async fn admin_listener(config: &Config) -> Result<Option<(TcpListener, SocketAddr)>, Error> {
    let Some(address) = config.admin_listen else { return Ok(None) };
    let mut listeners = bind(&[address], "admin-listen").await?;
    let Some(listener) = listeners.pop() else { return Ok(None) };
    let address = listener.local_addr().map_err(Error::Address)?;
    Ok(Some((listener, address)))
}

fn verifier(config: &Config) -> Result<(Arc<dyn Verifier>, Option<PathBuf>), Error> {
    match config.auth {
        AuthMode::None => Ok((Arc::new(OpenVerifier::default()), None)),
        AuthMode::Token => {
            let token = TokenFile::load_or_create(&config.token_file)?;
            let verifier = TokenVerifier::new(token.token().clone());
            Ok((Arc::new(verifier), Some(config.token_file.clone())))
        }
    }
}

/// The built-in tools, those of the configuration, more, and those of MCP servers.
fn toolbox(
    config: &Config,
    more_tools: Vec<Arc<dyn CallableTool>>,
    executor: &UnixExecutor,
    metrics: &Metrics,
) -> Result<Toolbox, Error> {
    let built_in = BuiltInOptions {
        call_budget: config.call_budget,
        environment: config.tool_environment.iter().map(|name| name.as_ref().to_owned()).collect(),
    };
    let mut tools = vec![tool::bash(built_in.clone()), tool::python(built_in)];
    for table in &config.tools {
        tools.push(Arc::new(command_tool(table)?));
    }
    tools.extend(more_tools);
    let launcher = launcher(executor);
    let mut providers: Vec<Arc<dyn ToolProvider>> = Vec::new();
    for table in &config.mcp_servers {
        let (config, launcher) = (mcp_server(table)?, launcher.clone());
        providers.push(Arc::new(McpServer::new(config, launcher, metrics.clone())));
    }
    Ok(Toolbox::new(Registry::new(tools)?, providers)?)
}

fn launcher(executor: &UnixExecutor) -> Launcher {
    let environment = Arc::new(Environment::capture().for_tools());
    Launcher { executor: executor.clone(), environment }
}

/// The models and agents of the configuration, and more agents.
fn models(
    config: &Config,
    more_agents: Vec<Arc<dyn Agent>>,
    executor: &UnixExecutor,
    metrics: &Metrics,
) -> Result<ModelRegistry, Error> {
    let mut all: Vec<AgentBackend> = Vec::new();
    for table in &config.models {
        let config = model(table)?;
        let environment = Environment::capture().pick(&config.api_key_environment);
        let model = OpenAiModel::new(config, &environment);
        let model = model.map_err(|reason| table.error(reason))?;
        all.push(AgentBackend::Model(Arc::new(model)));
    }
    let launcher = launcher(executor);
    for table in &config.agents {
        let agent = AcpAgent::new(agent(table)?, launcher.clone(), metrics.clone());
        all.push(Player::Agent(Arc::new(agent)));
    }
    all.extend(more_agents.into_iter().map(AgentBackend::Agent));
    let (default, background) = (config.default_model.clone(), config.background_model.clone());
    ModelRegistry::new(all, default, background).map_err(Error::Models)
}

fn engine_options(config: &Config) -> EngineOptions {
    EngineOptions {
        machine: Settings {
            grace: config.grace,
            retention: config.retention,
            follow_up_delay: config.follow_up_delay,
        },
        running_calls_max: config.max_running_calls,
        live_tasks_default: config.max_live_tasks,
        execution_timeout: config.execution_timeout,
        stop_grace: STOP_GRACE,
        heartbeat: config.heartbeat,
        stream_age: config.stream_age,
        working_directory: config.working_directory.clone(),
        environment: Arc::new(Environment::capture().for_tools()),
        model_retry_delay: config.model_retry_delay,
        agent_call_budget: config.call_budget,
        system_message: config.system_message.clone().unwrap_or_default(),
        session_events_max: config.session_events_max,
        sweep_interval: config.sweep_interval,
    }
}
