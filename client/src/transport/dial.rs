//! The opening of a connection: the address, TLS, and a look at the first bytes.

use std::{
    io,
    path::PathBuf,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::future::BoxFuture;
use http::Uri;
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
};
use tower::Service;

use crate::transport::{
    connect::{BoxIo, Connector},
    fault::{ConnectFault, Faults},
    tls::Tls,
};

/// The first bytes of a connection that are looked at after a write has failed.
const FIRST_BYTES: usize = 1_024;

/// The address of a server.
#[derive(Clone)]
pub(super) enum Target {
    /// A host and a port.
    Host(Uri),
    /// A Unix domain socket.
    Socket(PathBuf),
    /// A function that connects.
    Connector(Connector),
}

/// Opens the connections of one channel.
#[derive(Clone)]
pub(super) struct Dialer {
    pub(super) target: Target,
    pub(super) tls: Option<Tls>,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) faults: Faults,
}

impl Dialer {
    async fn open(self) -> io::Result<Watched<BoxIo>> {
        // A fault of the connection before this one stays the newest until this one shows something
        // else: requests that failed with it may not have looked at it yet.
        let stream = self.reach().await.inspect_err(|_| self.faults.clear())?;
        let (stream, layer) = match &self.tls {
            Some(tls) => {
                let layer = Layer::Tls { has_identity: tls.has_identity };
                let stream = tls.handshake(stream, &self.faults).await?;
                (Box::new(stream) as BoxIo, layer)
            }
            None => (stream, Layer::Plain),
        };
        Ok(Watched { stream, layer, is_fresh: true, failed_write: None, faults: self.faults })
    }

    async fn reach(&self) -> io::Result<BoxIo> {
        match &self.target {
            Target::Host(uri) => connect(uri.clone(), self.connect_timeout).await,
            Target::Socket(path) => match UnixStream::connect(path).await {
                Ok(stream) => Ok(Box::new(stream)),
                Err(error) => {
                    Err(io::Error::new(error.kind(), format!("{}: {error}", path.display())))
                }
            },
            Target::Connector(connector) => connector().await,
        }
    }
}

impl Service<Uri> for Dialer {
    type Response = TokioIo<Watched<BoxIo>>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let dialer = self.clone();
        Box::pin(async move { dialer.open().await.map(TokioIo::new) })
    }
}

/// Resolves the host, and connects to the first of its addresses that answers.
async fn connect(uri: Uri, connect_timeout: Option<Duration>) -> io::Result<BoxIo> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(connect_timeout);
    let stream = connector.call(uri).await.map_err(io::Error::other)?;
    Ok(Box::new(stream.into_inner()))
}

/// The layer below HTTP/2.
#[derive(Clone, Copy)]
enum Layer {
    Plain,
    Tls { has_identity: bool },
}

/// A connection whose reads are examined for a fault.
pub(super) struct Watched<S> {
    stream: S,
    layer: Layer,
    /// Nothing has been read yet.
    is_fresh: bool,
    /// The error of a write that is not explained yet.
    failed_write: Option<io::Error>,
    faults: Faults,
}

impl<S> Watched<S> {
    /// Returns the fault that a read shows.
    fn fault(&mut self, read: &io::Result<()>, bytes: &[u8]) -> Option<ConnectFault> {
        let is_fresh = std::mem::take(&mut self.is_fresh);
        match (self.layer, read) {
            (Layer::Plain, Ok(())) if is_fresh => ConnectFault::in_first_bytes(bytes),
            (Layer::Tls { has_identity }, Err(error)) => {
                ConnectFault::in_connection(error, has_identity)
            }
            _ => None,
        }
    }
}

impl<S: AsyncRead + Unpin> Watched<S> {
    /// Returns the fault behind an error of a write, or else that error. A server that refuses a
    /// certificate after the handshake, or that speaks another protocol, says so and closes: writes
    /// may fail before that is read.
    fn poll_explained(&mut self, cx: &mut Context<'_>, error: io::Error) -> Poll<io::Error> {
        let mut bytes = [0; FIRST_BYTES];
        let mut buffer = ReadBuf::new(&mut bytes);
        match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
            // A connection that the server has closed becomes readable.
            Poll::Pending => {
                self.failed_write = Some(error);
                Poll::Pending
            }
            Poll::Ready(read) => {
                let Some(fault) = self.fault(&read, buffer.filled()) else {
                    return Poll::Ready(error);
                };
                self.faults.record(fault.clone());
                Poll::Ready(io::Error::new(io::ErrorKind::InvalidData, fault))
            }
        }
    }

    /// Performs a write, unless one has failed and its error is not explained yet.
    fn poll_written<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let error = match self.failed_write.take() {
            Some(error) => error,
            None => match ready!(write(Pin::new(&mut self.stream), cx)) {
                Ok(written) => return Poll::Ready(Ok(written)),
                Err(error) => error,
            },
        };
        self.poll_explained(cx, error).map(Err)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let start = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
        if self.is_fresh || read.is_err() {
            let fault = self.fault(&read, buffer.filled().get(start..).unwrap_or_default());
            if let Some(fault) = fault {
                self.faults.record(fault.clone());
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, fault)));
            }
            if buffer.filled().len() > start {
                self.faults.clear();
            }
        }
        Poll::Ready(read)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_written(cx, |stream, cx| stream.poll_write(cx, data))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_written(cx, |stream, cx| stream.poll_write_vectored(cx, data))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_written(cx, |stream, cx| stream.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
