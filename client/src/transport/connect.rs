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

/// A boxed byte stream that carries one connection. A [`Connector`] returns it.
///
/// ```
/// let (client_end, _server_end) = tokio::io::duplex(1024);
/// let connection: callpark_client::BoxIo = Box::new(client_end);
/// # drop(connection);
/// ```
pub type BoxIo = Box<dyn Io>;

/// A function that opens a connection each time it is called.
///
/// ```no_run
/// use std::sync::Arc;
///
/// use callpark_client::{BoxIo, Client, ClientOptions, Connector};
/// use futures::FutureExt as _;
/// use tokio::net::UnixStream;
///
/// # fn main() -> Result<(), callpark_client::Error> {
/// let connector: Connector = Arc::new(|| {
///     async { Ok(Box::new(UnixStream::connect("/run/callpark.sock").await?) as BoxIo) }.boxed()
/// });
/// let client = Client::with_connector(ClientOptions::default(), connector)?;
/// # Ok(())
/// # }
/// ```
pub type Connector = Arc<dyn Fn() -> BoxFuture<'static, io::Result<BoxIo>> + Send + Sync>;

/// The requirements on a connection. Implemented for every type that meets them; sealed.
///
/// ```
/// fn check(_: &impl callpark_client::Io) {}
///
/// let (client_end, _server_end) = tokio::io::duplex(1024);
/// check(&client_end);
/// ```
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + sealed::Sealed {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

mod sealed {
    use super::{AsyncRead, AsyncWrite};

    pub trait Sealed {}

    impl<T: AsyncRead + AsyncWrite + Send + Unpin> Sealed for T {}
}

/// Two channels, so that unread streams never delay a call. Each is created at its first use, because
/// creating one needs a runtime.
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
        .map_err(|error| refuse("is not a valid address").caused_by(error))?;
    let secure = named.starts_with("https:");
    if !secure && !named.starts_with("http:") && !named.starts_with("unix:") {
        return Err(refuse("must begin with http:, https: or unix:"));
    }
    let endpoint = endpoint
        .user_agent(concat!("callpark-client/", env!("CARGO_PKG_VERSION")))
        .map_err(|error| Error::options("the user agent is not a valid header").caused_by(error))?
        .connect_timeout(options.connect_timeout)
        .http2_keep_alive_interval(options.keepalive_interval)
        .keep_alive_timeout(options.keepalive_timeout)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(options.stream_window_bytes)
        .initial_connection_window_size(options.connection_window_bytes);
    match (secure, options.tls.is_empty()) {
        (true, _) => endpoint.tls_config(tls(&options.tls)?).map_err(|error| {
            Error::options("the certificates or the key are not valid").caused_by(error)
        }),
        (false, true) => Ok(endpoint),
        (false, false) => Err(refuse("must begin with https: because certificates are configured")),
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
        _ => {
            return Err(Error::options(
                "a client certificate and its private key must be given together",
            ));
        }
    }
    if let Some(name) = &options.server_name {
        tls = tls.domain_name(name);
    }
    Ok(tls)
}

/// Reads a file of certificates. One that contains none would otherwise go unnoticed until the first
/// connection.
fn certificates(file: &Path) -> Result<Vec<u8>, Error> {
    const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
    let pem = read(file)?;
    if pem.windows(BEGIN.len()).any(|window| window == BEGIN) {
        return Ok(pem);
    }
    Err(Error::options(format!("{} contains no certificate", file.display())))
}

fn read(file: &Path) -> Result<Vec<u8>, Error> {
    fs::read(file).map_err(|error| {
        Error::options(format!("cannot read {}: {error}", file.display())).caused_by(error)
    })
}
