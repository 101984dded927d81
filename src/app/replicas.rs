//! The way of a server to the other servers of its store.

use tokio_rustls::TlsConnector;

use super::config::Config;
use super::tls::{TlsError, TlsFiles, TlsRenewal, client_config};
use crate::rpc::{Forwarder, ForwarderOptions};
use crate::store::Store;

/// The TLS of the connections to the other servers, or `None` if they have none.
type ForwarderTls = Option<TlsRenewal<TlsConnector>>;

/// Returns the way to the other servers of the store, and its TLS if it has any, or `None` if this server has
/// the store alone or has no address for the others.
///
/// # Errors
/// A file of TLS cannot be used.
pub(super) fn forwarder(
    config: &Config,
    store: &dyn Store,
) -> Result<Option<(Forwarder, ForwarderTls)>, TlsError> {
    let (Some(_), Some(replicas)) = (&config.advertise, store.replicas()) else { return Ok(None) };
    let (own, root_file) = (config.tls_files(), config.replica_ca.clone());
    // The other servers may have TLS before this one does.
    let renewal = if own.is_some() || root_file.is_some() {
        let mut paths = own.as_ref().map(TlsFiles::paths).unwrap_or_default();
        paths.extend(root_file.clone());
        let make =
            move || client_config(root_file.as_deref(), own.as_ref()).map(TlsConnector::from);
        Some(TlsRenewal::new(paths, make)?)
    } else {
        None
    };
    let tls = renewal.as_ref().map(TlsRenewal::subscribe);
    let request_bytes_max = config.max_request.as_usize();
    let forwarder = Forwarder::new(ForwarderOptions { replicas, tls, request_bytes_max });
    Ok(Some((forwarder, renewal)))
}
