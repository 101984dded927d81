//! The endpoints of the options, and the addresses behind them.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use http::{Uri, uri::Scheme};
use tokio::{net::lookup_host, time::timeout};
use tonic::transport::Endpoint as HttpOptions;

use crate::{
    error::Error,
    options::ClientOptions,
    transport::{
        connect::Connector,
        tls::{Tls, TlsConfig},
    },
};

/// The maximum number of endpoints of a client.
const ENDPOINTS_MAX: usize = 64;
/// The maximum number of addresses of one name. Further ones are not used.
const ADDRESSES_MAX: usize = 64;

/// An address that a connection can be opened to.
#[derive(Clone)]
pub(super) enum Target {
    Tcp(SocketAddr),
    /// A Unix domain socket.
    Socket(PathBuf),
    /// A function that connects to the endpoint of this name.
    Connector(Connector, String),
}

/// One endpoint of the options.
#[derive(Clone)]
pub(super) struct Endpoint {
    /// The endpoint as the options name it.
    pub(super) name: String,
    place: Place,
    pub(super) tls: Option<Tls>,
    /// The options of connections. TLS is not among them: the dialer performs it.
    pub(super) http: HttpOptions,
}

#[derive(Clone)]
enum Place {
    Fixed(Target),
    /// A host that is resolved each time before its addresses are dialed.
    Host {
        host: String,
        port: u16,
    },
}

impl Endpoint {
    /// Creates the endpoints of the options. Reads the files of TLS.
    pub(super) fn list(
        options: &ClientOptions,
        connector: Option<&Connector>,
    ) -> Result<Vec<Self>, Error> {
        let names = &options.endpoints;
        if names.is_empty() {
            return Err(Error::options("there is no endpoint: name at least one"));
        }
        if names.len() > ENDPOINTS_MAX {
            let message = format!("there are {} endpoints: name at most 64", names.len());
            return Err(Error::options(message));
        }
        let mut addresses = Vec::with_capacity(names.len());
        for (index, name) in names.iter().enumerate() {
            // A second mention would only double the share of that server.
            if !names.iter().take(index).any(|earlier| earlier == name) {
                addresses.push((name, Address::parse(name)?));
            }
        }
        let tls = tls_config(options, &addresses)?;
        let endpoint = |(name, address): (&String, Address)| {
            let host_tls = tls.as_ref().filter(|_| address.is_secure());
            let host_tls = host_tls.map(|tls| tls.for_host(address.host())).transpose()?;
            let place = match connector {
                Some(connector) => Place::Fixed(Target::Connector(connector.clone(), name.clone())),
                None => address.place(),
            };
            let http = address.http_options(options)?;
            Ok(Self { name: name.clone(), place, tls: host_tls, http })
        };
        addresses.into_iter().map(endpoint).collect()
    }

    /// Returns the address, or `None` if the endpoint is a name that has to be resolved.
    pub(super) fn fixed(&self) -> Option<&Target> {
        match &self.place {
            Place::Fixed(target) => Some(target),
            Place::Host { .. } => None,
        }
    }

    /// Returns the addresses of the host.
    pub(super) async fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        let Place::Host { host, port } = &self.place else { return Ok(Vec::new()) };
        let looking_up = lookup_host((host.as_str(), *port));
        let found = match self.http.get_connect_timeout() {
            Some(time_max) => {
                let found = timeout(time_max, looking_up).await;
                found.map_err(|_| timed_out("no address", time_max)).flatten()
            }
            None => looking_up.await,
        };
        let found = found.map_err(|error| named("dns error", &error))?;
        let addresses = distinct(found);
        if addresses.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "dns error: no addresses"));
        }
        Ok(addresses)
    }

    /// Returns an endpoint for each address of the host, with its label. A host with one address, and
    /// one that cannot be resolved, stays as it is.
    pub(super) async fn split(&self) -> Vec<(String, Self)> {
        let addresses = self.resolve().await.unwrap_or_default();
        if addresses.len() < 2 {
            return vec![(self.name.clone(), self.clone())];
        }
        let alone = addresses.into_iter().map(|address| {
            let place = Place::Fixed(Target::Tcp(address));
            (label(&self.name, &address), Self { place, ..self.clone() })
        });
        alone.collect()
    }
}

/// Returns the text for one of several addresses of an endpoint.
pub(super) fn label(endpoint: &str, address: &SocketAddr) -> String {
    format!("{endpoint} [{}]", address.ip())
}

/// Returns the error with the step that failed in front.
pub(super) fn named(step: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{step}: {error}"))
}

/// Returns the error of a step that has taken too long.
pub(super) fn timed_out(what: &str, time_max: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("{what} within {time_max:?}"))
}

