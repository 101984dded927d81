//! A request for a session that another replica owns: the owner answers it.
//!
//! A handler's NOT_OWNER names the owner, and the request is sent there as it came. If the owner has not
//! processed it, the session may have another owner: the request is handled here once more, and forwarded
//! once more. A request whose answer was lost is never repeated, because it may have had its effect.

use std::convert::Infallible;

use futures::FutureExt as _;
use http::header::{CONTENT_TYPE, HeaderName, TE, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::PollSemaphore;
use tonic::body::Body;
use tonic::{Code, Status};

use super::handle::handle;
use super::head::{GRPC_CONTENT_TYPE, REQUEST_ID};
use super::keep::Keeper;
use super::large::BodySize;
use super::late::LateBody;
use super::pass::{ForwardRecorder, PassBody, unreachable};
use crate::auth::Caller;
use crate::engine::Error;
use crate::rpc::deadline::{Deadline, TIMEOUT};
use crate::rpc::forward::{AnswerBody, Forwarder, KeptBody, SendError, Slot};
use crate::rpc::status::OWNER_HEADER;
use crate::telemetry::{ForwardOutcome, Metrics};

/// The headers of a request that the owner gets as they came. The credentials stay here.
const PASSED: [HeaderName; 7] = [
    CONTENT_TYPE,
    TE,
    USER_AGENT,
    HeaderName::from_static("grpc-encoding"),
    HeaderName::from_static("grpc-accept-encoding"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
];

/// The header with the status of an answer without a body.
const STATUS: &str = "grpc-status";

/// A request that can be forwarded.
pub(super) struct Forwarding {
    pub(super) forwarder: Forwarder,
    pub(super) metrics: Metrics,
    pub(super) keeper: Keeper,
    /// The head of the request, with its principal and its deadline.
    pub(super) head: Parts,
    pub(super) request_id: HeaderValue,
    /// `true` if the answer is a stream.
    pub(super) is_stream: bool,
    pub(super) size: BodySize,
    pub(super) places: PollSemaphore,
}

/// The fate of a request that was forwarded.
enum Forwarded {
    Answered(Response<Body>),
    Unprocessed,
    Lost,
}

impl Forwarding {
    /// Handles the request, and returns the answer of its owner if that is another replica.
    pub(super) async fn run<S>(
        self: Box<Self>,
        mut service: S,
        request: Request<Body>,
    ) -> Response<Body>
    where
        S: tower::Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + Send
            + 'static,
        S::Future: Send,
    {
        let (size, places) = (self.size.clone(), self.places.clone());
        let response = handle(&mut service, request, size, places).await;
        if self.is_stream && !response.headers().contains_key(STATUS) {
            let follow = |response| self.follow_in_time(service, response).boxed();
            return LateBody::wrap(response, Box::new(follow));
        }
        self.follow(&mut service, response).await
    }

    /// Returns the answer of the owner that `response` names, within the caller's deadline.
    async fn follow_in_time<S>(
        self: Box<Self>,
        mut service: S,
        response: Response<Body>,
    ) -> Response<Body>
    where
        S: tower::Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    {
        let abort_at = self.head.extensions.get().map(Deadline::abort_at);
        let answer = self.follow(&mut service, response);
        match abort_at {
            Some(abort_at) => timeout_at(abort_at, answer)
                .await
                .unwrap_or_else(|_| Status::from(Error::DeadlineExceeded).into_http()),
            None => answer.await,
        }
    }

    /// Returns the answer of the owner if `response` names one, else `response`.
    async fn follow<S>(&self, service: &mut S, response: Response<Body>) -> Response<Body>
    where
        S: tower::Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    {
        let mut response = response;
        for is_last in [false, true] {
            let owner = response.headers().get(OWNER_HEADER);
            let owner = owner.and_then(|owner| owner.to_str().ok()).map(str::to_owned);
            let (Some(owner), Some(body)) = (owner, self.keeper.body()) else { break };
            match self.forward(&owner, body.clone()).await {
                Forwarded::Answered(answer) => return answer,
                Forwarded::Lost => return unreachable().into_http(),
                Forwarded::Unprocessed if is_last => break,
                Forwarded::Unprocessed => response = self.handle_again(service, body).await,
            }
        }
        response
    }

    /// Handles the request here once more.
    async fn handle_again<S>(&self, service: &mut S, body: KeptBody) -> Response<Body>
    where
        S: tower::Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    {
        let request = Request::from_parts(self.head.clone(), Body::new(body));
        match std::future::poll_fn(|cx| service.poll_ready(cx)).await {
            Ok(()) => handle(service, request, self.size.clone(), self.places.clone()).await,
            Err(never) => match never {},
        }
    }

    /// Sends the request to its owner.
    async fn forward(&self, owner: &str, body: KeptBody) -> Forwarded {
        let mut recorder = ForwardRecorder::new(self.metrics.clone());
        let Some(request) = self.request(owner, body) else { return Forwarded::Unprocessed };
        match self.forwarder.send(owner, request).await {
            Ok((answer, slot)) => self.pass(owner, answer, slot, recorder),
            Err(SendError::Unprocessed) => {
                recorder.set(ForwardOutcome::Unreachable);
                Forwarded::Unprocessed
            }
            Err(SendError::Lost) => {
                recorder.set(ForwardOutcome::Lost);
                Forwarded::Lost
            }
        }
    }

    /// Returns the request for the owner, or `None` if its address is not one.
    fn request(&self, owner: &str, body: KeptBody) -> Option<Request<KeptBody>> {
        let path = self.head.uri.path();
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = format!("{owner}{path}").parse().ok()?;
        let headers = request.headers_mut();
        for name in PASSED {
            let values = self.head.headers.get_all(&name);
            headers.extend(values.iter().map(|value| (name.clone(), value.clone())));
        }
        headers.insert(REQUEST_ID, self.request_id.clone());
        if let Some(deadline) = self.head.extensions.get::<Deadline>() {
            headers.insert(TIMEOUT, deadline.forward(Instant::now()));
        }
        let principal = &self.head.extensions.get::<Caller>()?.principal;
        self.forwarder.sign(headers, path, principal);
        Some(request)
    }

    /// Passes the answer of the owner on, unless it says that the request was not processed.
    fn pass(
        &self,
        owner: &str,
        answer: Response<AnswerBody>,
        slot: Slot,
        mut recorder: ForwardRecorder,
    ) -> Forwarded {
        let (head, body) = answer.into_parts();
        if head.status != StatusCode::OK || !is_grpc(&head.headers) {
            self.forwarder.log_failure(owner, &format_args!("it answers {}", head.status));
            recorder.set(ForwardOutcome::Lost);
            return Forwarded::Lost;
        }
        let status = Status::from_header_map(&head.headers);
        if head.headers.contains_key(OWNER_HEADER) {
            recorder.set(ForwardOutcome::NotOwner);
            return Forwarded::Unprocessed;
        }
        if status.as_ref().is_some_and(|status| status.code() == Code::Unauthenticated) {
            // The caller has shown its credentials here: it could do nothing about this error.
            let refused = "it does not know the key of this server's store, or another time of it";
            self.forwarder.log_failure(owner, &refused);
            recorder.set(ForwardOutcome::Unreachable);
            return Forwarded::Unprocessed;
        }
        recorder.set(ForwardOutcome::Answered);
        let body = match status {
            Some(_) => Body::empty(),
            None => {
                let drained = self.is_stream.then(|| self.forwarder.drained());
                Body::new(PassBody::new(body, slot, recorder, drained))
            }
        };
        let mut passed = Response::new(body);
        *passed.headers_mut() = head.headers;
        Forwarded::Answered(passed)
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(GRPC_CONTENT_TYPE))
}
