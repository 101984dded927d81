//! One connection to a replica, and its requests.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connector::Socket;
use super::{KeptBody, SendError};

/// The largest number of requests and streams at the same time on one connection.
const STREAMS_MAX: usize = 128;

/// The window of one stream, in bytes: what a slow reader of a stream keeps in memory here.
const STREAM_WINDOW: u32 = 64 * 1024;

/// The window of a connection, in bytes. All its streams fit, so that one which is not read stops no other.
const CONNECTION_WINDOW: u32 = (STREAMS_MAX as u32 + 1) * STREAM_WINDOW;

/// The largest head of a response, in bytes. The details of an error are in it.
const HEADERS_MAX: u32 = 64 * 1024;

/// The time between two pings to a replica.
const PING_INTERVAL: Duration = Duration::from_secs(2);

/// The time that a replica has to answer a ping.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection, as far as requests see it.
pub(super) struct Connection {
    sender: SendRequest<KeptBody>,
    streams: AtomicUsize,
    /// The number of streams that the replica takes.
    streams_max: Arc<AtomicUsize>,
    /// The number of requests so far.
    uses: AtomicUsize,
}

impl Connection {
    /// Begins HTTP/2 on a socket. Returns the connection, and the future that moves its bytes.
    pub(super) async fn new(
        socket: Socket,
        tasks: &Tasks,
    ) -> hyper::Result<(Self, Pin<Box<dyn Future<Output = ()> + Send>>)> {
        let (sender, mut connection) = Builder::new(tasks.clone())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEADERS_MAX)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(socket))
            .await?;
        let streams_max = Arc::new(AtomicUsize::new(STREAMS_MAX));
        let known_max = streams_max.clone();
        let driver = std::future::poll_fn(move |cx| {
            let ended = pin!(&mut connection).poll(cx);
            known_max.store(connection.current_max_send_streams(), Ordering::Relaxed);
            match ended {
                Poll::Ready(_) => Poll::Ready(()),
                Poll::Pending => Poll::Pending,
            }
        });
        let (streams, uses) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Ok((Self { sender, streams, streams_max, uses }, Box::pin(driver)))
    }

    /// Returns whether the connection takes no more requests.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Returns the number of requests so far, if none is under way.
    pub(super) fn uses_if_idle(&self) -> Option<usize> {
        (self.streams.load(Ordering::Relaxed) == 0).then(|| self.uses.load(Ordering::Relaxed))
    }

    /// Takes a place for a request, or returns `None` if there is none.
    pub(super) fn slot(self: &Arc<Self>) -> Option<Slot> {
        let streams_max = self.streams_max.load(Ordering::Relaxed).min(STREAMS_MAX);
        let free = |streams: usize| (streams < streams_max).then_some(streams + 1);
        self.streams.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free).ok()?;
        self.uses.fetch_add(1, Ordering::Relaxed);
        Some(Slot(self.clone()))
    }
}

/// A place for a request on a connection, which is free again when this is dropped.
pub(in crate::rpc) struct Slot(Arc<Connection>);

impl Slot {
    pub(super) async fn send(
        &self,
        request: Request<KeptBody>,
    ) -> Result<Response<Incoming>, SendError> {
        let sent = self.0.sender.clone().try_send_request(request).await;
        sent.map_err(|error| match error.message() {
            Some(_) => SendError::Unprocessed,
            None => classify(error.error()),
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Only two errors tell that a replica has not looked at a request: that it has refused the stream, and that
/// it goes away and names an earlier stream as the last one.
fn classify(error: &hyper::Error) -> SendError {
    let cause =
        std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<h2::Error>());
    let is_unprocessed = cause.is_some_and(|cause| {
        let reason = cause.reason();
        let is_refused = cause.is_reset() && reason == Some(h2::Reason::REFUSED_STREAM);
        let goes_away = cause.is_go_away() && reason == Some(h2::Reason::NO_ERROR);
        cause.is_remote() && (is_refused || goes_away)
    });
    if is_unprocessed { SendError::Unprocessed } else { SendError::Lost }
}

/// The tasks of all connections, until they are stopped.
#[derive(Clone, Default)]
pub(super) struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// Returns whether tasks are not run any more.
    pub(super) fn are_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Drops all tasks, and waits until they have gone.
    pub(super) async fn stop(&self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, task: F) {
        let task = self.stop.clone().run_until_cancelled_owned(task);
        self.tracker.spawn(task);
    }
}
