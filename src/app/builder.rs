//! The builder of a server.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;

use super::access::Access;
use super::config::{AuthMode, Config, ConfigError, Environment, ListenAddress};
use super::error::Error;
use super::listener::{Incoming, Listener, ListenerOptions, bind, bind_tcp};
use super::replicas::forwarder;
use super::secrets::remember_secrets;
use super::server::Server;
use super::shim::{executor_options, shim_program};
use super::store::{OpenedStore, open_store};
use super::tls::{ServerTls, TlsFiles, TlsRenewal};
use crate::agent::{Agent, AgentBackend, ModelRegistry};
use crate::auth::GuardedFile;
use crate::engine::{Clock, Engine, EngineOptions, EngineParts, SystemClock};
use crate::exec::{
    LocalRunner, Runner, ShimRunner, UnixExecutor, check_proc, close_inherited_on_exec,
    restore_ignored_signals,
};
use crate::machine::Settings;
use crate::model::Grants;
use crate::model::limits::RUNNING_CALLS_PER_CORE;
use crate::quota::Quotas;
use crate::rpc::{self, RequestLayer, RequestOptions, WireCodec};
use crate::store::{CachedStore, REPLICA_RUNS_KEPT, Store};
use crate::telemetry::Metrics;
use crate::tool::{
    self, BuiltInOptions, CallableTool, CommandTool, Registry, ToolProvider, Toolbox,
};

/// The time between TERM and KILL for processes that still run when the server stops.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// A builder of a [`Server`]: a configuration, and what a program adds to it.
#[must_use = "a server is created by `build`"]
pub struct ServerBuilder {
    config: Config,
    store: Option<Arc<dyn Store>>,
    tools: Vec<Arc<dyn CallableTool>>,
    agents: Vec<Arc<dyn Agent>>,
    bridge: Option<PathBuf>,
    shim: Option<PathBuf>,
    clock: Arc<dyn Clock>,
}

impl Server {
    /// Creates a builder of a server with this configuration.
    pub fn builder(config: Config) -> ServerBuilder {
        ServerBuilder {
            config,
            store: None,
            tools: Vec::new(),
            agents: Vec::new(),
            bridge: None,
            shim: None,
            clock: Arc::new(SystemClock),
        }
    }
}

impl ServerBuilder {
    /// Sets the store. Without one, it is the one that the setting `store` names.
    pub fn store(mut self, store: Arc<dyn Store>) -> Self {
        self.store = Some(store);
        self
    }

    /// Adds a tool, such as one that [`FunctionTool::run`](tool::FunctionTool::run) returns.
    pub fn tool(mut self, tool: Arc<dyn CallableTool>) -> Self {
        self.tools.push(tool);
        self
    }

    /// Adds an agent, which sessions name as they name a model.
    pub fn agent(mut self, agent: Arc<dyn Agent>) -> Self {
        self.agents.push(agent);
        self
    }

    /// Sets the path of a program `callpark`, through which agents that don't support MCP over HTTP
    /// reach callpark's tools. Without it, such agents don't have them.
    pub fn bridge(mut self, program: PathBuf) -> Self {
        self.bridge = Some(program);
        self
    }

    /// Sets the path of a program `callpark` that owns the processes of calls, so that they outlive this
    /// server and the next one adopts them. Without it, processes are children of this program and end
    /// with it. A server with a store of the program's own has none.
    pub fn shim(mut self, program: PathBuf) -> Self {
        self.shim = Some(program);
        self
    }

