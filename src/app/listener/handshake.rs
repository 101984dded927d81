//! The handshake: from an accepted socket to a connection that speaks HTTP/2.
//!
//! hyper waits for the first bytes of HTTP/2 without a deadline, and its keepalive starts after
//! them, so a silent peer would keep its socket forever. They are read here, under the same deadline
//! as the TLS handshake.

use std::sync::Arc;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_rustls::TlsAcceptor;

use super::accept::Socket;
use super::connection::{Connection, Io};
use super::gate::ConnectionSlot;
use crate::auth::{ClientCertificate, Peer, PeerInfo};
use crate::telemetry::{ConnectionRefusal, Metrics};

/// The bytes that every client of HTTP/2 sends first (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A socket that is to become a [`Connection`].
pub(super) struct Handshake {
    pub(super) socket: Socket,
    pub(super) peer: Peer,
    pub(super) slot: ConnectionSlot,
    pub(super) tls: Option<Arc<ServerConfig>>,
    pub(super) timeout: Duration,
    pub(super) metrics: Metrics,
}

impl Handshake {
    /// Returns the connection, or `None` after an error: the socket is closed, and the reason counted.
    pub(super) async fn run(self) -> Option<Connection> {
        let Self { socket, peer, slot, tls, timeout, metrics } = self;
        let io = tokio::time::timeout(timeout, establish(socket, tls))
            .await
            .unwrap_or(Err(ConnectionRefusal::HandshakeTimeout));
        match io {
            Ok(io) => {
                let counted = metrics.open_connection();
                let certificate = io.tls().and_then(client_certificate);
                let peer = PeerInfo { peer, certificate };
                Some(Connection::new(io, PREFACE, peer, slot, counted))
            }
            Err(reason) => {
                metrics.connection_refused(reason);
                tracing::debug!(%peer, reason = reason.as_str(), "handshake failed");
                None
            }
        }
    }
}

/// Sets up the connection. A Unix domain socket has no TLS: nothing but the kernel is between its ends.
async fn establish(
    socket: Socket,
    tls: Option<Arc<ServerConfig>>,
) -> Result<Io, ConnectionRefusal> {
    let mut stream = match socket {
        Socket::Tcp(stream) => stream,
        Socket::Unix(mut stream) => {
            read_preface(&mut stream).await?;
            return Ok(Io::Unix(stream));
        }
    };
    // Sends small messages at once, without waiting for the acknowledgement of the previous ones.
    // This fails only on a closed socket, on which the next read fails, too.
    let _gone = stream.set_nodelay(true);
    let Some(config) = tls else {
        read_preface(&mut stream).await?;
        return Ok(Io::Tcp(stream));
    };
    let mut stream = TlsAcceptor::from(config).accept(stream).await.map_err(|error| {
        tracing::debug!(%error, "TLS handshake failed");
        match error.kind() {
            // rustls uses this kind for errors of the handshake itself.
            std::io::ErrorKind::InvalidData => ConnectionRefusal::Tls,
            _ => ConnectionRefusal::HandshakeAborted,
        }
    })?;
    read_preface(&mut stream).await?;
    Ok(Io::Tls(Box::new(stream)))
}

/// Returns the certificate of the client, which the handshake has verified.
fn client_certificate(session: &ServerConnection) -> Option<Arc<ClientCertificate>> {
    let certificate = session.peer_certificates()?.first()?;
    let parsed = ClientCertificate::parse(certificate);
    let parsed = parsed.inspect_err(|error| {
        tracing::warn!(%error, "the names in the certificate of a client cannot be read");
    });
    parsed.ok().map(Arc::new)
}

/// Reads the preface from the stream, and no byte after it.
async fn read_preface(stream: &mut (impl AsyncRead + Unpin)) -> Result<(), ConnectionRefusal> {
    let mut buffer = [0; PREFACE.len()];
    let mut filled = 0;
    while filled < buffer.len() {
        match stream.read(&mut buffer[filled..]).await {
            Ok(0) | Err(_) => return Err(ConnectionRefusal::HandshakeAborted),
            Ok(count) => filled += count,
        }
        if buffer[..filled] != PREFACE[..filled] {
            return Err(ConnectionRefusal::NotHttp2);
        }
    }
    Ok(())
}
