//! The flags that say which server to talk to, and with what token.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use callpark_client::{
    Client, ClientOptions, Compression, RetryBudget, RetryNotice, TlsOptions, TokenSource,
};

use crate::{
    app::config::{self, ClientConfig, ClientConfigError, Environment},
    cli::{
        connection::{Connection, TokenOrigin},
        error::Failure,
        exit::Exit,
        print::{output::eprint_note, time::format_span},
    },
};

/// The time after which a silent server is pinged, and the time that it has to answer.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// The number of attempts to start a call before the command fails.
const START_ATTEMPTS: u32 = 3;

/// Flags of every command.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct ConnectArgs {
    /// Address of the server [default: $CALLPARK_ENDPOINT, else http://127.0.0.1:50051]
    ///
    /// An http or https URL, or a Unix domain socket such as unix:/run/callpark.sock. Several addresses
    /// of equal servers are separated by commas: requests take them in turn, and one that cannot be
    /// reached is passed over. Each address of a host name counts as one. The number of attempts is
    /// that of one server.
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) endpoint: Option<String>,

    /// File that holds the token [default: the token file of this machine's server]
    ///
    /// `callpark serve` creates the file if it does not exist; the other commands send the token in
    /// it. Without this flag they send the token that $CALLPARK_TOKEN holds: the token itself, not the
    /// path of a file. If that is not set either, they send the token of this machine's server, and
    /// only to servers on this machine.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,

    /// Configuration file of the server [default: $CALLPARK_CONFIG]
    ///
    /// If neither is set, it is callpark/callpark.toml in $XDG_CONFIG_HOME or ~/.config, if that
    /// exists. Commands other than `serve` and `config` read it only to find the server and its
    /// token.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// PEM file with the root certificates to verify an https server with [default: the roots of
    /// the system]
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    ca_file: Option<PathBuf>,

    /// PEM file with the client certificate to present to an https server
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true, requires = "key_file")]
    cert_file: Option<PathBuf>,

    /// PEM file with the private key of the client certificate
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        hide_short_help = true,
        requires = "cert_file"
    )]
    key_file: Option<PathBuf>,

    /// Compress requests with gzip, and ask for compressed answers
    #[arg(long, global = true, hide_short_help = true)]
    gzip: bool,
}

impl ConnectArgs {
    /// Creates a client for the server that the flags and the environment name. Does not connect
    /// yet.
    pub(crate) fn client(self) -> Result<(Client, Connection), Failure> {
        let found = ClientConfig::load(config::ClientOptions {
            endpoint: self.endpoint,
            token_file: self.token_file,
            config_file: self.config,
            environment: Environment::capture(),
        })
        .map_err(|error| misconfigured(&error))?;
        let (token, origin) = match (found.token, found.token_file) {
            // The file is read again when it changes, as it does when a store is created again.
            (Some(_), Some(path)) => (TokenSource::File(path.clone()), TokenOrigin::File(path)),
            (Some(token), None) => (TokenSource::Value(token), TokenOrigin::Variable),
            (None, Some(path)) => (TokenSource::None, TokenOrigin::MissingFile(path)),
            (None, None) => (TokenSource::None, TokenOrigin::OtherMachine),
        };
        let connection = Connection { endpoints: found.endpoints.clone(), token: origin };
        let mut tls = TlsOptions::new();
        tls.ca_file = self.ca_file;
        tls.certificate_file = self.cert_file;
        tls.key_file = self.key_file;
        let options = ClientOptions::default()
            .with_endpoints(found.endpoints)
            .with_token(token)
            .with_tls(tls)
            .with_compression(if self.gzip { Compression::Gzip } else { Compression::Off })
            .with_on_retry(Arc::new(note_retries(Instant::now())))
            // A person waits: a server that accepts the connection and stays silent is reported
            // after seconds, and given up after half a minute.
            .with_keepalive_interval(KEEPALIVE)
            .with_keepalive_timeout(KEEPALIVE)
            .with_start_attempts(START_ATTEMPTS);
        Ok((Client::new(options)?, connection))
    }
}

/// Prints a note on retries of a broken stream, and on others once the command has waited for a
/// while. A request that fails quickly, such as one without a server, reports only its last error.
fn note_retries(began: Instant) -> impl Fn(&RetryNotice<'_>) {
    move |notice| {
        let delay = format_span(notice.delay);
        if notice.budget == Some(RetryBudget::Resume) {
            eprint_note(&format!("the connection was lost; retrying in {delay}"));
        } else if began.elapsed() >= KEEPALIVE {
            eprint_note(&format!("no answer from the server yet; retrying in {delay}"));
        }
    }
}

fn misconfigured(error: &ClientConfigError) -> Failure {
    let exit = match error {
        ClientConfigError::Endpoint { .. } => Exit::Usage,
        ClientConfigError::Token { .. } | ClientConfigError::TokenIsPath { .. } => Exit::NotAllowed,
        ClientConfigError::Config(_) => Exit::Config,
    };
    Failure::new(exit, error.to_string())
}
