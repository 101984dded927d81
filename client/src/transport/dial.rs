//! The opening of one connection: the address, TLS, and a look at the first bytes.

use std::{
    error::Error as StdError,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tonic::{ConnectError, Status};
use tower::Service;

use crate::transport::{
    address::{Endpoint, Target, named, timed_out},
    connect::BoxIo,
    connection_handle::ConnectionHandle,
    fault::{ConnectFault, Ended, Faults},
    http_answer::{CheckedChannel, of_fault},
};

/// The first bytes of a connection that are looked at after a write has failed.
const FIRST_BYTES: usize = 1_024;

type BoxError = Box<dyn StdError + Send + Sync>;

/// Opens a connection to one address of an endpoint.
pub(super) async fn dial(
    endpoint: &Endpoint,
    target: &Target,
    handle: ConnectionHandle,
) -> Result<CheckedChannel, Status> {
    let faults = Faults::default();
    let opening = open(endpoint, target, &faults);
    let opened = match endpoint.http.get_connect_timeout() {
        Some(time_max) => {
            let opened = timeout(time_max, opening).await;
            opened.map_err(|_| timed_out("no connection", time_max)).flatten()
        }
        None => opening.await,
    };
    let (stream, layer) = opened.map_err(|error| match faults.newest() {
        Some(fault) => of_fault(fault),
        None => cannot_connect(error),
    })?;
    let answered = handle.answered();
    let connection = Watched {
        stream,
        layer,
        is_fresh: true,
        failed_write: None,
        faults: faults.clone(),
        end: End { handle: handle.clone(), faults: faults.clone() },
    };
    let once = Once { connection: Some(connection), handle };
    let channel = endpoint.http.connect_with_connector(once).await;
    let channel = channel.map_err(|error| Status::from_error(Box::new(error)))?;
    Ok(CheckedChannel::new(channel, faults, answered))
}

/// Returns the status of a connection that cannot be opened.
pub(super) fn cannot_connect(error: io::Error) -> Status {
    let mut status = Status::unavailable(error.to_string());
    status.set_source(std::sync::Arc::new(ConnectError(Box::new(error))));
    status
}

async fn open(endpoint: &Endpoint, target: &Target, faults: &Faults) -> io::Result<(BoxIo, Layer)> {
    let stream = reach(target).await?;
    let Some(tls) = &endpoint.tls else { return Ok((stream, Layer::Plain)) };
    let stream = tls.handshake(stream, faults).await?;
    Ok((Box::new(stream), Layer::Tls { has_identity: tls.has_identity }))
}

async fn reach(target: &Target) -> io::Result<BoxIo> {
    match target {
        Target::Tcp(address) => {
            let stream = TcpStream::connect(address).await;
            let stream = stream.map_err(|error| named("tcp connect error", &error))?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream))
        }
        Target::Socket(path) => {
            let stream = UnixStream::connect(path).await;
            Ok(Box::new(stream.map_err(|error| named(&path.display().to_string(), &error))?))
        }
        Target::Connector(connector, endpoint) => connector(endpoint).await,
    }
}

/// Passes one open connection on. HTTP/2 asks for another one when that one has ended.
struct Once {
    connection: Option<Watched<BoxIo>>,
    handle: ConnectionHandle,
}

impl Service<Uri> for Once {
    type Response = TokioIo<Watched<BoxIo>>;
    type Error = BoxError;
    type Future = std::future::Ready<Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        std::future::ready(match self.connection.take() {
            Some(connection) => Ok(TokioIo::new(connection)),
            None => {
                self.handle.lost(None);
                Err(Box::new(Ended))
            }
        })
    }
}

/// Reports the end of a connection when it is dropped.
struct End {
    handle: ConnectionHandle,
    faults: Faults,
}

impl Drop for End {
    fn drop(&mut self) {
        self.handle.lost(self.faults.newest());
    }
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
    #[expect(dead_code, reason = "its drop is its effect")]
    end: End,
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
