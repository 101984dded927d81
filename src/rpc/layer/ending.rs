//! The end of open requests whose credentials are no longer valid.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::{Frame, SizeHint};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;

use crate::auth::{AuthError, Caller};
use crate::engine::Clock;
use crate::model::Timestamp;

/// The longest sleep before another look at the clock, which may have been set.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// The end of the credentials of a request, and the status with which the request ends then.
type End = Pin<Box<dyn Future<Output = Status> + Send>>;

/// The credentials of a request, as far as their end goes.
#[derive(Clone)]
pub(super) struct Ending {
    /// Is cancelled when the credentials are revoked. `None` for those that nothing revokes.
    ended: Option<CancellationToken>,
    expire_time: Option<Timestamp>,
    clock: Arc<dyn Clock>,
}

impl Ending {
    /// Returns the end of the credentials of a caller, or that of a request without a caller, which has
    /// none.
    pub(super) fn new(caller: Option<&Caller>, clock: Arc<dyn Clock>) -> Self {
        let ended = caller.and_then(|caller| caller.ended.clone());
        Self { ended, expire_time: caller.and_then(|caller| caller.expire_time), clock }
    }

    /// Returns the answer to a request, or UNAUTHENTICATED if the credentials end before. The request is
    /// then handled as one whose caller has gone.
    pub(super) async fn bound(
        &self,
        answer: impl Future<Output = Response<Body>>,
    ) -> Response<Body> {
        let Some(end) = self.clone().end() else { return answer.await };
        tokio::select! {
            // No work begins for credentials that have ended.
            biased;
            status = end => status.into_http(),
            answer = answer => answer,
        }
    }

    /// Returns the body of an answer, which ends with the credentials.
    pub(super) fn body(self, body: Body) -> Body {
        match self.end() {
            None => body,
            Some(end) => Body::new(EndingBody { body, end: Some(end) }),
        }
    }

    /// Returns the end, or `None` if the credentials are valid as long as the server runs. Each request
    /// has a timer of its own, which goes with it.
    fn end(self) -> Option<End> {
        let Self { ended, expire_time, clock } = self;
        if ended.is_none() && expire_time.is_none() {
            return None;
        }
        Some(Box::pin(async move {
            let revoked = async {
                match ended {
                    Some(ended) => ended.cancelled_owned().await,
                    None => pending().await,
                }
            };
            let expired = async {
                match expire_time {
                    Some(time) => reach(time, clock.as_ref()).await,
                    None => pending().await,
                }
            };
            let error = tokio::select! {
                biased;
                () = expired => AuthError::Expired,
                () = revoked => AuthError::Revoked,
            };
            Status::from(error)
        }))
    }
}

/// Returns at this time of the clock.
async fn reach(time: Timestamp, clock: &dyn Clock) {
    loop {
        let left = time.since(clock.now());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(SLEEP_MAX)).await;
    }
}

struct EndingBody {
    body: Body,
    /// `None` once the credentials have ended.
    end: Option<End>,
}

impl http_body::Body for EndingBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let end = self.end.as_mut().map(|end| end.as_mut().poll(cx));
        let Some(Poll::Ready(status)) = end else {
            return Pin::new(&mut self.body).poll_frame(cx);
        };
        self.end = None;
        // What is left of the answer goes, and its stream with it.
        self.body = Body::empty();
        let mut trailers = status.into_http::<Body>().into_parts().0.headers;
        trailers.remove(http::header::CONTENT_TYPE);
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
