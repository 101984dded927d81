//! Listening on addresses.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use tokio::net::{TcpListener, lookup_host};

use super::accept::Listener;
use super::socket_file::SocketFile;
use crate::app::config::{ListenAddress, SocketMode, TcpAddress};
use crate::app::in_use::retry_while_in_use;

/// An error in listening on an address.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {reason}; choose with the setting `{setting}`")]
pub struct BindError {
    /// The address.
    pub address: String,
    /// The setting that named it.
    pub setting: &'static str,
    /// The problem with it, and what to do.
    pub reason: String,
    /// The error of the system.
    pub source: io::Error,
}

impl BindError {
    /// Returns whether another program uses the address, which it may give up soon.
    pub fn is_in_use(&self) -> bool {
        is_in_use(&self.source)
    }

    fn new(
        address: impl ToString,
        setting: &'static str,
        reason: fn(&io::Error) -> Option<&'static str>,
        source: io::Error,
    ) -> Self {
        let reason = reason(&source).map_or_else(|| source.to_string(), str::to_owned);
        Self { address: address.to_string(), setting, reason, source }
    }
}

fn is_in_use(error: &io::Error) -> bool {
    error.kind() == ErrorKind::AddrInUse
}

async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    retry_while_in_use(async || TcpListener::bind(address).await, is_in_use).await
}

fn tcp_reason(error: &io::Error) -> Option<&'static str> {
    Some(match error.kind() {
        ErrorKind::AddrInUse => {
            "the port is in use: stop the program that uses it, perhaps another callpark, or use \
             another port (0: any free one)"
        }
        ErrorKind::AddrNotAvailable => {
            "this machine has no such address: use one of its own, 127.0.0.1 for itself only, or \
             0.0.0.0 for all"
        }
        ErrorKind::PermissionDenied => {
            "not permitted: ports below 1024 need a privilege, use a higher one"
        }
        _ => return None,
    })
}

fn socket_reason(error: &io::Error) -> Option<&'static str> {
    Some(match error.kind() {
        ErrorKind::AddrInUse => {
            "another program listens there: stop it, perhaps another callpark, or use another path"
        }
        ErrorKind::NotFound => "its folder does not exist: create it, or use another path",
        ErrorKind::PermissionDenied => {
            "not permitted: use a path in a folder that this user may write to"
        }
        _ => return None,
    })
}

fn name_reason(_: &io::Error) -> Option<&'static str> {
    None
}

/// Listens on all addresses, or on none. An address in use is tried again for two seconds. `setting` is
/// named in the error.
///
/// # Errors
/// An address is in use, isn't this machine's, or isn't permitted; a name is unknown.
pub(crate) async fn bind(
    addresses: &[ListenAddress],
    mode: SocketMode,
    setting: &'static str,
) -> Result<Vec<Listener>, BindError> {
    let mut listeners = Vec::with_capacity(addresses.len());
    for address in addresses {
        match address {
            ListenAddress::Tcp(tcp) => {
                listeners.extend(bind_tcp(tcp, setting).await?.into_iter().map(Listener::Tcp));
            }
            ListenAddress::Unix(path) => {
                let listening = async || SocketFile::listen(path, mode.bits()).await;
                let bound = retry_while_in_use(listening, is_in_use).await;
                let (listener, file) = bound
                    .map_err(|source| BindError::new(address, setting, socket_reason, source))?;
                listeners.push(Listener::Unix(listener, file));
            }
        }
    }
    Ok(listeners)
}

