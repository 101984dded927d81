//! Wrappers of bodies: a time limit for a request, and a count for a response.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use tonic::body::Body;
use tonic::{Code, Status};

use super::audit::{self, AuditedRequest};
use super::keep::Keeper;
use super::large::BodySize;
use crate::quota::Held;
use crate::rpc::convert::{InvalidRequest, ViolationReason};
use crate::rpc::status::OWNER_HEADER;
use crate::telemetry::{GaugeGuard, Metrics};

/// The body of a request, with a limit on the time until it has arrived. Otherwise a caller that
/// sends a byte a second would keep a handler waiting forever.
///
/// The bytes are counted. A body that becomes large is pending once, so that the request is handled in
/// a later poll, which is made apart from other requests.
pub(super) struct TimedBody {
    body: Body,
    timeout: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    size: BodySize,
    /// Keeps what is read, if the request can be forwarded.
    keeper: Option<Keeper>,
    /// A frame that was kept back for one poll.
    held: Option<Frame<Bytes>>,
}

impl TimedBody {
    pub(super) fn new(
        body: Body,
        timeout: Duration,
        size: BodySize,
        keeper: Option<Keeper>,
    ) -> Self {
        Self { body, timeout, sleep: None, size, keeper, held: None }
    }
}

impl http_body::Body for TimedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(frame) = self.held.take() {
            return Poll::Ready(Some(Ok(frame)));
        }
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            if let Some(keeper) = &self.keeper {
                keeper.read(frame.as_ref(), self.body.is_end_stream());
            }
            let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
            let bytes = data.map_or(0, Bytes::len);
            return match frame {
                Some(Ok(frame)) if self.size.add(bytes) => {
                    self.held = Some(frame);
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                frame => Poll::Ready(frame),
            };
        }
        // Most bodies arrive together with their head and need no timer.
        let timeout = self.timeout;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        ready!(sleep.as_mut().poll(cx));
        let description = format!("must arrive within {} s", timeout.as_secs_f64());
        let violation = InvalidRequest::whole(ViolationReason::OutOfRange, description);
        Poll::Ready(Some(Err(violation.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Records the outcome of a request when it is dropped: when the response has ended or the caller
/// has disconnected.
pub(super) struct OutcomeRecorder {
    metrics: Metrics,
    method: String,
    start: Instant,
    code: Option<Code>,
    /// The line in the audit log.
    audited: AuditedRequest,
    span: tracing::Span,
    /// The guards of what counts as an open stream.
    _stream: (Option<GaugeGuard>, Option<Held>),
}

impl OutcomeRecorder {
    /// Creates a recorder for a request that starts now. Its outcome is logged in `span`.
    pub(super) fn new(
        metrics: Metrics,
        method: String,
        span: tracing::Span,
        stream: (Option<GaugeGuard>, Option<Held>),
        audited: AuditedRequest,
    ) -> Self {
        Self { metrics, method, start: Instant::now(), code: None, audited, span, _stream: stream }
    }

    /// Sets the status with which the response ended.
    pub(super) fn set_status(&mut self, status: &Status) {
        self.code = Some(status.code());
        self.audited.finish(status.code(), || audit::reason(status));
    }

    /// Passes the id of the thing of a request from the replica that owns it to the one that has its caller.
    pub(super) fn pass_id(&self, headers: &mut HeaderMap, is_forwarded: bool) {
        match is_forwarded {
            true => self.audited.add_to(headers),
            false => self.audited.take_from(headers),
        }
    }
}

impl Drop for OutcomeRecorder {
    fn drop(&mut self) {
        // Without a code, the caller or its connection has gone.
        let code = self.code.unwrap_or(Code::Cancelled);
        self.audited.finish(code, audit::gone);
        let elapsed = self.start.elapsed();
        self.metrics.rpc(&self.method).finished(code as i32, elapsed);
        if code != Code::Ok {
            let _in_span = self.span.enter();
            tracing::debug!(?code, ?elapsed, "the rpc ended");
        }
    }
}

/// The body of a response, which reports the code in its trailers to a recorder.
pub(super) struct RecordedBody {
    body: Body,
    recorder: OutcomeRecorder,
    /// `true` if another replica gets the trailers, which may name the owner of a session.
    keeps_owner: bool,
}

impl RecordedBody {
    pub(super) fn new(body: Body, recorder: OutcomeRecorder, keeps_owner: bool) -> Self {
        Self { body, recorder, keeps_owner }
    }
}

impl http_body::Body for RecordedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &mut frame
            && let Some(trailers) = frame.trailers_mut()
            && let Some(status) = Status::from_header_map(trailers)
        {
            self.recorder.pass_id(trailers, self.keeps_owner);
            self.recorder.set_status(&status);
            if !self.keeps_owner {
                trailers.remove(OWNER_HEADER);
            }
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
