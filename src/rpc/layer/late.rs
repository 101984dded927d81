//! A stream whose handler learns only after its answer has begun that another replica owns the session.

use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderValue, Response};
use http_body::Frame;
use tonic::Status;
use tonic::body::Body;

use super::pass::{trailers, unreachable};
use crate::rpc::status::OWNER_HEADER;

/// The header of an answer that names its compression.
const ENCODING: &str = "grpc-encoding";

/// Returns the answer of the owner that the headers of an answer name.
pub(super) type Follow =
    Box<dyn FnOnce(Response<Body>) -> BoxFuture<'static, Response<Body>> + Send>;

/// The body of a stream. If it ends with the address of an owner before its first message, the body of the
/// owner's answer takes its place.
pub(super) struct LateBody {
    state: State,
    /// The compression that the head of the answer names.
    encoding: Option<HeaderValue>,
}

enum State {
    /// There was no message yet.
    Begin(Body, Follow),
    /// The owner is asked.
    Following(BoxFuture<'static, Response<Body>>),
    /// Nothing can change any more.
    Settled(Body),
}

impl LateBody {
    /// Wraps the body of an answer that is not an error.
    pub(super) fn wrap(response: Response<Body>, follow: Follow) -> Response<Body> {
        let encoding = response.headers().get(ENCODING).cloned();
        response.map(|body| Body::new(Self { state: State::Begin(body, follow), encoding }))
    }
}

impl http_body::Body for LateBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        loop {
            match &mut this.state {
                State::Settled(body) => return Pin::new(body).poll_frame(cx),
                State::Begin(body, ..) => {
                    let frame = ready!(Pin::new(body).poll_frame(cx));
                    let is_elsewhere = frame.as_ref().is_some_and(names_owner);
                    let state = mem::replace(&mut this.state, State::Settled(Body::empty()));
                    let State::Begin(body, follow) = state else { continue };
                    match frame {
                        Some(Ok(frame)) if is_elsewhere => {
                            let mut response = Response::new(Body::empty());
                            *response.headers_mut() = frame.into_trailers().unwrap_or_default();
                            this.state = State::Following(follow(response));
                        }
                        frame => {
                            this.state = State::Settled(body);
                            return Poll::Ready(frame);
                        }
                    }
                }
                State::Following(answer) => {
                    let (head, body) = ready!(answer.as_mut().poll(cx)).into_parts();
                    let encoding = head.headers.get(ENCODING);
                    let status = match Status::from_header_map(&head.headers) {
                        None if encoding == this.encoding.as_ref() => {
                            this.state = State::Settled(body);
                            continue;
                        }
                        // The head of the answer has gone already, and would not fit the body.
                        None => unreachable(),
                        Some(status) => status,
                    };
                    this.state = State::Settled(Body::empty());
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers(status)))));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            State::Begin(..) | State::Following(_) => false,
            State::Settled(body) => body.is_end_stream(),
        }
    }
}

fn names_owner(frame: &Result<Frame<Bytes>, Status>) -> bool {
    let trailers = frame.as_ref().ok().and_then(Frame::trailers_ref);
    trailers.is_some_and(|trailers| trailers.contains_key(OWNER_HEADER))
}
