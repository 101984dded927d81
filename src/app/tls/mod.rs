//! TLS for the listeners and for connections to other servers: certificates and keys from PEM files.

mod renewal;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::auth::{GuardedFile, OwnershipError};

pub(super) use renewal::{ServerTls, TlsRenewal};

/// The PEM files of TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TlsFiles {
    /// The certificate of the server, followed by its intermediate certificates.
    pub certificate: PathBuf,
    /// The key of that certificate: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
    /// The root certificates of clients, or `None` if clients need no certificate.
    pub client_ca: Option<PathBuf>,
}

/// An error in setting up TLS, which names the file.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is not PEM.
    #[error("cannot read the {what} in {}: {reason}", path.display())]
    Read {
        /// The expected content.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The error, and the expected content.
        reason: String,
    },
    /// Others could use the key, or change an authority.
    #[error(transparent)]
    Ownership(#[from] OwnershipError),
    /// Certificate and key do not match, or cannot be used.
    #[error("cannot serve TLS with {} and {}: {source}; the key must be that of the first \
             certificate in the file", certificate.display(), key.display())]
    Pair {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// The error.
        source: rustls::Error,
    },
    /// The root certificates of clients, or of other servers, cannot be used.
    #[error("cannot use the certificate authority in {}: {reason}", path.display())]
    ClientCa {
        /// The file.
        path: PathBuf,
        /// The error.
        reason: String,
    },
    /// The cryptography supports no safe version of the protocol.
    #[error("cannot set up TLS: {0}")]
    Provider(rustls::Error),
}