    /// Sets the clock, for tests.
    #[doc(hidden)]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Builds the server: takes its addresses, opens its store, reads or creates its token, and
    /// records the calls that an earlier server left unfinished as lost.
    ///
    /// # Errors
    /// The configuration is wrong, an address, the store or the token cannot be used, or two tools,
    /// models or agents have one name.
    pub async fn build(self) -> Result<Server, Error> {
        let Self { mut config, store, tools, agents, bridge, shim, clock } = self;
        prepare(&mut config, store.is_some())?;
        let metrics = Metrics::new(rpc::methods());
        let executor =
            UnixExecutor::new(executor_options(config.output_drain, config.tool_niceness));
        let tools = toolbox(&config, tools, &executor, &metrics)?;
        let (listener_options, listener_tls) = listener_options(&config)?;
        let listeners = bind(&config.listen, config.socket_mode, "listen").await?;
        let (addresses, sockets) = places(&listeners)?;
        let admin = admin_listener(&config).await?;
        let mut data_lock = None;
        let (store, runner, store_kind) = match store {
            Some(store) => (store, local_runner(&executor), "custom"),
            None => {
                let port = addresses.first().map_or(0, SocketAddr::port);
                let OpenedStore { store, kind, lock } = open_store(&config, port, &metrics).await?;
                // The folder is locked: no other server has it.
                let runner = own_runner(&config, &executor, shim).await?;
                executor.reap_orphans();
                data_lock = lock;
                (store, runner, kind)
            }
        };
        let access = Access::open(&config, &metrics, &clock)?;
        let quotas = quotas(&config, &metrics);
        let external = acp_agents(&config, &executor, &metrics, bridge.as_ref());
        let models = models(&config, external, agents)?;
        let (forwarder, forwarder_tls) = forwarder(&config, store.as_ref())?.unzip();
        let engine = Engine::new(EngineParts {
            store: Arc::new(CachedStore::new(store, metrics.clone())),
            codec: Arc::new(WireCodec),
            runner,
            tools,
            models,
            clock: clock.clone(),
            metrics: metrics.clone(),
            peers: forwarder.clone().map(|forwarder| Arc::new(forwarder) as _),
            quotas: quotas.clone(),
            options: engine_options(&config),
        });
        engine.recover().await?;
        let layer = RequestLayer::new(RequestOptions {
            verifiers: access.verifiers(),
            clock,
            metrics: metrics.clone(),
            quotas,
            read_timeout: config.request_read_timeout,
            forwarder: forwarder.clone(),
            audit: access.audit(),
        });
        Ok(Server {
            engine,
            incoming: Incoming::new(listeners, listener_options, metrics.clone()),
            addresses,
            sockets,
            admin,
            layer,
            forwarder,
            ready: watch::Sender::new(false),
            metrics,
            access,
            listener_tls,
            forwarder_tls: forwarder_tls.flatten(),
            store: store_kind,
            data_lock,
            config,
        })
    }
}

fn quotas(config: &Config, metrics: &Metrics) -> Quotas {
    Quotas::new(config.tenant_limits.clone(), metrics.clone())
}

/// Fills in the settings whose defaults depend on the machine, and checks all of them.
fn complete(config: &mut Config, has_store: bool) -> Result<(), Error> {
    let needs_token_file = config.auth == AuthMode::Token && config.token_file.is_none();
    let (_, errors) = config.derive(&Environment::capture());
    if !errors.is_empty() && (needs_token_file || !has_store) {
        return Err(ConfigError { errors }.into());
    }
    config.check_with(has_store)?;
    remember_secrets(config, &Environment::capture());
    match config.working_directory.as_ref().filter(|folder| !folder.is_dir()) {
        Some(folder) => Err(Error::WorkingDirectory(folder.clone())),
        None => Ok(()),
    }
}

/// Returns the addresses of the network and the paths of the sockets that take gRPC.
fn places(listeners: &[Listener]) -> Result<(Vec<SocketAddr>, Vec<PathBuf>), Error> {
    let addresses: Result<Vec<_>, _> =
        listeners.iter().filter_map(|listener| listener.address().transpose()).collect();
    let files = listeners.iter().filter_map(Listener::socket_file);
    Ok((addresses.map_err(Error::Address)?, files.map(|file| file.path().to_owned()).collect()))
}

