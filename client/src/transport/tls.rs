//! TLS of connections to the server.

use std::{fs, io, path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    error::Error,
    options::TlsOptions,
    transport::fault::{ConnectFault, Faults},
};

/// The protocol that gRPC needs, as TLS names it.
const HTTP2: &[u8] = b"h2";

/// The configuration of TLS that all endpoints share.
pub(super) struct TlsConfig {
    connector: TlsConnector,
    /// The name that every certificate must have, or `None` for the host of each endpoint.
    server_name: Option<String>,
    has_identity: bool,
}

impl TlsConfig {
    /// Creates the configuration. Reads the files.
    pub(super) fn load(options: &TlsOptions) -> Result<Self, Error> {
        // Named explicitly, so that it does not depend on the provider of the process.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_root_certificates(roots(options.ca_file.as_deref())?);
        let identity = match (&options.certificate_file, &options.key_file) {
            (Some(certificate), Some(key)) => Some((certificates(certificate)?, private_key(key)?)),
            (None, None) => None,
            _ => {
                return Err(Error::options(
                    "a client certificate and its private key must be given together",
                ));
            }
        };
        let has_identity = identity.is_some();
        let mut config = match identity {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(unusable)?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![HTTP2.to_vec()];
        let server_name = options.server_name.clone();
        Ok(Self { connector: Arc::new(config).into(), server_name, has_identity })
    }

    /// Returns the configuration for a server on this host.
    pub(super) fn for_host(&self, host: &str) -> Result<Tls, Error> {
        let host = self.server_name.as_deref().unwrap_or(host).trim_matches(['[', ']']);
        let name = ServerName::try_from(host.to_owned()).map_err(|error| {
            Error::options(format!("`{host}` is not the name of a server")).caused_by(error)
        })?;
        Ok(Tls { connector: self.connector.clone(), name, has_identity: self.has_identity })
    }
}

/// The configuration of TLS, and the name that the certificate of the server must have.
#[derive(Clone)]
pub(super) struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
    pub(super) has_identity: bool,
}

impl Tls {
    /// Performs the handshake, and records the fault that makes it fail.
    pub(super) async fn handshake<S>(&self, stream: S, faults: &Faults) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = self.connector.connect(self.name.clone(), stream).await;
        let stream = stream.inspect_err(|error| {
            if let Some(fault) = ConnectFault::in_handshake(error, self.has_identity) {
                faults.record(fault);
            }
        })?;
        if stream.get_ref().1.alpn_protocol() == Some(HTTP2) {
            return Ok(stream);
        }
        faults.record(ConnectFault::NoHttp2);
        Err(io::Error::new(io::ErrorKind::InvalidData, ConnectFault::NoHttp2))
    }
}

fn unusable(error: rustls::Error) -> Error {
    Error::options("the certificates or the key are not valid").caused_by(error)
}

/// Returns the authorities in this file, or those of the operating system.
fn roots(file: Option<&Path>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    let Some(file) = file else {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let reason =
                found.errors.first().map_or_else(String::new, |error| format!(": {error}"));
            return Err(Error::options(format!(
                "this system has no trusted authorities{reason}; name a CA file"
            )));
        }
        return Ok(roots);
    };
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(unusable)?;
    }
    Ok(roots)
}

/// Reads a file of certificates. One that contains none would otherwise go unnoticed until the first
/// connection.
fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let pem = read(file)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certificates = certificates.map_err(|error| {
        Error::options(format!("{} is not a valid PEM file: {error}", file.display()))
    })?;
    if certificates.is_empty() {
        return Err(Error::options(format!("{} contains no certificate", file.display())));
    }
    Ok(certificates)
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_slice(&read(file)?).map_err(|error| {
        Error::options(format!("{} contains no private key: {error}", file.display()))
    })
}

fn read(file: &Path) -> Result<Vec<u8>, Error> {
    fs::read(file).map_err(|error| {
        Error::options(format!("cannot read {}: {error}", file.display())).caused_by(error)
    })
}
