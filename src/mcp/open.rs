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
    BoundedLines, FirstError, LINE_BYTES_MAX, LastLines, Launcher, Peer, ProcessLife, describe_exit,
};
use crate::model::ProcessSpec;

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

/// A process that is talked to.
struct Process<T> {
    transport: ObservedTransport<T>,
    life: ProcessLife,
    /// Reads what it says to people.
    listening: JoinHandle<()>,
    fault: FirstError,
    last_lines: LastLines,
}

fn launch(
    config: &ServerConfig,
    launcher: &Launcher,
    tasks: &TaskTracker,
) -> Result<Process<impl Transport<RoleClient> + use<>>, String> {
    let spec = spec(config, launcher);
    let peer = launcher.executor.connect(&spec).map_err(|error| error.to_string())?;
    let PipedProcess { stdin, stdout, stderr, life } = peer;
    let (fault, last_lines) = (FirstError::default(), LastLines::default());
    let lines = BoundedLines::new(stdout, fault.clone());
    // The lines have a bound of their own, which ends the connection.
    let pipes = AsyncRwTransport::<RoleClient, _, _>::new_client(lines, stdin)
        .with_max_line_length(LINE_BYTES_MAX.saturating_mul(2));
    let (server, heard) = (config.name.clone(), last_lines.clone());
    let listening = tasks.spawn(async move {
        let tell = |line: &str| tracing::debug!(server, line, "an MCP server says");
        heard.follow(stderr, tell).await;
    });
    Ok(Process { transport: ObservedTransport::new(pipes), life, listening, fault, last_lines })
}

async fn meet<T: Transport<RoleClient> + 'static>(
    process: Process<T>,
    lifecycle: ClientLifecycleMode,
) -> Result<ConnectionParts, String> {
    let Process { transport, life, listening, fault, last_lines } = process;
    let (notifications, gone) = (transport.notifications.clone(), transport.gone.clone());
    let served = tokio::select! {
        served = serve_client_with_lifecycle(McpClientHandler::default(), transport, lifecycle) => served,
        // What it says to people tells more than a connection that is closed.
        exit = life.ended() => {
            let _read = listening.await;
            return Err(format!("it ended with {}{}", describe_exit(exit), last_lines.suffix()));
        }
    };
    match served {
        Ok(service) => Ok(ConnectionParts {
            service,
            notifications,
            gone,
            life: Some(life),
            fault,
            last_lines,
        }),
        Err(error) => {
            let is_silent = matches!(
                error,
                ClientInitializeError::ConnectionClosed(_)
                    | ClientInitializeError::TransportError { .. }
            );
            let reason = match fault.get() {
                Some(fault) => fault,
                // It is probably about to end, and how it does says more.
                None if is_silent => match timeout(LAST_WORDS, life.ended()).await {
                    Ok(exit) => format!("it ended with {}", describe_exit(exit)),
                    Err(_) => handshake_fault(&error),
                },
                None => handshake_fault(&error),
            };
            life.end().await;
            // Its end has closed what it says to people.
            let _read = timeout(LAST_WORDS, listening).await;
            Err(format!("{reason}{}", last_lines.suffix()))
        }
    }
}

fn spec(config: &ServerConfig, launcher: &Launcher) -> ProcessSpec {
    let (allowed, own) = (&config.environment, &config.set_environment);
    ProcessSpec {
        argv: config.argv.clone(),
        working_directory: config.working_directory.clone(),
        environment: launcher.environment_with(allowed, own),
        stdin: None,
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
