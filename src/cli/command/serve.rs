//! `callpark serve`: the server.

use std::{io, net::SocketAddr, path::Path};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::settings::SettingFlags;
use crate::{
    app::{
        Server,
        config::{ClientConfig, ClientOptions, Config, Environment, Loaded},
    },
    cli::{connect::ConnectArgs, exit::Exit, failure::Failure, output::tell},
    exec::adopt_orphans,
    telemetry::{LogFormat, init_tracing},
};

/// Run the server
///
/// SIGINT and SIGTERM let what is under way end, for as long as --drain says; a second one stops at
/// once. Each setting is a flag, a variable of the environment or a key of the configuration file;
/// `callpark config` shows what is in force.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    settings: SettingFlags,
}

pub(crate) async fn run(args: ServeArgs, connect: ConnectArgs) -> Result<Exit, Failure> {
    let config_file = connect.config.clone();
    let Loaded { config, warnings, .. } = args.settings.load(connect)?;
    init_tracing(config.log_format, config.log_filter.as_ref())
        .map_err(|error| cannot_start(&error))?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    // This program starts nothing but calls.
    adopt_orphans();
    let mut signals = Signals::new().map_err(|error| cannot_start(&error))?;
    let server = tokio::select! {
        server = Server::builder(config.clone()).build() => server.map_err(|error| cannot_start(&error))?,
        exit = signals.next() => return Ok(exit),
    };
    announce(&server, &config, config_file.as_deref());
    let stop = CancellationToken::new();
    let stopped_at_once = async {
        signals.next().await;
        announce_stop(config.log_format);
        stop.cancel();
        signals.next().await
    };
    tokio::select! {
        served = server.run(stop.clone()) => match served {
            Ok(()) => Ok(Exit::Success),
            Err(error) => Err(Failure::Told { exit: Exit::Internal, text: error.to_string() }),
        },
        exit = stopped_at_once => Ok(exit),
    }
}

fn cannot_start(error: &dyn std::error::Error) -> Failure {
    Failure::Told { exit: Exit::Config, text: format!("the server can't start: {error}") }
}

/// The signals that stop a server.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// The next signal, as the exit of a process that it ends.
    async fn next(&mut self) -> Exit {
        tokio::select! {
            _ = self.interrupt.recv() => Exit::Interrupted,
            _ = self.terminate.recv() => Exit::Terminated,
        }
    }
}

/// Says where the server is and how to use it: for a person as a block, in a log of JSON as a line
/// of that.
fn announce(server: &Server, config: &Config, config_file: Option<&Path>) {
    let urls: Vec<String> =
        server.addresses().iter().map(|&address| url(address, config.tls_cert.is_some())).collect();
    let data = config.data_dir.as_deref().unwrap_or(Path::new("")).display();
    if config.log_format == LogFormat::Json {
        tracing::info!(listen = urls.join(","), data_dir = %data, "callpark listens");
        return;
    }
    let mut lines = vec![format!("callpark listens on {}", urls.join(" and "))];
    if let Some(address) = server.admin_address() {
        lines.push(format!("  admin  http://{address}/metrics"));
    }
    lines.push(format!("  data   {data}"));
    match server.token_file() {
        Some(file) => lines.push(format!("  token  {}", file.display())),
        None => lines.push("  token  none: whoever reaches the address may run tools".to_owned()),
    }
    if let Some(&address) = server.addresses().first() {
        let endpoint = url(reachable(address), config.tls_cert.is_some());
        let flags = flags(&endpoint, server.token_file(), config_file);
        lines.push(format!("  try    callpark run{flags} bash -- 'echo hello'"));
    }
    tell(&lines.join("\n"));
}

/// Says that the first signal was heard.
fn announce_stop(format: LogFormat) {
    match format {
        LogFormat::Json => tracing::info!("stopping; once more stops at once"),
        LogFormat::Text => tell("callpark: stopping; once more stops at once"),
    }
}

fn url(address: SocketAddr, is_tls: bool) -> String {
    format!("http{}://{address}", if is_tls { "s" } else { "" })
}

/// An address that this machine reaches a listener at.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        let loopback = match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        };
        address.set_ip(loopback);
    }
    address
}

/// What a command must be told to reach this server, beyond what it finds by itself.
fn flags(endpoint: &str, token_file: Option<&Path>, config_file: Option<&Path>) -> String {
    let found = |endpoint: Option<String>| {
        ClientConfig::load(ClientOptions {
            endpoint,
            token_file: None,
            config_file: config_file.map(Path::to_owned),
            environment: Environment::capture(),
        })
        .ok()
    };
    let mut flags = String::new();
    if let Some(file) = config_file {
        flags.push_str(&format!(" --config {}", file.display()));
    }
    if found(None).is_none_or(|config| config.endpoint != endpoint) {
        flags.push_str(&format!(" --endpoint {endpoint}"));
    }
    let token = found(Some(endpoint.to_owned())).and_then(|config| config.token_file);
    if let Some(file) = token_file.filter(|&file| token.as_deref() != Some(file)) {
        flags.push_str(&format!(" --token-file {}", file.display()));
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_for_all_is_reached_at_loopback() {
        let reached = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(reached("0.0.0.0:1"), "127.0.0.1:1");
        assert_eq!(reached("[::]:1"), "[::1]:1");
        assert_eq!(reached("10.0.0.1:1"), "10.0.0.1:1");
    }

    #[test]
    fn a_server_elsewhere_needs_its_endpoint() {
        let flags = flags("http://127.0.0.1:1", Some(Path::new("/nowhere/token")), None);
        assert_eq!(flags, " --endpoint http://127.0.0.1:1 --token-file /nowhere/token");
    }
}
