//! `callpark mcp`: the bridge for agents that speak MCP over standard input and output only.

use std::net::SocketAddr;

use crate::{
    acp::{ADDRESS_VARIABLE, TOKEN_VARIABLE, run_bridge},
    app::config::Environment,
    cli::{error::Failure, exit::Exit},
};

/// Offer callpark's tools to an agent over standard input and output
///
/// A server passes this command to agents that don't support MCP over HTTP. It is not meant to be
/// run by hand: it needs the address and the token that the server passes with it.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct McpArgs {
    /// Speak MCP over standard input and output
    #[arg(long, required = true)]
    stdio: bool,
}

pub(crate) async fn run(_: McpArgs) -> Result<Exit, Failure> {
    let environment = Environment::capture();
    let variable = |name: &str| {
        environment.get(name).ok_or_else(|| {
            Failure::usage(format!(
                "{name} is not set: a callpark server sets it when it passes this command to an \
                 agent"
            ))
        })
    };
    let (address, token) = (variable(ADDRESS_VARIABLE)?, variable(TOKEN_VARIABLE)?);
    let address: SocketAddr = address.parse().map_err(|_| {
        Failure::usage(format!("{ADDRESS_VARIABLE} `{address}` is not an address and a port"))
    })?;
    let bridged = run_bridge(address, token, tokio::io::stdin(), tokio::io::stdout()).await;
    bridged.map(|()| Exit::Success).map_err(|reason| Failure::new(Exit::Unreachable, reason))
}
