//! The bridge for agents that speak MCP over standard input and output only: `callpark mcp --stdio`.
//!
//! The agent starts the bridge, which connects to the server that has started the agent, sends the
//! token of the agent's process in a first line, and passes lines on in both directions.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, copy};
use tokio::net::TcpStream;

/// The variable with the address of the server for bridges.
pub const ADDRESS_VARIABLE: &str = "CALLPARK_MCP_ADDRESS";

/// The variable with the token of the agent's process.
pub const TOKEN_VARIABLE: &str = "CALLPARK_MCP_TOKEN";

/// Passes messages on between an agent and callpark until either closes its side.
///
/// # Errors
///
/// Fails with a reason if the server cannot be reached, or the connection breaks.
pub async fn run_bridge(
    address: SocketAddr,
    token: &str,
    mut input: impl AsyncRead + Unpin,
    mut output: impl AsyncWrite + Unpin,
) -> Result<(), String> {
    let connection = TcpStream::connect(address).await;
    let mut connection =
        connection.map_err(|error| format!("callpark cannot be reached at {address}: {error}"))?;
    let (mut reader, mut writer) = connection.split();
    let sending = async {
        writer.write_all(format!("{token}\n").as_bytes()).await?;
        copy(&mut input, &mut writer).await?;
        writer.shutdown().await?;
        // The answers to the last requests are still to come.
        std::future::pending().await
    };
    let receiving = copy(&mut reader, &mut output);
    let passed = tokio::select! {
        sent = sending => sent,
        received = receiving => received.map(|_| ()),
    };
    passed.map_err(|error| format!("the connection to callpark failed: {error}"))
}