/// Returns each address once, in order, and at most [`ADDRESSES_MAX`] of them.
fn distinct(found: impl IntoIterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut addresses = Vec::new();
    for address in found {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses.truncate(ADDRESSES_MAX);
    addresses
}

/// Reads the certificates if an endpoint uses TLS. Certificates that an endpoint in plain HTTP would
/// ignore are refused.
fn tls_config(
    options: &ClientOptions,
    addresses: &[(&String, Address)],
) -> Result<Option<TlsConfig>, Error> {
    let uses_tls = addresses.iter().any(|(_, address)| address.is_secure());
    if !options.tls.is_empty() {
        // A socket beside servers with TLS is that of a server on this machine.
        let is_allowed = |address: &Address| {
            address.is_secure() || (uses_tls && matches!(address, Address::Socket(_)))
        };
        if let Some((name, _)) = addresses.iter().find(|(_, address)| !is_allowed(address)) {
            let why = "must begin with https: because certificates are configured";
            return Err(Address::refuse(name, why));
        }
    }
    uses_tls.then(|| TlsConfig::load(&options.tls)).transpose()
}

/// The parsed text of an endpoint.
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

    fn is_secure(&self) -> bool {
        matches!(self, Self::Host { is_secure: true, .. })
    }

    fn host(&self) -> &str {
        match self {
            Self::Host { uri, .. } => uri.host().unwrap_or_default().trim_matches(['[', ']']),
            Self::Socket(_) => "",
        }
    }

    fn place(&self) -> Place {
        match self {
            Self::Host { uri, is_secure } => {
                let port = uri.port_u16().unwrap_or(if *is_secure { 443 } else { 80 });
                let host = self.host();
                match host.parse::<IpAddr>() {
                    Ok(ip) => Place::Fixed(Target::Tcp((ip, port).into())),
                    Err(_) => Place::Host { host: host.to_owned(), port },
                }
            }
            Self::Socket(path) => Place::Fixed(Target::Socket(path.clone())),
        }
    }

    fn http_options(&self, options: &ClientOptions) -> Result<HttpOptions, Error> {
        let origin = match self {
            Self::Host { uri, .. } => uri.clone(),
            Self::Socket(_) => Uri::from_static("http://localhost"),
        };
        let http = HttpOptions::from_static("http://localhost")
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
        Ok(http)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Socket(path) => path.fmt(f),
            Self::Connector(_, name) => name.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(names: &[&str]) -> Result<Vec<Endpoint>, Error> {
        let options = ClientOptions::default().with_endpoints(names.iter().copied());
        Endpoint::list(&options, None)
    }

    #[test]
    fn an_endpoint_is_used_once_and_a_name_is_resolved() {
        let names = ["http://[::1]:7", "unix:/a.sock", "http://a.example", "http://[::1]:7"];
        let endpoints = endpoints(&names).unwrap();
        let fixed: Vec<_> =
            endpoints.iter().map(|endpoint| format!("{:?}", endpoint.fixed())).collect();
        assert_eq!(fixed, ["Some([::1]:7)", "Some(\"/a.sock\")", "None"]);
    }

    #[test]
    fn an_empty_or_too_long_list_is_refused() {
        let error = endpoints(&[]).err().unwrap().to_string();
        assert!(error.contains("at least one"), "{error}");
        let error = endpoints(&["http://a"; 65]).err().unwrap().to_string();
        assert!(error.contains("65 endpoints: name at most 64"), "{error}");
    }

    #[test]
    fn certificates_are_not_ignored_by_one_endpoint_of_several() {
        for (names, refused) in [
            (&["https://a", "http://b"][..], "\"http://b\""),
            (&["unix:/a.sock"][..], "\"unix:/a.sock\""),
        ] {
            let tls = crate::TlsOptions::new().with_server_name("a");
            let options = ClientOptions::default().with_endpoints(names.iter().copied());
            let error = Endpoint::list(&options.with_tls(tls), None).err().unwrap().to_string();
            assert!(error.contains(refused) && error.contains("https:"), "{error}");
        }
    }

    #[test]
    fn each_address_of_a_name_is_one_endpoint() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let (a, b) = (address("127.0.0.1:1"), address("[::1]:1"));
        assert_eq!(distinct([a, b, a]), [a, b]);
        let many = (0..100).map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        assert_eq!(distinct(many).len(), ADDRESSES_MAX);
    }

    #[tokio::test]
    async fn a_host_is_resolved_with_its_port() {
        let endpoint = endpoints(&["http://localhost:7"]).unwrap().remove(0);
        let addresses = endpoint.resolve().await.unwrap();
        assert!(
            addresses.iter().all(|at| at.ip().is_loopback() && at.port() == 7),
            "{addresses:?}"
        );
        let endpoint = endpoints(&["https://localhost"]);
        // A system without authorities has no TLS.
        if let Ok(mut endpoint) = endpoint {
            assert_eq!(endpoint.remove(0).resolve().await.unwrap()[0].port(), 443);
        }
    }
}
