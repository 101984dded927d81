//! From the configuration of a server to a connection.

use std::sync::Arc;

use rmcp::service::{
    ClientCacheConfig, ClientInitializeError, ClientLifecycleMode, RoleClient,
    serve_client_with_lifecycle,
};
use rmcp::transport::Transport;
use rmcp::transport::async_rw::AsyncRwTransport;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::config::ServerConfig;
use super::connection::{ConnectionParts, LAST_WORDS, ServerConnection};
use super::convert::root_cause;
use super::handler::McpClientHandler;
use super::negotiate::ask;
use super::notifications::ObservedTransport;
use crate::exec::{
    BoundedLines, FirstError, LINE_BYTES_MAX, LastLines, LaunchedProcess, Launcher, ProcessLife,
    describe_exit,
};

/// Starts or reaches the server, and learns what it offers. An error says, as the end of a sentence,
/// why there is none.
pub(super) async fn open(
    config: &Arc<ServerConfig>,
    launcher: &Launcher,
    tasks: &TaskTracker,
) -> Result<(Arc<ServerConnection>, ConnectionParts), String> {
    let limit = config.start_timeout();
    let opening = async {
        let running = match &config.url {
            Some(url) => super::remote::reach(config, url).await?,
            None => start(config, launcher, tasks).await?,
        };
        let connection = ServerConnection::new(config, &running);
        // The connection remembers what it offers until it changes. A memory below it, by the clock, would
        // answer with what was there before the change, and for a server that says nothing.
        connection.peer.set_response_cache_config(ClientCacheConfig::disabled()).await;
        connection.catalog().await?;
        Ok((connection, running))
    };
    timeout(limit, opening).await.unwrap_or_else(|_| {
        Err(format!("it wasn't there {limit:?} after its start (start_timeout)"))
    })
}

/// Starts a process and shakes hands with it.
async fn start(
    config: &ServerConfig,
    launcher: &Launcher,
    tasks: &TaskTracker,
) -> Result<ConnectionParts, String> {
    let mut process = launch(config, launcher, tasks)?;
    let asked = tokio::select! {
        asked = ask(&mut process.transport, config.question_patience()) => asked,
        _ = process.life.ended() => None,
    };
    let lifecycle = match asked {
        Some(lifecycle) => lifecycle,
        None => {
            // A server from before there was the question may end at it. One that ends whatever it
            // hears tells its reason the second time.
            process.life.end().await;
            process = launch(config, launcher, tasks)?;
            ClientLifecycleMode::Initialize
        }
    };
    meet(process, lifecycle).await
}

/// A process of an MCP server, before the handshake.
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
) -> Result<McpProcess<impl Transport<RoleClient> + use<>>, String> {
    let server = config.name.clone();
    let log = move |line: &str| tracing::debug!(server, line, "an MCP server wrote a line");
    let launched = launcher.launch(&config.process(), tasks, log);
    let LaunchedProcess { stdin, stdout, life, last_lines, stderr_task } =
        launched.map_err(|error| error.to_string())?;
    let first_error = FirstError::default();
    let lines = BoundedLines::new(stdout, first_error.clone());
    // The lines have a bound of their own, which ends the connection.
    let pipes = AsyncRwTransport::<RoleClient, _, _>::new_client(lines, stdin)
        .with_max_line_length(LINE_BYTES_MAX.saturating_mul(2));
    let transport = ObservedTransport::new(pipes);
    Ok(McpProcess { transport, life, stderr_task, first_error, last_lines })
}

async fn meet<T: Transport<RoleClient> + 'static>(
    process: McpProcess<T>,
    lifecycle: ClientLifecycleMode,
) -> Result<ConnectionParts, String> {
    let McpProcess { transport, life, stderr_task, first_error, last_lines } = process;
    let (notifications, gone) = (transport.notifications.clone(), transport.gone.clone());
    let served = tokio::select! {
        served = serve_client_with_lifecycle(McpClientHandler::default(), transport, lifecycle) => served,
        // What it says to people tells more than a connection that is closed.
        exit = life.ended() => {
            let _read = stderr_task.await;
            return Err(format!("it ended with {}{}", describe_exit(exit), last_lines.suffix()));
        }
    };
    match served {
        Ok(service) => Ok(ConnectionParts {
            service,
            notifications,
            gone,
            life: Some(life),
            first_error,
            last_lines,
        }),
        Err(error) => {
            let is_silent = matches!(
                error,
                ClientInitializeError::ConnectionClosed(_)
                    | ClientInitializeError::TransportError { .. }
            );
            let reason = match first_error.get() {
                Some(error) => error,
                // It is probably about to end, and how it does says more.
                None if is_silent => match timeout(LAST_WORDS, life.ended()).await {
                    Ok(exit) => format!("it ended with {}", describe_exit(exit)),
                    Err(_) => handshake_fault(&error),
                },
                None => handshake_fault(&error),
            };
            life.end().await;
            // Its end has closed what it says to people.
            let _read = timeout(LAST_WORDS, stderr_task).await;
            Err(format!("{reason}{}", last_lines.suffix()))
        }
    }
}

/// Why no hands were shaken, as the end of a sentence.
pub(super) fn handshake_fault(error: &ClientInitializeError) -> String {
    match error {
        ClientInitializeError::JsonRpcError(error) => {
            format!("it refused to initialize: {} ({})", error.message, error.code.0)
        }
        ClientInitializeError::ConnectionClosed(_) => {
            "it closed the connection before it was initialized".to_owned()
        }
        ClientInitializeError::TransportError { error, .. } => {
            format!("it can't be talked to: {}", root_cause(error.error.as_ref()))
        }
        other => format!("it doesn't speak MCP as it should: {other}"),
    }
}
