//! The end of open requests whose credentials are no longer valid.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http_body::{Frame, SizeHint};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;
use tonic::body::Body;

use crate::auth::{AuthError, Caller};
use crate::engine::Clock;
use crate::model::Timestamp;

/// The end of the credentials of a request.
#[derive(Clone)]
pub(super) struct Ending {
    /// Is cancelled at the end. `None` for credentials that are valid as long as the server runs.
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
        let Some(ended) = &self.ended else { return answer.await };
        tokio::select! {
            // No work begins for credentials that have ended.
            biased;
            () = ended.cancelled() => self.status().into_http(),
            answer = answer => answer,
        }
    }

    /// Returns the body of an answer, which ends with the credentials.
    pub(super) fn body(self, body: Body) -> Body {
        match self.ended.clone() {
            None => body,
            Some(ended) => {
                let ended = Some(Box::pin(ended.cancelled_owned()));
                Body::new(EndingBody { body, ended, ending: self })
            }
        }
    }

    fn status(&self) -> Status {
        let is_expired = self.expire_time.is_some_and(|time| time <= self.clock.now());
        Status::from(if is_expired { AuthError::Expired } else { AuthError::Revoked })
    }
}

struct EndingBody {
    body: Body,
    /// `None` once the credentials have ended.
    ended: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    ending: Ending,
}

impl http_body::Body for EndingBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let has_ended = self.ended.as_mut().is_some_and(|ended| ended.as_mut().poll(cx).is_ready());
        if !has_ended {
            return Pin::new(&mut self.body).poll_frame(cx);
        }
        self.ended = None;
        // What is left of the answer goes, and its stream with it.
        self.body = Body::empty();
        let mut trailers = self.ending.status().into_http::<Body>().into_parts().0.headers;
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
