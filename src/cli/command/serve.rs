//! `callpark serve`: run the server.

mod notify;

use std::{io, net::SocketAddr, path::Path};

use notify::Notifier;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{
    app::{
        self, Server,
        config::{ClientConfig, ClientOptions, Config, Environment, Loaded},
    },
    cli::{
        args::{connect::ConnectArgs, settings::SettingFlags},
        error::Failure,
        exit::Exit,
        print::{
            output::{eprint_line, eprint_note},
            text::count,
        },
    },
    exec::adopt_orphans,
    telemetry::{LogFormat, init_tracing},
};

/// Run the server
///
/// On SIGINT or SIGTERM the server stops accepting work and waits for running calls, at most for
/// the time of --drain; a second signal stops it immediately. Commands that still run go on, and the
/// next server takes them up, unless --stop-runs is set. Settings come from flags, environment
/// variables or the configuration file; flags take precedence, then variables. `callpark config`
/// shows the resulting settings.
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
    // All children of this program belong to calls.
    adopt_orphans();
    let mut signals = Signals::new().map_err(|error| cannot_start(&error))?;
    let mut builder = Server::builder(config.clone());
    if let Some(program) = Environment::program() {
        builder = builder.bridge(program.clone()).shim(Environment::own_program());
    }
    let server = tokio::select! {
        server = builder.build() => server.map_err(|error| cannot_build(&error))?,
        exit = signals.next() => return Ok(exit),
    };
    announce(&server, &config, config_file.as_deref());
    let stop = CancellationToken::new();
    let running_calls = server.running_calls();
    let addresses = endpoints(&server, &config, |address| address);
    let notifier = Notifier::new(server.vitals(), &addresses, config.drain);
    let stopped_at_once = async {
        signals.next().await;
        announce_stop(&config, running_calls());
        notifier.announce_stop().await;
        stop.cancel();
        signals.next().await
    };
    tokio::select! {
        served = server.run(stop.clone()) => match served {
            Ok(()) => Ok(Exit::Success),
            Err(error) => Err(Failure::new(Exit::Internal, error.to_string())),
        },
        exit = stopped_at_once => Ok(exit),
        never = notifier.follow(&stop) => match never {},
    }
}

fn cannot_start(error: &dyn std::error::Error) -> Failure {
    Failure::new(Exit::Config, format!("the server cannot start: {error}"))
}

fn cannot_build(error: &app::Error) -> Failure {
    let exit = if error.is_in_use() { Exit::InUse } else { Exit::Config };
    Failure::new(exit, format!("the server cannot start: {error}"))
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

    /// Waits for the next signal, and returns the exit of a process that it ends.
    async fn next(&mut self) -> Exit {
        tokio::select! {
            _ = self.interrupt.recv() => Exit::Interrupted,
            _ = self.terminate.recv() => Exit::Terminated,
        }
    }
}

/// Announces where the server listens and how to use it: as a block of text for people, or as an
/// entry of a JSON log.
fn announce(server: &Server, config: &Config, config_file: Option<&Path>) {
    let urls = endpoints(server, config, |address| address);
    let data = config.data_dir.as_deref().unwrap_or(Path::new("")).display();
    if config.log_format == LogFormat::Json {
        let store = &config.store;
        tracing::info!(listen = urls.join(","), data_dir = %data, %store, "callpark listens");
        return;
    }
    let mut lines = vec![format!("callpark listens on {}", urls.join(" and "))];
    if let Some(address) = server.admin_address() {
        lines.push(format!("  admin  http://{address}/metrics"));
    }
    lines.push(format!("  data   {data}"));
    if !config.store.is_sqlite() {
        lines.push(format!("  store  {}", config.store));
    }
    match server.token_file() {
        Some(file) => lines.push(format!("  token  {}", file.display())),
        None => {
            lines.push("  token  none: anyone who can reach this address can run tools".to_owned())
        }
    }
    if let Some(endpoint) = endpoints(server, config, reachable).first() {
        let flags = flags(endpoint, server.token_file(), config_file);
        lines.push(format!("  try    callpark run{flags} bash 'echo hello'"));
    }
    eprint_line(&lines.join("\n"));
}

fn announce_stop(config: &Config, running_calls: usize) {
    match config.log_format {
        LogFormat::Json => {
            tracing::info!(running_calls, "stopping; a second signal stops immediately");
        }
        LogFormat::Text => {
            let calls = match running_calls {
                0 => "no call is running".to_owned(),
                some if config.stop_runs => {
                    format!("{} end with the server", count(some, "running call"))
                }
                some => format!("{} can go on with the next server", count(some, "running call")),
            };
            eprint_note(&format!(
                "stopping: {calls}; press Ctrl-C or send SIGTERM again to stop immediately"
            ));
        }
    }
}

/// Returns the addresses of a server as endpoints of a client, with a change to those of the network.
fn endpoints(
    server: &Server,
    config: &Config,
    change: fn(SocketAddr) -> SocketAddr,
) -> Vec<String> {
    let scheme = if config.tls_cert.is_some() { "https" } else { "http" };
    let addresses = server.addresses().iter();
    let urls = addresses.map(|&address| format!("{scheme}://{}", change(address)));
    urls.chain(server.sockets().iter().map(|path| format!("unix:{}", path.display()))).collect()
}

/// Returns an address at which this machine can reach a listener.
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

/// Returns the flags that a command needs to reach this server, in addition to what it finds without
/// flags.
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
    if found(None).is_none_or(|config| config.endpoints != [endpoint]) {
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
    fn an_unspecified_address_is_reached_at_loopback() {
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