/// Refuses folders in which other users could replace a file of the server.
fn check_folders(config: &Config, has_store: bool) -> Result<(), Error> {
    let data = config.data_dir.as_deref().filter(|_| !has_store);
    if let Some(path) = data {
        // A path that ends in `.db` is that of the database itself.
        let is_database = path.extension().is_some_and(|extension| extension == "db");
        let folder = if is_database { path.parent().unwrap_or(path) } else { path };
        GuardedFile::DataFolder.check_path(folder)?;
    }
    for address in &config.listen {
        if let ListenAddress::Unix(socket) = address {
            GuardedFile::SocketFolder.check_path(socket.parent().unwrap_or(Path::new("/")))?;
        }
    }
    Ok(())
}

fn local_runner(executor: &UnixExecutor) -> Arc<dyn Runner> {
    Arc::new(LocalRunner::new(Arc::new(executor.clone())))
}

/// Returns the runner of a server that holds the lock of its data folder.
async fn own_runner(
    config: &Config,
    executor: &UnixExecutor,
    shim: Option<PathBuf>,
) -> Result<Arc<dyn Runner>, Error> {
    let data = config.data_dir.as_deref().unwrap_or(Path::new(""));
    executor.record_in(data);
    let Some(program) = shim else { return Ok(local_runner(executor)) };
    let program = shim_program(program, config, data);
    // A replica has just taken its lease.
    let keep_for = config.advertise.is_some().then_some(REPLICA_RUNS_KEPT);
    Ok(Arc::new(ShimRunner::open(program, executor.clone(), keep_for).await?))
}

async fn admin_listener(config: &Config) -> Result<Option<(TcpListener, SocketAddr)>, Error> {
    let Some(address) = &config.admin_listen else { return Ok(None) };
    // Of a name with several addresses, one is enough for operators.
    let listeners = bind_tcp(address, "admin-listen").await?;
    let Some(listener) = listeners.into_iter().next() else { return Ok(None) };
    let address = listener.local_addr().map_err(Error::Address)?;
    Ok(Some((listener, address)))
}

/// Returns the built-in tools, those of the configuration and of the program, and the MCP servers.
fn toolbox(
    config: &Config,
    program_tools: Vec<Arc<dyn CallableTool>>,
    executor: &UnixExecutor,
    metrics: &Metrics,
) -> Result<Toolbox, Error> {
    let built_in = BuiltInOptions {
        call_budget: config.call_budget,
        environment: config.tool_environment.iter().map(|name| name.as_ref().to_owned()).collect(),
    };
    let mut tools = vec![tool::bash(built_in.clone()), tool::python(built_in)];
    for config in &config.tools {
        let tool = CommandTool::new(config.clone());
        tools.push(Arc::new(
            tool.map_err(|e| Error::unusable("tools", &config.name, e.to_string()))?,
        ));
    }
    tools.extend(program_tools);
    Ok(Toolbox::new(Registry::new(tools)?, mcp_servers(config, executor, metrics))?)
}

#[cfg(any(feature = "acp", feature = "mcp"))]
fn launcher(executor: &UnixExecutor) -> crate::exec::Launcher {
    let environment = Arc::new(Environment::capture().for_tools());
    crate::exec::Launcher { executor: executor.clone(), environment }
}

#[cfg(feature = "mcp")]
fn mcp_servers(
    config: &Config,
    executor: &UnixExecutor,
    metrics: &Metrics,
) -> Vec<Arc<dyn ToolProvider>> {
    let (launcher, permits) = (launcher(executor), crate::mcp::StartPermits::default());
    let server = |config: &crate::mcp::ServerConfig| -> Arc<dyn ToolProvider> {
        let (launcher, metrics) = (launcher.clone(), metrics.clone());
        Arc::new(crate::mcp::McpServer::new(config.clone(), launcher, metrics, &permits))
    };
    config.mcp_servers.iter().map(server).collect()
}

#[cfg(not(feature = "mcp"))]
fn mcp_servers(_: &Config, _: &UnixExecutor, _: &Metrics) -> Vec<Arc<dyn ToolProvider>> {
    Vec::new()
}

