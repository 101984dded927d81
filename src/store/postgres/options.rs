//! The address of a database, and how to connect to it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use secrecy::{ExposeSecret as _, SecretString};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;
use uuid::Uuid;

use super::error::PostgresError;
use super::open_error::OpenError;
use super::passfile;
use crate::store::StoreError;

/// The time after which a host that does not answer is given up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The idle time after which either end probes a connection, and the time within which the other end
/// must answer.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
/// The time between two probes that are not answered.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(3);
const UNANSWERED_MAX: Duration = Duration::from_secs(20);

/// The database of a store.
#[derive(Clone)]
pub struct PostgresOptions {
    /// The address as libpq writes it, such as `postgres://user@host/database?sslmode=require`. With
    /// `sslmode=require`, `verify-ca` or `verify-full` the connection is encrypted and the certificate
    /// of the server is verified; without one of them it is not encrypted.
    pub url: SecretString,
    /// The password, instead of one in the URL.
    pub password: Option<SecretString>,
    /// The password if the URL has none.
    pub default_password: Option<SecretString>,
    /// The file in the format of libpq's `.pgpass` with the password if there is none otherwise. It is
    /// ignored if others can use it.
    pub passfile: Option<PathBuf>,
    /// PEM file with the root certificates of the server, instead of those of the system.
    pub root_certificates: Option<PathBuf>,
    /// The time for which the opening of the store waits for a database that cannot be reached.
    pub wait: Duration,
    /// This server as one of several replicas, or `None` if it has the database alone.
    pub replica: Option<ReplicaOptions>,
}

/// This server as a replica of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaOptions {
    /// The address at which the others reach it, as `http://HOST:PORT`.
    pub address: String,
    /// The id of its data folder.
    pub home: Uuid,
}

impl PostgresOptions {
    /// Returns the options for this URL, without a password of its own.
    pub fn new(url: &str) -> Self {
        let wait = Duration::from_secs(30);
        let url = SecretString::from(url);
        Self {
            url,
            password: None,
            default_password: None,
            passfile: None,
            root_certificates: None,
            wait,
            replica: None,
        }
    }

    /// Checks the URL, without a connection.
    ///
    /// # Errors
    ///
    /// The URL is not valid. The error has no part of it.
    pub fn check(&self) -> Result<(), OpenError> {
        parse_url(self.url.expose_secret()).map(drop)
    }
}

impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold the password.
        f.debug_struct("PostgresOptions").field("wait", &self.wait).finish_non_exhaustive()
    }
}

/// The time after which the database ends a connection whose server stands still inside a transaction: other
/// replicas wait for its locks.
const IDLE_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(5);

/// A database, as connections to it need it.
#[derive(Clone)]
pub(super) struct Target {
    config: Config,
    tls: MakeRustlsConnect,
    /// The name of the database for messages: the host, the port and the database.
    pub(super) name: String,
}

impl Target {
    /// Parses the options. The error names no part of the URL: it may hold the password.
    pub(super) fn parse(options: &PostgresOptions) -> Result<Self, OpenError> {
        let mut config = parse_url(options.url.expose_secret())?;
        let in_url = config.get_password().is_some();
        let other = || options.default_password.clone().filter(|_| !in_url);
        let in_file = || options.passfile.as_deref().filter(|_| !in_url);
        let password = options.password.clone().or_else(other);
        let password = password.or_else(|| passfile::password(in_file()?, &config));
        let known = config.get_password().map(String::from_utf8_lossy);
        known.into_iter().for_each(|password| crate::redact::remember(&password));
        if let Some(password) = password {
            crate::redact::remember(password.expose_secret());
            config.password(password.expose_secret());
        }
        if config.get_ssl_mode() != SslMode::Require {
            config.ssl_mode(SslMode::Disable);
        }
        let settings = format!(
            "{} -c search_path=callpark -c tcp_keepalives_idle={} -c tcp_keepalives_interval={} \
             -c tcp_keepalives_count=3 -c tcp_user_timeout={}",
            config.get_options().unwrap_or_default(),
            KEEPALIVE_IDLE.as_secs(),
            KEEPALIVE_INTERVAL.as_secs(),
            UNANSWERED_MAX.as_millis(),
        );
        config
            .options(settings.trim_start())
            .connect_timeout(CONNECT_TIMEOUT)
            .keepalives_idle(KEEPALIVE_IDLE)
            .tcp_user_timeout(UNANSWERED_MAX);
        let name = name(&config);
        Ok(Self { tls: MakeRustlsConnect::new(tls_config(&config, options)?), config, name })
    }

    /// Returns the error of a database that cannot be opened.
    pub(super) fn failed(&self, error: PostgresError) -> OpenError {
        let name = self.name.clone();
        match error {
            PostgresError::Lost(cause) => OpenError::Unreachable { name, cause },
            error => OpenError::Unusable { name, cause: StoreError::from(error).to_string() },
        }
    }

    /// Returns the configuration and the TLS of connections with this name, on which a statement may
    /// take so long.
    pub(super) fn connection(
        &self,
        application: &str,
        statement_timeout: Duration,
    ) -> (Config, MakeRustlsConnect) {
        let mut config = self.config.clone();
        let settings = format!(
            "{} -c statement_timeout={} -c idle_in_transaction_session_timeout={}",
            config.get_options().unwrap_or_default(),
            statement_timeout.as_millis(),
            IDLE_TRANSACTION_TIMEOUT.as_millis(),
        );
        config.options(settings).application_name(application);
        (config, self.tls.clone())
    }
}

/// Parses the URL. The error has no part of it.
fn parse_url(url: &str) -> Result<Config, OpenError> {
    // The two names of libpq that the parser does not know. The host is verified with any of them.
    let url = url
        .replace("sslmode=verify-full", "sslmode=require")
        .replace("sslmode=verify-ca", "sslmode=require");
    let config: Config = url.parse().map_err(|error: tokio_postgres::Error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        OpenError::Address { cause: cause.unwrap_or_else(|| error.to_string()) }
    })?;
    if config.get_hosts().is_empty() || config.get_dbname().is_none() {
        let cause = "it has no host or no database".to_owned();
        return Err(OpenError::Address { cause });
    }
    Ok(config)
}

fn name(config: &Config) -> String {
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(host)) => host.clone(),
        Some(Host::Unix(path)) => path.display().to_string(),
        None => String::new(),
    };
    let port = config.get_ports().first().copied().unwrap_or(5432);
    format!("{host}:{port}/{}", config.get_dbname().unwrap_or_default())
}

/// Returns the TLS of connections. One that is not encrypted needs no certificates.
fn tls_config(config: &Config, options: &PostgresOptions) -> Result<ClientConfig, OpenError> {
    let mut roots = RootCertStore::empty();
    match &options.root_certificates {
        _ if config.get_ssl_mode() != SslMode::Require => {}
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        Some(path) => {
            let unusable = |cause: &dyn fmt::Display| OpenError::Certificates {
                path: path.clone(),
                cause: cause.to_string(),
            };
            let certificates =
                CertificateDer::pem_file_iter(path).map_err(|error| unusable(&error))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|error| unusable(&error))?;
                roots.add(certificate).map_err(|error| unusable(&error))?;
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| OpenError::Address { cause: error.to_string() })?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
