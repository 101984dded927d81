//! Listening on addresses.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use tokio::net::TcpListener;

/// An error in listening on an address.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {}; choose with the setting `{setting}`", reason(source))]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// The setting that named it.
    pub setting: &'static str,
    /// The error of the system.
    pub source: io::Error,
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => "the port is in use: stop the program that uses it, perhaps \
                                 another callpark, or use another port (0: any free one)"
            .to_owned(),
        ErrorKind::AddrNotAvailable => "this machine has no such address: use one of its own, \
                                        127.0.0.1 for itself only, or 0.0.0.0 for all"
            .to_owned(),
        ErrorKind::PermissionDenied => {
            "not permitted: ports below 1024 need a privilege, use a higher one".to_owned()
        }
        _ => error.to_string(),
    }
}

/// Listens on all addresses, or on none. `setting` is named in the error.
///
/// # Errors
/// An address is in use, isn't this machine's, or isn't permitted.
pub(crate) async fn bind(
    addresses: &[SocketAddr],
    setting: &'static str,
) -> Result<Vec<TcpListener>, BindError> {
    let mut listeners = Vec::with_capacity(addresses.len());
    for &address in addresses {
        let bound = TcpListener::bind(address).await;
        listeners.push(bound.map_err(|source| BindError { address, setting, source })?);
    }
    Ok(listeners)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_in_use_is_named_in_the_error() {
        let any = "127.0.0.1:0".parse().expect("an address");
        let taken = bind(&[any], "listen").await.expect("bound");
        let address = taken[0].local_addr().expect("an address");
        let error = bind(&[any, address], "listen").await.expect_err("in use").to_string();
        assert!(error.contains(&format!("cannot listen on {address}: the port is in use")));
        assert!(error.contains("`listen`"), "{error}");
    }

    #[tokio::test]
    async fn a_foreign_address_is_named_in_the_error() {
        let foreign = "192.0.2.1:0".parse().expect("an address");
        let error = bind(&[foreign], "admin-listen").await.expect_err("not ours").to_string();
        assert!(error.contains("this machine has no such address"), "{error}");
        assert!(error.contains("`admin-listen`"), "{error}");
    }
}