/// Returns the models and agents of the configuration, and the agents of the program.
fn models(
    config: &Config,
    acp_agents: Vec<AgentBackend>,
    program_agents: Vec<Arc<dyn Agent>>,
) -> Result<ModelRegistry, Error> {
    let mut all = openai_models(config)?;
    all.extend(acp_agents);
    all.extend(program_agents.into_iter().map(AgentBackend::Agent));
    let (default, background) = (config.default_model.clone(), config.background_model.clone());
    ModelRegistry::new(all, default, background).map_err(Error::Models)
}

#[cfg(feature = "openai")]
fn openai_models(config: &Config) -> Result<Vec<AgentBackend>, Error> {
    let model = |config: &crate::agent::ModelConfig| {
        let environment = Environment::capture().pick(config.environment_names());
        let model = crate::agent::OpenAiModel::new(config.clone(), &environment);
        let model = model.map_err(|reason| Error::unusable("models", &config.name, reason))?;
        Ok(AgentBackend::Model(Arc::new(model)))
    };
    config.models.iter().map(model).collect()
}

#[cfg(not(feature = "openai"))]
fn openai_models(_: &Config) -> Result<Vec<AgentBackend>, Error> {
    Ok(Vec::new())
}

#[cfg(feature = "acp")]
fn acp_agents(
    config: &Config,
    executor: &UnixExecutor,
    metrics: &Metrics,
    bridge: Option<&PathBuf>,
) -> Vec<AgentBackend> {
    let launcher = launcher(executor);
    let agent = |config: &crate::acp::AgentConfig| {
        let (launcher, metrics) = (launcher.clone(), metrics.clone());
        let agent = crate::acp::AcpAgent::new(config.clone(), launcher, metrics, bridge.cloned());
        AgentBackend::Agent(Arc::new(agent))
    };
    config.agents.iter().map(agent).collect()
}

#[cfg(not(feature = "acp"))]
fn acp_agents(_: &Config, _: &UnixExecutor, _: &Metrics, _: Option<&PathBuf>) -> Vec<AgentBackend> {
    Vec::new()
}

/// Checks what a server needs before anything of it is there, and keeps from its tools what its parent has
/// left to it.
fn prepare(config: &mut Config, has_store: bool) -> Result<(), Error> {
    complete(config, has_store)?;
    check_folders(config, has_store)?;
    check_proc()?;
    // Neither descriptors nor ignored signals of the parent are for tools.
    close_inherited_on_exec();
    restore_ignored_signals();
    Ok(())
}

/// Returns the bounds of the listeners, and their TLS, or `None` if they have none.
fn listener_options(config: &Config) -> Result<(ListenerOptions, Option<ServerTls>), Error> {
    let renewal = config.tls_files().map(TlsFiles::serve).transpose()?;
    let tls = renewal.as_ref().map(TlsRenewal::subscribe);
    Ok((ListenerOptions { tls, ..config.listener_options() }, renewal))
}

fn engine_options(config: &Config) -> EngineOptions {
    EngineOptions {
        machine: Settings {
            grace: config.grace,
            retention: config.retention,
            follow_up_delay: config.follow_up_delay,
            run_owner: None,
        },
        running_calls_max: config.max_running_calls.unwrap_or(RUNNING_CALLS_PER_CORE),
        live_tasks_default: config.max_live_tasks,
        execution_timeout: config.execution_timeout,
        stop_grace: STOP_GRACE,
        stop_runs: config.stop_runs,
        heartbeat: config.heartbeat,
        stream_age: config.stream_age,
        working_directory: config.working_directory.clone(),
        environment: Arc::new(Environment::capture().for_tools()),
        model_retry_delay: config.model_retry_delay,
        agent_call_budget: config.call_budget,
        system_message: config.system_message.clone().unwrap_or_default(),
        session_events_max: config.session_events_max,
        sweep_interval: config.sweep_interval,
        grants: Grants::new(config.grants.clone()),
    }
}
