//! A connection after its handshake.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::gate::ConnectionSlot;
use crate::telemetry::GaugeGuard;

/// The peer of a connection. tonic puts it into the extensions of each request.
#[derive(Debug, Clone)]
#[cfg_attr(not(test), expect(dead_code, reason = "the server decides by the token alone"))]
pub(crate) struct PeerInfo {
    /// The peer's address.
    pub address: SocketAddr,
    /// `true` if the connection is encrypted.
    pub is_tls: bool,
    /// The certificates of the peer, its own first, verified against the client certificate authority.
    /// Empty without mTLS.
    pub certificates: Arc<[CertificateDer<'static>]>,
}

pub(super) enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection for [`tonic::transport::Server`], which is counted until it is dropped.
pub(crate) struct Connection {
    io: Io,
    /// The bytes that the handshake has read, for the HTTP/2 server to read again.
    unread: &'static [u8],
    peer: PeerInfo,
    _slot: ConnectionSlot,
    _counted: GaugeGuard,
}

impl Connection {
    pub(super) fn new(
        io: Io,
        unread: &'static [u8],
        address: SocketAddr,
        slot: ConnectionSlot,
        counted: GaugeGuard,
    ) -> Self {
        let certificates = match &io {
            Io::Plain(_) => None,
            Io::Tls(stream) => stream.get_ref().1.peer_certificates(),
        };
        let peer = PeerInfo {
            address,
            is_tls: matches!(io, Io::Tls(_)),
            certificates: certificates.unwrap_or_default().iter().cloned().collect(),
        };
        Self { io, unread, peer, _slot: slot, _counted: counted }
    }
}

impl Connected for Connection {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unread.is_empty() {
            return match &mut self.io {
                Io::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
                Io::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
            };
        }
        let (now, later) = self.unread.split_at(self.unread.len().min(buffer.remaining()));
        buffer.put_slice(now);
        self.unread = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_write(cx, data),
            Io::Tls(stream) => Pin::new(stream).poll_write(cx, data),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, data),
            Io::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, data),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Plain(stream) => stream.is_write_vectored(),
            Io::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Io::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
