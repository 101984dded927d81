//! Channels to the server.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use futures::future::BoxFuture;
use http::{Uri, uri::Scheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::transport::Endpoint;

use crate::{
    error::Error,
    options::ClientOptions,
    transport::{
        dial::{Dialer, Target},
        fault::Faults,
        http_answer::CheckedChannel,
        tls::Tls,
    },
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
    target: Target,
    tls: Option<Tls>,
    unary: OnceLock<CheckedChannel>,
    streams: OnceLock<CheckedChannel>,
}

impl Channels {
    pub(crate) fn new(
        options: &ClientOptions,
        connector: Option<Connector>,
    ) -> Result<Self, Error> {
        let address = Address::parse(&options.endpoint)?;
        let tls = match (&address, options.tls.is_empty()) {
            (Address::Host { uri, is_secure: true }, _) => {
                Some(Tls::new(&options.tls, uri.host().unwrap_or_default())?)
            }
            (_, true) => None,
            (_, false) => {
                let why = "must begin with https: because certificates are configured";
                return Err(Address::refuse(&options.endpoint, why));
            }
        };
        let endpoint = address.endpoint(options)?;
        let target = connector.map_or_else(|| address.target(), Target::Connector);
        Ok(Self { endpoint, target, tls, unary: OnceLock::new(), streams: OnceLock::new() })
    }

    pub(crate) fn unary(&self) -> CheckedChannel {
        self.unary.get_or_init(|| self.channel()).clone()
    }

    pub(crate) fn streams(&self) -> CheckedChannel {
        self.streams.get_or_init(|| self.channel()).clone()
    }

    fn channel(&self) -> CheckedChannel {
        let faults = Faults::default();
        let dialer = Dialer {
            target: self.target.clone(),
            tls: self.tls.clone(),
            connect_timeout: self.endpoint.get_connect_timeout(),
            faults: faults.clone(),
        };
        CheckedChannel::new(self.endpoint.connect_with_connector_lazy(dialer), faults)
    }
}

/// The endpoint of the options.
enum Address {
    Host { uri: Uri, is_secure: bool },
    Socket(PathBuf),
}

impl Address {
    fn parse(endpoint: &str) -> Result<Self, Error> {
        if let Some(path) = endpoint.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return match path.starts_with('/') {
                true => Ok(Self::Socket(path.into())),
                false => Err(Self::refuse(endpoint, "must name the whole path of a socket")),
            };
        }
        let schemes = "must begin with http:, https: or unix:";
        if !endpoint.starts_with("http:") && !endpoint.starts_with("https:") {
            return Err(Self::refuse(endpoint, schemes));
        }
        let uri: Uri = endpoint
            .parse()
            .map_err(|error| Self::refuse(endpoint, "is not a valid address").caused_by(error))?;
        match uri.scheme() {
            Some(scheme) if uri.host().is_some() => {
                let is_secure = *scheme == Scheme::HTTPS;
                Ok(Self::Host { uri, is_secure })
            }
            _ => Err(Self::refuse(endpoint, "is not a valid address")),
        }
    }

    fn refuse(endpoint: &str, why: &str) -> Error {
        Error::options(format!("the endpoint {endpoint:?} {why}"))
    }

    fn target(&self) -> Target {
        match self {
            Self::Host { uri, .. } => Target::Host(uri.clone()),
            Self::Socket(path) => Target::Socket(path.clone()),
        }
    }

    /// Returns the options of connections. TLS is not among them: the [`Dialer`] performs it.
    fn endpoint(&self, options: &ClientOptions) -> Result<Endpoint, Error> {
        let origin = match self {
            Self::Host { uri, .. } => uri.clone(),
            Self::Socket(_) => Uri::from_static("http://localhost"),
        };
        let endpoint = Endpoint::from_static("http://localhost")
            .origin(origin)
            .user_agent(concat!("callpark-client/", env!("CARGO_PKG_VERSION")))
            .map_err(|error| {
                Error::options("the user agent is not a valid header").caused_by(error)
            })?
            .connect_timeout(options.connect_timeout)
            .http2_keep_alive_interval(options.keepalive_interval)
            .keep_alive_timeout(options.keepalive_timeout)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(options.stream_window_bytes)
            .initial_connection_window_size(options.connection_window_bytes);
        Ok(endpoint)
    }
}
