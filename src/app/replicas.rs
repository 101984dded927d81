//! The way of a server to the other servers of its store.

use tokio_rustls::TlsConnector;

use super::config::Config;
use super::error::Error;
use super::tls::client_config;
use crate::rpc::{Forwarder, ForwarderOptions};
use crate::store::Store;

/// Returns the way to the other servers of the store, or `None` if this one has it alone or has no address
/// for them.
///
/// # Errors
/// A file of TLS cannot be used.
pub(super) fn forwarder(config: &Config, store: &dyn Store) -> Result<Option<Forwarder>, Error> {
    let (Some(_), Some(replicas)) = (&config.advertise, store.replicas()) else { return Ok(None) };
    let own = config.tls_files();
    // The other servers may have TLS before this one does.
    let tls = if own.is_some() || config.replica_ca.is_some() {
        let config = client_config(config.replica_ca.as_deref(), own.as_ref())?;
        Some(TlsConnector::from(config))
    } else {
        None
    };
    let request_bytes_max = config.max_request.as_usize();
    Ok(Some(Forwarder::new(ForwarderOptions { replicas, tls, request_bytes_max })))
}
