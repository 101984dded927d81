//! Which server the commands talk to, and with what token.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use callpark_client::{Client, ClientOptions, RetryBudget, RetryNotice, TlsOptions, TokenSource};

use super::{exit::Exit, failure::Failure, output::tell, time::span};
use crate::app::config::{self, ClientConfig, ClientConfigError, Environment, TOKEN_VARIABLE};

/// A silent server is asked after this long whether it is still there, and has as long to answer.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// How often a call is tried before the command fails.
const START_ATTEMPTS: u32 = 3;

/// Flags of every command.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct ConnectArgs {
    /// The server [default: $CALLPARK_ENDPOINT, else http://127.0.0.1:50051]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) endpoint: Option<String>,

    /// The file with the token [default: $CALLPARK_TOKEN, else that of this machine's server]
    ///
    /// A server writes it if it is missing; the other commands show what it holds. Without it, the
    /// token of this machine's server is shown to servers on this machine only.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,

    /// The server's configuration file [default: $CALLPARK_CONFIG]
    ///
    /// Without either it is callpark/callpark.toml in $XDG_CONFIG_HOME or ~/.config, if it exists.
    /// The other commands read it to find the server's token.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// PEM file with the roots that an https server's certificate is checked against [default:
    /// those of the system]
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    ca_file: Option<PathBuf>,

    /// PEM file with the certificate that is shown to an https server
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true, requires = "key_file")]
    cert_file: Option<PathBuf>,

    /// PEM file with the key of that certificate
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        hide_short_help = true,
        requires = "cert_file"
    )]
    key_file: Option<PathBuf>,
}

/// Which server is talked to, for messages.
#[derive(Clone, Debug, Default)]
pub(crate) struct Connection {
    /// The server.
    pub(crate) endpoint: String,
    /// Where the token comes from.
    pub(crate) token: TokenOrigin,
}

/// Where the token comes from.
#[derive(Clone, Debug, Default)]
pub(crate) enum TokenOrigin {
    /// There is none, and no file to look in: the server is another machine's.
    #[default]
    Nowhere,
    /// There is none: this file doesn't exist.
    Missing(PathBuf),
    /// A variable.
    Variable,
    /// A file.
    File(PathBuf),
}

impl TokenOrigin {
    /// Where the token comes from, in words.
    pub(crate) fn tell(&self) -> String {
        match self {
            Self::Nowhere => {
                "no token was shown: that of this machine's server goes to no other one".to_owned()
            }
            Self::Missing(path) => {
                format!("no token was shown: {} doesn't exist", path.display())
            }
            Self::Variable => format!("the token came from ${TOKEN_VARIABLE}"),
            Self::File(path) => format!("the token came from {}", path.display()),
        }
    }
}

impl ConnectArgs {
    /// A client for the server that the flags and the environment name. Connects to nothing yet.
    pub(crate) fn client(self) -> Result<(Client, Connection), Failure> {
        let found = ClientConfig::load(config::ClientOptions {
            endpoint: self.endpoint,
            token_file: self.token_file,
            config_file: self.config,
            environment: Environment::capture(),
        })
        .map_err(|error| misconfigured(&error))?;
        let (token, origin) = match (found.token, found.token_file) {
            // Read from the file again when it changes, as it does when a store is made anew.
            (Some(_), Some(path)) => (TokenSource::File(path.clone()), TokenOrigin::File(path)),
            (Some(token), None) => (TokenSource::Value(token), TokenOrigin::Variable),
            (None, Some(path)) => (TokenSource::None, TokenOrigin::Missing(path)),
            (None, None) => (TokenSource::None, TokenOrigin::Nowhere),
        };
        let connection = Connection { endpoint: found.endpoint.clone(), token: origin };
        let mut tls = TlsOptions::new();
        tls.ca_file = self.ca_file;
        tls.certificate_file = self.cert_file;
        tls.key_file = self.key_file;
        let options = ClientOptions::new(found.endpoint)
            .with_token(token)
            .with_tls(tls)
            .with_on_retry(Arc::new(tell_of_retry(Instant::now())))
            // Somebody sits in front of it: a server that takes the connection and stays silent is
            // told of after seconds, and given up after half a minute.
            .with_keepalive_interval(KEEPALIVE)
            .with_keepalive_timeout(KEEPALIVE)
            .with_start_attempts(START_ATTEMPTS);
        let client = Client::new(options)?;
        Ok((client, connection))
    }
}

/// Tells of retries. A start that fails at once, as where there is no server, says so itself after
/// its last try; one that the server lets wait is told of, as is a stream that was cut.
fn tell_of_retry(began: Instant) -> impl Fn(&RetryNotice<'_>) {
    move |notice| {
        let delay = span(notice.delay);
        if notice.budget == Some(RetryBudget::Resume) {
            tell(&format!("callpark: the connection was lost; trying again in {delay}"));
        } else if began.elapsed() >= KEEPALIVE {
            tell(&format!("callpark: no answer from the server yet; trying again in {delay}"));
        }
    }
}

fn misconfigured(error: &ClientConfigError) -> Failure {
    let exit = match error {
        ClientConfigError::Endpoint { .. } => Exit::Usage,
        ClientConfigError::Token { .. } => Exit::NotAllowed,
        ClientConfigError::Config(_) => Exit::Config,
    };
    Failure::Told { exit, text: error.to_string() }
}
