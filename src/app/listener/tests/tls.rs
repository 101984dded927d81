use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::transport::server::Connected;

use super::super::{Incoming, ListenerOptions};
use super::{PREFACE, TIMEOUT, check_closed, drive, listen, options, start};
use crate::app::tls::{TlsFiles, server_config};
use crate::auth::Peer;
use crate::telemetry::Metrics;

/// An authority with a certificate for `localhost`, written to files, and one for a client.
struct Certificates {
    folder: tempfile::TempDir,
    authority: CertificateDer<'static>,
    client: CertificateDer<'static>,
    client_key: PrivateKeyDer<'static>,
}

fn certificates() -> Certificates {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let authority = params.self_signed(&key).expect("signed");
    let issuer = Issuer::new(params, key);
    let issue = |name: &str| {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new([name.to_owned()]).expect("parameters");
        (params.signed_by(&key, &issuer).expect("signed"), key)
    };
    let (certificate, key) = issue("localhost");
    let (client, client_key) = issue("agent.example");
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in [
        ("cert.pem", certificate.pem()),
        ("key.pem", key.serialize_pem()),
        ("ca.pem", authority.pem()),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("permissions");
    }
    Certificates {
        folder,
        authority: authority.der().clone(),
        client: client.der().clone(),
        client_key: PrivateKeyDer::try_from(client_key.serialize_der()).expect("a key"),
    }
}

impl Certificates {
    fn options(&self, is_mutual: bool) -> ListenerOptions {
        let path = |name| self.folder.path().join(name);
        let files = TlsFiles {
            certificate: path("cert.pem"),
            key: path("key.pem"),
            client_ca: is_mutual.then(|| path("ca.pem")),
        };
        let (_, config) = watch::channel(server_config(&files).expect("a configuration"));
        ListenerOptions { tls: Some(config), ..options() }
    }

    async fn connect(
        &self,
        address: SocketAddr,
        shows_certificate: bool,
    ) -> tokio_rustls::client::TlsStream<TcpStream> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.authority.clone()).expect("added");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        let mut config = if shows_certificate {
            let key = self.client_key.clone_key();
            builder.with_client_auth_cert(vec![self.client.clone()], key).expect("a pair")
        } else {
            builder.with_no_client_auth()
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect(address).await.expect("connected");
        let name = ServerName::try_from("localhost").expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("shaken hands")
    }
}

#[tokio::test]
async fn tls_gives_a_connection_that_speaks_http2() {
    let certificates = certificates();
    let mut server = start(certificates.options(false)).await;
    let mut client = certificates.connect(server.address, false).await;
    assert_eq!(client.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    client.write_all(PREFACE).await.expect("written");
    let mut connection = server.next().await;
    assert!(connection.tls().is_some_and(|tls| tls.peer_certificates().is_none()));
    connection.write_all(b"hello").await.expect("written");
    connection.flush().await.expect("flushed");
    let mut answer = [0; 5];
    timeout(TIMEOUT, client.read_exact(&mut answer)).await.expect("in time").expect("read");
}

#[tokio::test]
async fn mutual_tls_identifies_the_client() {
    let certificates = certificates();
    let mut server = start(certificates.options(true)).await;
    let mut client = certificates.connect(server.address, true).await;
    client.write_all(PREFACE).await.expect("written");
    let connection = server.next().await;
    let shown = connection.tls().and_then(|tls| tls.peer_certificates()).unwrap_or_default();
    assert_eq!(shown, std::slice::from_ref(&certificates.client));
}

#[tokio::test]
async fn mutual_tls_refuses_a_client_without_a_certificate() {
    let certificates = certificates();
    let server = start(certificates.options(true)).await;
    // With TLS 1.3 the client learns of it at its first read.
    let mut client = certificates.connect(server.address, false).await;
    let read = timeout(TIMEOUT, client.read(&mut [0; 1])).await.expect("closed in time");
    assert!(matches!(read, Ok(0) | Err(_)));
    server.check_refused("tls", 1);
}

#[tokio::test]
async fn half_open_and_silent_tls_is_closed_at_the_deadline() {
    let certificates = certificates();
    let handshake_timeout = Duration::from_secs(1);
    let options = ListenerOptions { handshake_timeout, ..certificates.options(false) };
    let server = start(options).await;
    let mut half_open = server.connect().await;
    // The header of a record that never comes.
    half_open.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]).await.expect("written");
    let mut silent = certificates.connect(server.address, false).await;
    check_closed(&mut half_open).await;
    let read = timeout(TIMEOUT, silent.read(&mut [0; 1])).await.expect("closed in time");
    assert!(matches!(read, Ok(0) | Err(_)));
    server.check_refused("handshake_timeout", 2);
}

#[tokio::test]
async fn plain_text_on_a_tls_port_is_refused() {
    let certificates = certificates();
    let server = start(certificates.options(false)).await;
    let mut client = server.connect().await;
    client.write_all(PREFACE).await.expect("written");
    let _alert = timeout(TIMEOUT, client.read_to_end(&mut Vec::new())).await.expect("closed");
    server.check_refused("tls", 1);
}

#[tokio::test]
async fn a_unix_socket_is_plain_and_names_the_user_of_its_peer() {
    let certificates = certificates();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");
    let listeners = listen(&format!("unix:{}", path.display())).await;
    let metrics = Metrics::default();
    let incoming = Incoming::new(listeners, certificates.options(false), metrics.clone());
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut server = drive(nowhere, incoming, metrics);
    let mut client = UnixStream::connect(&path).await.expect("connected");
    client.write_all(PREFACE).await.expect("written");
    let mut connection = server.next().await;
    let uid = rustix::process::geteuid().as_raw();
    assert_eq!(connection.connect_info().peer, Peer::Process { uid });
    connection.write_all(b"hello").await.expect("written");
    let mut answer = [0; 5];
    timeout(TIMEOUT, client.read_exact(&mut answer)).await.expect("in time").expect("read");
    assert_eq!(&answer, b"hello");
}
