//! The start of a server: from its configuration to a connection with a catalog.

use std::sync::Arc;

use rmcp::service::{
    ClientCacheConfig, ClientInitializeError, ClientLifecycleMode, RoleClient,
    serve_client_with_lifecycle,
};
use rmcp::transport::Transport;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::config::ServerConfig;
use super::connection::{CLOSE_TIMEOUT, ConnectionParts, ServerConnection};
use super::convert::handshake_error;
use super::handler::McpClientHandler;
use super::negotiate::negotiate;
use super::notifications::ObservedTransport;
use super::pipes::Pipes;
use super::remote;
use super::running_server::RunningServer;
use super::unreadable::Unreadable;
use crate::exec::{FirstError, LastLines, LaunchedProcess, Launcher, ProcessLife, describe_exit};
use crate::telemetry::Metrics;

/// Starts a server or connects to its URL, and fetches its catalog. The error is the end of a
/// sentence.
pub(super) async fn open(
    config: &Arc<ServerConfig>,
    launcher: &Launcher,
    metrics: &Metrics,
    tasks: &TaskTracker,
) -> Result<(Arc<RunningServer>, ConnectionParts), String> {
    let limit = config.start_timeout();
    let unreadable = Unreadable::new(&config.name, metrics);
    let opening = async {
        let parts = match &config.url {
            Some(url) => remote::connect(config, url, unreadable).await?,
            None => start(config, launcher, tasks, &unreadable).await?,
        };
        let connection = ServerConnection::new(config, &parts);
        // The catalog is kept until it changes. rmcp's own cache, which expires by time, would
        // answer with a catalog from before a change.
        connection.peer.set_response_cache_config(ClientCacheConfig::disabled()).await;
        let server = Arc::new(RunningServer::new(connection));
        server.catalog().await?;
        Ok((server, parts))
    };
    timeout(limit, opening).await.unwrap_or_else(|_| {
        Err(format!("it was not ready {limit:?} after its start (start_timeout)"))
    })
}

/// Starts a process and completes the handshake.
async fn start(
    config: &ServerConfig,
    launcher: &Launcher,
    tasks: &TaskTracker,
    unreadable: &Unreadable,
) -> Result<ConnectionParts, String> {
    let mut process = launch(config, launcher, tasks, unreadable)?;
    let negotiated = tokio::select! {
        negotiated = negotiate(&mut process.transport, config.discover_timeout()) => negotiated,
        _ = process.life.ended() => None,
    };
    let lifecycle = match negotiated {
        Some(lifecycle) => lifecycle,
        None => {
            // An older server may exit because of the discovery, so the second start initializes it.
            // If it exits again, the second start fails with the reason.
            process.life.end().await;
            process = launch(config, launcher, tasks, unreadable)?;
            ClientLifecycleMode::Initialize
        }
    };
    shake_hands(process, lifecycle).await
}

/// A process of a server, before the handshake.
struct McpProcess<T> {
    transport: ObservedTransport<T>,
    life: ProcessLife,
    stderr_task: JoinHandle<()>,
    first_error: FirstError,
    last_lines: LastLines,
}

fn launch(
    config: &ServerConfig,
    launcher: &Launcher,
    tasks: &TaskTracker,
    unreadable: &Unreadable,
) -> Result<McpProcess<impl Transport<RoleClient> + use<>>, String> {
    let server = config.name.clone();
    let log = move |line: &str| tracing::debug!(server, line, "an MCP server wrote a line");
    let launched = launcher.launch(&config.process(), tasks, log);
    let LaunchedProcess { stdin, stdout, life, last_lines, stderr_task } =
        launched.map_err(|error| error.to_string())?;
    let first_error = FirstError::default();
    let pipes = Pipes::new(stdout, stdin, unreadable.clone(), first_error.clone());
    let transport = ObservedTransport::new(pipes);
    Ok(McpProcess { transport, life, stderr_task, first_error, last_lines })
}

async fn shake_hands<T: Transport<RoleClient> + 'static>(
    process: McpProcess<T>,
    lifecycle: ClientLifecycleMode,
) -> Result<ConnectionParts, String> {
    let McpProcess { transport, life, stderr_task, first_error, last_lines } = process;
    let (notifications, silent) = (transport.notifications.clone(), transport.silent.clone());
    let handler = McpClientHandler::default();
    let served = tokio::select! {
        served = serve_client_with_lifecycle(handler, transport, lifecycle) => served,
        // The last lines say more than a closed connection.
        exit = life.ended() => {
            let _read = stderr_task.await;
            return Err(format!("it ended with {}{}", describe_exit(exit), last_lines.suffix()));
        }
    };
    let error = match served {
        Ok(service) => {
            let life = Some(life);
            return Ok(ConnectionParts {
                service,
                notifications,
                silent,
                life,
                first_error,
                last_lines,
            });
        }
        Err(error) => error,
    };
    let is_silent = matches!(
        error,
        ClientInitializeError::ConnectionClosed(_) | ClientInitializeError::TransportError { .. }
    );
    let reason = match first_error.get() {
        Some(error) => error,
        // The process is probably about to end, and its exit says more.
        None if is_silent => match timeout(CLOSE_TIMEOUT, life.ended()).await {
            Ok(exit) => format!("it ended with {}", describe_exit(exit)),
            Err(_) => handshake_error(&error),
        },
        None => handshake_error(&error),
    };
    life.end().await;
    // The end of the process has closed its standard error.
    let _read = timeout(CLOSE_TIMEOUT, stderr_task).await;
    Err(format!("{reason}{}", last_lines.suffix()))
}
