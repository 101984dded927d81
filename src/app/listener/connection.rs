//! A connection after its handshake.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use rustls::ServerConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::gate::ConnectionSlot;
use crate::auth::PeerInfo;
use crate::telemetry::GaugeGuard;

pub(super) enum Io {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

impl Io {
    /// Returns the session of TLS, or `None` without TLS.
    pub(super) fn tls(&self) -> Option<&ServerConnection> {
        match self {
            Self::Tls(stream) => Some(stream.get_ref().1),
            Self::Tcp(_) | Self::Unix(_) => None,
        }
    }
}

/// Calls a method of the stream, whatever its type is.
macro_rules! on_stream {
    ($io:expr, $stream:ident => $call:expr) => {
        match $io {
            Io::Tcp($stream) => $call,
            Io::Tls($stream) => $call,
            Io::Unix($stream) => $call,
        }
    };
}

/// A connection for [`tonic::transport::Server`], which is counted until it is dropped. tonic puts its
/// [`PeerInfo`] into the extensions of each request.
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
        peer: PeerInfo,
        slot: ConnectionSlot,
        counted: GaugeGuard,
    ) -> Self {
        Self { io, unread, peer, _slot: slot, _counted: counted }
    }

    /// Returns the session of TLS, or `None` without TLS.
    #[cfg(test)]
    pub(super) fn tls(&self) -> Option<&ServerConnection> {
        self.io.tls()
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
            return on_stream!(&mut self.io, stream => Pin::new(stream).poll_read(cx, buffer));
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
        on_stream!(&mut self.io, stream => Pin::new(stream).poll_write(cx, data))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_stream!(&mut self.io, stream => Pin::new(stream).poll_write_vectored(cx, data))
    }

    fn is_write_vectored(&self) -> bool {
        on_stream!(&self.io, stream => stream.is_write_vectored())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(&mut self.io, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(&mut self.io, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