/// Listens on an address, or on all addresses of a name, with one port.
///
/// # Errors
/// As [`bind`].
pub(crate) async fn bind_tcp(
    address: &TcpAddress,
    setting: &'static str,
) -> Result<Vec<TcpListener>, BindError> {
    let failed = |address: SocketAddr, source| BindError::new(address, setting, tcp_reason, source);
    let (host, port) = match address {
        TcpAddress::Ip(ip) => {
            return Ok(vec![listen(*ip).await.map_err(|error| failed(*ip, error))?]);
        }
        TcpAddress::Name { host, port } => (host.as_str(), *port),
    };
    let resolved = resolve(address, host, port)
        .await
        .map_err(|source| BindError::new(address, setting, name_reason, source))?;
    let mut listeners: Vec<TcpListener> = Vec::with_capacity(resolved.len());
    let mut unavailable = None;
    let mut port = port;
    for mut ip in resolved {
        ip.set_port(port);
        match listen(ip).await {
            Ok(listener) => {
                // All of them have the port that 0 became.
                port = listener.local_addr().map_or(port, |bound| bound.port());
                listeners.push(listener);
            }
            // Many machines know ::1 by name and have no IPv6.
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable => {
                unavailable = Some(failed(ip, error));
            }
            Err(error) => return Err(failed(ip, error)),
        }
    }
    match unavailable {
        Some(error) if listeners.is_empty() => Err(error),
        _ => Ok(listeners),
    }
}

/// Returns the addresses of a name, IPv4 first.
async fn resolve(address: &TcpAddress, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let found = lookup_host((host, port)).await.map_err(|error| {
        let reason = format!("the name `{host}` cannot be resolved ({error}): use an IP address");
        io::Error::new(error.kind(), reason)
    })?;
    let mut addresses: Vec<SocketAddr> = found.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses.dedup();
    let stray = addresses.iter().find(|ip| !ip.ip().to_canonical().is_loopback());
    match stray.filter(|_| address.is_loopback()) {
        Some(stray) => Err(io::Error::other(format!(
            "the name `{host}` should be this machine's own, and here it is {}: use 127.0.0.1",
            stray.ip()
        ))),
        None if addresses.is_empty() => {
            Err(io::Error::other(format!("the name `{host}` has no address: use an IP address")))
        }
        None => Ok(addresses),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> ListenAddress {
        text.parse().expect("an address")
    }

    async fn bound(
        addresses: &[ListenAddress],
        setting: &'static str,
    ) -> Result<Vec<Listener>, BindError> {
        bind(addresses, SocketMode::OWNER, setting).await
    }

    fn local_address(listener: &Listener) -> SocketAddr {
        listener.address().expect("an address").expect("of the network")
    }

    #[tokio::test(start_paused = true)]
    async fn a_port_in_use_is_named_in_the_error() {
        let any = address("127.0.0.1:0");
        let taken = bound(std::slice::from_ref(&any), "listen").await.expect("bound");
        let taken = local_address(&taken[0]);
        let addresses = [any, taken.into()];
        let error = bound(&addresses, "listen").await.expect_err("in use").to_string();
        assert!(error.contains(&format!("cannot listen on {taken}: the port is in use")));
        assert!(error.contains("`listen`"), "{error}");
    }

    #[tokio::test]
    async fn a_foreign_address_is_named_in_the_error() {
        let foreign = [address("192.0.2.1:0")];
        let error = bound(&foreign, "admin-listen").await.expect_err("not ours").to_string();
        assert!(error.contains("this machine has no such address"), "{error}");
        assert!(error.contains("`admin-listen`"), "{error}");
    }

    #[tokio::test]
    async fn the_addresses_of_a_name_have_one_port() {
        let listeners = bound(&[address("localhost:0")], "listen").await.expect("bound");
        let addresses: Vec<_> = listeners.iter().map(local_address).collect();
        assert!(addresses.iter().all(|address| address.ip().is_loopback()), "{addresses:?}");
        assert!(addresses[0].port() != 0, "{addresses:?}");
        assert!(addresses.iter().all(|address| address.port() == addresses[0].port()));
    }

    #[tokio::test]
    async fn a_name_that_nothing_has_is_in_the_error() {
        let unknown = [address("no-such-host.invalid:1")];
        let error = bound(&unknown, "listen").await.expect_err("unknown").to_string();
        assert!(error.contains("`no-such-host.invalid` cannot be resolved"), "{error}");
    }

    #[tokio::test]
    async fn a_socket_that_cannot_be_made_is_named_in_the_error() {
        let nowhere = [address("unix:/nowhere/callpark/socket")];
        let error = bound(&nowhere, "listen").await.expect_err("no folder").to_string();
        assert!(error.contains("unix:/nowhere/callpark/socket: its folder does not exist"));
    }
}
