//! Bodies with bounds: of a request in size and time, and of an answer as a part of its request.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::Sleep;

use super::connection_places::OpenRequest;
use crate::model::limits::{HTTP_BODY_BYTES_MAX, HTTP_BODY_SECONDS};

const BODY_TIMEOUT: Duration = Duration::from_secs(HTTP_BODY_SECONDS);

/// The bound that the body of a request has exceeded, if it has.
#[derive(Debug, Clone, Default)]
pub(super) struct BodyExcess(Arc<OnceLock<Excess>>);

#[derive(Debug, Clone, Copy)]
enum Excess {
    Size,
    Time,
}

/// The error of a body that has exceeded a bound.
#[derive(Debug, thiserror::Error)]
#[error("the body of the request is too large, or was too slow")]
pub(super) struct BodyExcessError;

impl BodyExcess {
    /// Returns the answer to a request whose body has exceeded a bound.
    pub(super) fn answer(&self) -> Option<(StatusCode, String)> {
        Some(match self.0.get()? {
            Excess::Size => (
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the body of a request has at most {HTTP_BODY_BYTES_MAX} bytes\n"),
            ),
            Excess::Time => (
                StatusCode::REQUEST_TIMEOUT,
                format!("the body of a request must arrive within {HTTP_BODY_SECONDS} s\n"),
            ),
        })
    }

    fn set<T>(&self, excess: Excess) -> Poll<Option<Result<T, BodyExcessError>>> {
        // The first one stays.
        let _result = self.0.set(excess);
        Poll::Ready(Some(Err(BodyExcessError)))
    }
}

/// The body of a request, with bounds on its size and on the time in which it arrives.
pub(super) struct RequestBody {
    body: Body,
    excess: BodyExcess,
    bytes_left: usize,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl RequestBody {
    /// Puts bounds on a body. One that announces too large a size has exceeded them already.
    pub(super) fn new(body: Body) -> (Self, BodyExcess) {
        let excess = BodyExcess::default();
        if body.size_hint().lower() > HTTP_BODY_BYTES_MAX as u64 {
            let _result = excess.0.set(Excess::Size);
        }
        let bytes_left = HTTP_BODY_BYTES_MAX;
        (Self { body, excess: excess.clone(), bytes_left, sleep: None }, excess)
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            let size = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
            match self.bytes_left.checked_sub(size.map_or(0, Bytes::len)) {
                Some(left) => self.bytes_left = left,
                None => return self.excess.set(Excess::Size).map_err(axum::Error::new),
            }
            return Poll::Ready(frame);
        }
        // Most bodies arrive together with their head and need no timer.
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(BODY_TIMEOUT)));
        ready!(sleep.as_mut().poll(cx));
        self.excess.set(Excess::Time).map_err(axum::Error::new)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer, with whose end the request is answered.
pub(super) struct AnswerBody {
    pub(super) body: Body,
    pub(super) _request: OpenRequest,
}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
