//! From an accepted socket to a connection that has said something sensible.
//!
//! hyper waits for the first bytes of HTTP/2 without a deadline, and its keepalive begins after
//! them: a silent peer would keep its socket for ever. So they are read here, under one deadline
//! with the TLS handshake.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::connection::{Connection, Io};
use super::gate::Place;
use crate::telemetry::{ConnectionRefusal, Metrics};

/// What every client of HTTP/2 sends first (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A socket on its way to a [`Connection`].
pub(super) struct Handshake {
    pub(super) stream: TcpStream,
    pub(super) address: SocketAddr,
    pub(super) place: Place,
    pub(super) tls: Option<Arc<ServerConfig>>,
    pub(super) timeout: Duration,
    pub(super) metrics: Metrics,
}

impl Handshake {
    /// The connection, or why there is none. The socket is closed then, and the reason counted.
    pub(super) async fn run(self) -> Option<Connection> {
        let Self { stream, address, place, tls, timeout, metrics } = self;
        let io = tokio::time::timeout(timeout, establish(stream, tls))
            .await
            .unwrap_or(Err(ConnectionRefusal::HandshakeTimeout));
        match io {
            Ok(io) => {
                let counted = metrics.open_connection();
                Some(Connection::new(io, PREFACE, address, place, counted))
            }
            Err(reason) => {
                metrics.connection_refused(reason);
                tracing::debug!(peer = %address, reason = reason.as_str(), "handshake failed");
                None
            }
        }
    }
}

async fn establish(
    mut stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
) -> Result<Io, ConnectionRefusal> {
    // Small messages go out at once: a frame must not wait for the answer to the one before.
    // It fails only on a socket that is gone, which the next read tells.
    let _gone = stream.set_nodelay(true);
    let Some(config) = tls else {
        read_preface(&mut stream).await?;
        return Ok(Io::Plain(stream));
    };
    let mut stream = TlsAcceptor::from(config).accept(stream).await.map_err(|error| {
        tracing::debug!(%error, "TLS handshake failed");
        match error.kind() {
            // rustls wraps what is wrong with the handshake itself in this kind.
            std::io::ErrorKind::InvalidData => ConnectionRefusal::Tls,
            _ => ConnectionRefusal::HandshakeCut,
        }
    })?;
    read_preface(&mut stream).await?;
    Ok(Io::Tls(Box::new(stream)))
}

/// Takes the preface off the stream, and not a byte more.
async fn read_preface(stream: &mut (impl AsyncRead + Unpin)) -> Result<(), ConnectionRefusal> {
    let mut buffer = [0; PREFACE.len()];
    let mut filled = 0;
    while filled < buffer.len() {
        match stream.read(&mut buffer[filled..]).await {
            Ok(0) | Err(_) => return Err(ConnectionRefusal::HandshakeCut),
            Ok(count) => filled += count,
        }
        if buffer[..filled] != PREFACE[..filled] {
            return Err(ConnectionRefusal::NotHttp2);
        }
    }
    Ok(())
}
