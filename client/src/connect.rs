//! Channels to the server.

use std::{
    fs, io,
    path::Path,
    sync::{Arc, OnceLock},
};

use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::{
    error::Error,
    options::{ClientOptions, TlsOptions},
};

/// A connection that bytes go through, both ways.
pub type BoxIo = Box<dyn Io>;

/// Makes a connection each time it is called.
pub type Connector = Arc<dyn Fn() -> BoxFuture<'static, io::Result<BoxIo>> + Send + Sync>;

/// What a connection must be able to do. Everything that reads, writes and can be sent has it.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Two channels, so that unread streams never hold up a call. Each is made at its first use, because
/// making one takes a runtime.
pub(crate) struct Channels {
    endpoint: Endpoint,
    connector: Option<Connector>,
    unary: OnceLock<Channel>,
    streams: OnceLock<Channel>,
}

impl Channels {
    pub(crate) fn new(
        options: &ClientOptions,
        connector: Option<Connector>,
    ) -> Result<Self, Error> {
        let endpoint = endpoint(options)?;
        Ok(Self { endpoint, connector, unary: OnceLock::new(), streams: OnceLock::new() })
    }

    pub(crate) fn unary(&self) -> Channel {
        self.unary.get_or_init(|| self.channel()).clone()
    }

    pub(crate) fn streams(&self) -> Channel {
        self.streams.get_or_init(|| self.channel()).clone()
    }

    fn channel(&self) -> Channel {
        let Some(connector) = self.connector.clone() else { return self.endpoint.connect_lazy() };
        self.endpoint.connect_with_connector_lazy(tower::service_fn(move |_| {
            let connecting = connector();
            async move { connecting.await.map(TokioIo::new) }
        }))
    }
}

fn endpoint(options: &ClientOptions) -> Result<Endpoint, Error> {
    let named = &options.endpoint;
    let refuse = |why| Error::options(format!("the endpoint {named:?} {why}"));
    let endpoint = Endpoint::from_shared(named.clone())
        .map_err(|error| refuse("is no address").caused_by(error))?;
    let secure = named.starts_with("https:");
    if !secure && !named.starts_with("http:") && !named.starts_with("unix:") {
        return Err(refuse("begins with none of http:, https: and unix:"));
    }
    let endpoint = endpoint
        .user_agent(concat!("callpark-client/", env!("CARGO_PKG_VERSION")))
        .map_err(|error| Error::options("the user agent is no header").caused_by(error))?
        .connect_timeout(options.connect_timeout)
        .http2_keep_alive_interval(options.keepalive_interval)
        .keep_alive_timeout(options.keepalive_timeout)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(options.stream_window_bytes)
        .initial_connection_window_size(options.connection_window_bytes);
    match (secure, options.tls.is_empty()) {
        (true, _) => endpoint.tls_config(tls(&options.tls)?).map_err(|error| {
            Error::options("the certificates or the key are no good").caused_by(error)
        }),
        (false, true) => Ok(endpoint),
        (false, false) => Err(refuse("isn't https, but certificates are given")),
    }
}

fn tls(options: &TlsOptions) -> Result<ClientTlsConfig, Error> {
    let mut tls = match &options.ca_file {
        Some(file) => {
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(certificates(file)?))
        }
        None => ClientTlsConfig::new().with_native_roots(),
    };
    match (&options.certificate_file, &options.key_file) {
        (Some(certificate), Some(key)) => {
            tls = tls.identity(Identity::from_pem(certificates(certificate)?, read(key)?));
        }
        (None, None) => {}
        _ => return Err(Error::options("a client certificate and its key go together")),
    }
    if let Some(name) = &options.server_name {
        tls = tls.domain_name(name);
    }
    Ok(tls)
}

/// A file without a certificate would be found out at the first connection only.
fn certificates(file: &Path) -> Result<Vec<u8>, Error> {
    const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
    let pem = read(file)?;
    if pem.windows(BEGIN.len()).any(|window| window == BEGIN) {
        return Ok(pem);
    }
    Err(Error::options(format!("{} holds no certificate", file.display())))
}

fn read(file: &Path) -> Result<Vec<u8>, Error> {
    fs::read(file).map_err(|error| {
        Error::options(format!("{} can't be read: {error}", file.display())).caused_by(error)
    })
}