/// Creates the configuration of listeners for TLS 1.2 and 1.3 with HTTP/2.
///
/// # Errors
/// A file is missing or not what it should be, others could use the key, or key and certificate do not
/// match.
pub(super) fn server_config(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let (certificates, key) = pair(files)?;
    // Named explicitly, so that it does not depend on the provider that the process has installed.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Provider)?;
    let builder = match &files.client_ca {
        Some(path) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(
                Arc::new(roots("client certificate authority", path)?),
                provider,
            )
            .build()
            .map_err(|error: VerifierBuilderError| TlsError::ClientCa {
                path: path.clone(),
                reason: error.to_string(),
            })?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(certificates, key).map_err(|source| {
        let (certificate, key) = (files.certificate.clone(), files.key.clone());
        TlsError::Pair { certificate, key, source }
    })?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// Creates the configuration of connections to the other servers of a store, whose certificates are from the
/// roots in `root_file` or, without that file, from those of the system. A server that wants certificates of its clients wants
/// them of other servers, too: these show their own.
///
/// # Errors
/// A file is missing or not what it should be.
pub(super) fn client_config(
    root_file: Option<&Path>,
    own: Option<&TlsFiles>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let roots = match root_file {
        Some(path) => roots("certificate authority of the other servers", path)?,
        None => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            roots
        }
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Provider)?
        .with_root_certificates(roots);
    let mut config = match own.filter(|own| own.client_ca.is_some()) {
        Some(own) => {
            let (certificates, key) = pair(own)?;
            builder.with_client_auth_cert(certificates, key).map_err(|source| {
                let (certificate, key) = (own.certificate.clone(), own.key.clone());
                TlsError::Pair { certificate, key, source }
            })?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// Returns the certificates and the key of the server.
fn pair(
    files: &TlsFiles,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let certificates = certificates("certificate", &files.certificate)?;
    GuardedFile::TlsKey.check_path(&files.key)?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| unreadable("private key", &files.key, &error))?;
    Ok((certificates, key))
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| unreadable(what, path, &error))?;
    if certificates.is_empty() {
        return Err(unreadable(what, path, &PemError::NoItemsFound));
    }
    Ok(certificates)
}

fn roots(what: &'static str, path: &Path) -> Result<RootCertStore, TlsError> {
    // Others that could add an authority could let anybody in.
    GuardedFile::Authority.check_path(path)?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates(what, path)? {
        roots.add(certificate).map_err(|error| TlsError::ClientCa {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
    }
    Ok(roots)
}

fn unreadable(what: &'static str, path: &Path, error: &PemError) -> TlsError {
    let reason = match error {
        PemError::Io(error) => error.to_string(),
        PemError::NoItemsFound => {
            format!("it contains none; a PEM block `-----BEGIN …-----` with a {what} is expected")
        }
        other => format!("it is not valid PEM ({other:?})"),
    };
    TlsError::Read { what, path: path.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn files(folder: &Path) -> TlsFiles {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
        let files = TlsFiles {
            certificate: folder.join("cert.pem"),
            key: folder.join("key.pem"),
            client_ca: None,
        };
        std::fs::write(&files.certificate, made.cert.pem()).expect("written");
        std::fs::write(&files.key, made.signing_key.serialize_pem()).expect("written");
        set_mode(&files.key, 0o600);
        files
    }

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("permissions");
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = files(folder.path());
        set_mode(&files.key, 0o644);
        let error = server_config(&files).expect_err("it is open").to_string();
        assert!(error.contains("mode 0644") && error.contains("`chmod 600 "), "{error}");
    }

    #[test]
    fn a_good_pair_serves_http2_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let config = server_config(&files(folder.path())).expect("a configuration");
        assert_eq!(config.alpn_protocols, [b"h2"]);
    }

    #[test]
    fn a_missing_file_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut files = files(folder.path());
        files.key = folder.path().join("gone.pem");
        let error = server_config(&files).expect_err("no key").to_string();
        assert!(error.contains("private key") && error.contains("gone.pem"), "{error}");
        assert!(error.contains("No such file"), "{error}");
    }

    #[test]
    fn a_key_in_place_of_a_certificate_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut files = files(folder.path());
        files.certificate.clone_from(&files.key);
        let error = server_config(&files).expect_err("no certificate").to_string();
        assert!(error.contains("it contains none") && error.contains("key.pem"), "{error}");
    }

    #[test]
    fn a_foreign_key_is_refused() {
        let (folder, other) =
            (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let mut files = files(folder.path());
        files.key = self::files(other.path()).key;
        let error = server_config(&files).expect_err("they don't fit").to_string();
        assert!(error.contains("cert.pem") && error.contains("key.pem"), "{error}");
    }

    #[test]
    fn an_empty_client_authority_is_refused_and_not_ignored() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut files = files(folder.path());
        let path = folder.path().join("ca.pem");
        std::fs::write(&path, "").expect("written");
        files.client_ca = Some(path);
        let error = server_config(&files).expect_err("no roots").to_string();
        assert!(error.contains("ca.pem"), "{error}");
    }

    /// Returns whether a server with these files takes a connection of another one.
    async fn connects(server: &TlsFiles, roots: &Path, client: Option<&TlsFiles>) -> bool {
        let acceptor = tokio_rustls::TlsAcceptor::from(server_config(server).expect("a server"));
        let client = client_config(Some(roots), client).expect("a client");
        let connector = tokio_rustls::TlsConnector::from(client);
        let (near, far) = tokio::io::duplex(1 << 16);
        let name = "localhost".try_into().expect("a name");
        let client = async {
            let mut stream = connector.connect(name, near).await?;
            // With TLS 1.3 a client learns with the first bytes that its certificate was refused.
            tokio::io::AsyncReadExt::read_u8(&mut stream).await
        };
        let server = async {
            let mut stream = acceptor.accept(far).await?;
            tokio::io::AsyncWriteExt::write_u8(&mut stream, 1).await?;
            tokio::io::AsyncWriteExt::flush(&mut stream).await?;
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            std::io::Result::Ok(())
        };
        let (client, server) = tokio::join!(client, server);
        client.is_ok() && server.is_ok()
    }

    #[tokio::test]
    async fn servers_show_each_other_their_certificates() {
        let (folder, other) =
            (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let (plain, strangers) = (files(folder.path()), files(other.path()));
        let mutual = TlsFiles { client_ca: Some(plain.certificate.clone()), ..plain.clone() };
        let root = &plain.certificate;
        assert!(connects(&plain, root, None).await);
        assert!(connects(&plain, root, Some(&plain)).await);
        assert!(connects(&mutual, root, Some(&mutual)).await);
        assert!(!connects(&plain, &strangers.certificate, None).await, "of another root");
        assert!(!connects(&mutual, root, None).await, "no certificate");
        assert!(!connects(&mutual, root, Some(&plain)).await, "it shows none");
        let error = client_config(Some(&folder.path().join("gone.pem")), None).expect_err("gone");
        assert!(error.to_string().contains("gone.pem"), "{error}");
    }
}
