//! Bodies that are watched: a request's for its time, an answer's for its end.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use tonic::body::Body;
use tonic::{Code, Status};

use crate::rpc::convert::{InvalidRequest, ViolationReason};
use crate::telemetry::{GaugeGuard, Metrics};

/// A request's body that must have arrived after a while: a caller that sends a byte a second
/// holds no handler for ever.
pub(super) struct TimedBody {
    body: Body,
    timeout: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl TimedBody {
    pub(super) fn new(body: Body, timeout: Duration) -> Self {
        Self { body, timeout, sleep: None }
    }
}

impl http_body::Body for TimedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        // Most bodies are there with their head: only one that isn't costs a timer.
        let timeout = self.timeout;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        ready!(sleep.as_mut().poll(cx));
        let description = format!("must arrive within {} s", timeout.as_secs_f64());
        let violation = InvalidRequest::whole(ViolationReason::OutOfRange, description);
        Poll::Ready(Some(Err(violation.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Counts a request once, when its answer has ended or its caller has gone.
pub(super) struct Ending {
    metrics: Metrics,
    method: String,
    began: Instant,
    code: Option<Code>,
    span: tracing::Span,
    _stream: Option<GaugeGuard>,
}

impl Ending {
    /// A request that begins now, told of in this span.
    pub(super) fn new(
        metrics: Metrics,
        method: String,
        span: tracing::Span,
        stream: Option<GaugeGuard>,
    ) -> Self {
        Self { metrics, method, began: Instant::now(), code: None, span, _stream: stream }
    }

    /// The answer ended with this code.
    pub(super) fn ended(&mut self, code: Code) {
        self.code = Some(code);
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        // Without an end the caller has gone, or its connection.
        let code = self.code.unwrap_or(Code::Cancelled);
        let elapsed = self.began.elapsed();
        self.metrics.rpc(&self.method).finished(code as i32, elapsed);
        if code != Code::Ok {
            let _in_span = self.span.enter();
            tracing::debug!(?code, ?elapsed, "the rpc ended");
        }
    }
}

/// An answer's body that knows how it ended.
pub(super) struct EndingBody {
    body: Body,
    ending: Ending,
}

impl EndingBody {
    pub(super) fn new(body: Body, ending: Ending) -> Self {
        Self { body, ending }
    }
}

impl http_body::Body for EndingBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(status) = frame.trailers_ref().and_then(Status::from_header_map)
        {
            self.ending.ended(status.code());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
