//! The answer of another replica, on its way to the caller.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, header};
use http_body::Frame;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::Status;
use tonic::body::Body;

use crate::engine::Error;
use crate::rpc::forward::{AnswerBody, Slot};
use crate::rpc::status::OWNER_HEADER;
use crate::telemetry::{ForwardOutcome, Metrics};

/// Counts a forwarded request when it is dropped.
pub(super) struct ForwardRecorder {
    metrics: Metrics,
    outcome: ForwardOutcome,
}

impl ForwardRecorder {
    /// Creates a recorder for a request that is cancelled unless another outcome is set.
    pub(super) fn new(metrics: Metrics) -> Self {
        Self { metrics, outcome: ForwardOutcome::Cancelled }
    }

    /// Sets the outcome.
    pub(super) fn set(&mut self, outcome: ForwardOutcome) {
        self.outcome = outcome;
    }
}

impl Drop for ForwardRecorder {
    fn drop(&mut self) {
        self.metrics.replicas().rpc_forwarded(self.outcome);
        tracing::debug!(outcome = self.outcome.as_str(), "a request was forwarded");
    }
}

/// The body of an answer, which ends with a status in any case: that of the replica, else one that asks for
/// a retry.
pub(super) struct PassBody {
    body: AnswerBody,
    /// The place on the connection, which is taken until the end.
    _slot: Slot,
    recorder: ForwardRecorder,
    /// Ready when this replica ends its streams, or `None` for an answer that is not a stream.
    drained: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    is_over: bool,
}

impl PassBody {
    /// Wraps the body of an answer that has begun.
    pub(super) fn new(
        body: AnswerBody,
        slot: Slot,
        recorder: ForwardRecorder,
        drained: Option<WaitForCancellationFutureOwned>,
    ) -> Self {
        Self { body, _slot: slot, recorder, drained: drained.map(Box::pin), is_over: false }
    }
}

impl http_body::Body for PassBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let status = match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.is_over = frame.is_trailers();
                return Poll::Ready(Some(Ok(frame)));
            }
            Poll::Ready(Some(Err(_)) | None) => {
                self.recorder.set(ForwardOutcome::Lost);
                unreachable()
            }
            Poll::Pending => match self.drained.as_mut().map(|drained| drained.as_mut().poll(cx)) {
                Some(Poll::Ready(())) => Error::Draining.into(),
                Some(Poll::Pending) | None => return Poll::Pending,
            },
        };
        self.is_over = true;
        Poll::Ready(Some(Ok(Frame::trailers(trailers(status)))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
    }
}

/// Returns the status of a request for a session whose owner cannot be reached.
pub(super) fn unreachable() -> Status {
    let mut status = Status::from(Error::NotOwner { address: String::new() });
    status.metadata_mut().remove(OWNER_HEADER);
    status
}

/// Returns the trailers that end a body with this status.
pub(super) fn trailers(status: Status) -> HeaderMap {
    let mut headers = std::mem::take(status.into_http::<Body>().headers_mut());
    headers.remove(header::CONTENT_TYPE);
    headers
}
