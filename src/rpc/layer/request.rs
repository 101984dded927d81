//! The path of one request through the layer.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use tokio::time::Instant;
use tokio_util::sync::PollSemaphore;
use tonic::body::Body;
use tonic::{Code, Status};
use tracing::Instrument as _;

use super::audit::{AuditedRequest, RequestHead, credentials_refused};
use super::body::{OutcomeRecorder, RecordedBody, TimedBody};
use super::ending::Ending;
use super::forward::Forwarding;
use super::handle::handle;
use super::head::{GRPC_CONTENT_TYPE, REQUEST_ID};
use super::keep::Keeper;
use super::large::BodySize;
use super::reason::add_reason;
use super::{Shared, compression, is_open};
use crate::auth::{AuthError, Caller, Credentials, PeerInfo};
use crate::engine::Error;
use crate::quota::{Exceeded, Held, RequestKind, Use};
use crate::rpc::deadline::{Deadline, TIMEOUT};
use crate::rpc::scopes;
use crate::rpc::status::OWNER_HEADER;

/// The longest request id that is accepted from a caller, in bytes.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// All services, behind the layer.
#[derive(Clone)]
pub struct RequestService<S> {
    pub(super) shared: Arc<Shared>,
    pub(super) inner: S,
}

impl<S> tower::Service<Request<Body>> for RequestService<S>
where
    S: tower::Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let method = request.uri().path().trim_start_matches('/').to_owned();
        let request_id = request_id(request.headers());
        if let Some(refusal) = refuse_other_protocols(&request) {
            return Box::pin(std::future::ready(Ok(refusal)));
        }
        compression::keep_if_asked_for(request.headers_mut());
        let size = BodySize::new(request.headers());
        let mut admitted = self.admit(&mut request, &method, &request_id, &size);
        let places = PollSemaphore::new(self.shared.places.clone());
        // Only the service that was polled is ready. Its clone takes the next request.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let span = tracing::info_span!("rpc", method, request_id = request_id.to_str().ok());
        let (is_forwarded, held) = match &mut admitted {
            Ok(admission) => (admission.is_forwarded, admission.held.take()),
            Err(_) => (false, None),
        };
        let refusal = admitted.as_ref().err();
        let audited = self.audited(&mut request, &method, &request_id, is_forwarded, refusal);
        let recorder = self.recorder(&method, span.clone(), held, audited);
        let ending = Ending::new(request.extensions().get(), self.shared.options.clock.clone());
        let forwarding = admitted
            .map(|admission| self.forwarding(admission, &request, &method, &request_id, &size));
        let answer = async move {
            let response = match forwarding {
                Ok(forwarding) => {
                    let abort_at = request.extensions().get().map(Deadline::abort_at);
                    let handled = async {
                        match forwarding {
                            None => handle(&mut inner, request, size, places).await,
                            Some(forwarding) => Box::pin(forwarding.run(inner, request)).await,
                        }
                    };
                    let handled = std::pin::pin!(handled);
                    ending.bound(abort_late(handled, abort_at)).await
                }
                Err(status) => status.into_http(),
            };
            let response = add_reason(&method, response).map(|body| ending.body(body));
            Ok(finish(response, request_id, recorder, is_forwarded))
        };
        Box::pin(answer.instrument(span))
    }
}

impl<S> RequestService<S> {
    fn recorder(
        &self,
        method: &str,
        span: tracing::Span,
        held: Option<Held>,
        audited: AuditedRequest,
    ) -> OutcomeRecorder {
        let metrics = &self.shared.options.metrics;
        let stream = self.shared.streams.contains(method).then(|| metrics.open_stream());
        OutcomeRecorder::new(metrics.clone(), method.to_owned(), span, (stream, held), audited)
    }

    /// Begins the line of a request in the audit log, if it has one. Its handler finds it in the extensions.
    fn audited(
        &self,
        request: &mut Request<Body>,
        method: &str,
        request_id: &HeaderValue,
        is_forwarded: bool,
        refusal: Option<&Status>,
    ) -> AuditedRequest {
        let options = &self.shared.options;
        let log = options.audit.as_ref();
        // Without a caller, there is a line about its credentials.
        let Some(caller) = request.extensions().get::<Caller>() else {
            return AuditedRequest::default();
        };
        let peer = request.extensions().get::<PeerInfo>().map(|info| info.peer);
        let time = options.clock.now();
        let head = RequestHead { method, request_id, caller, peer, time, is_forwarded };
        // A flood over its rate must not fill the log: its refusals are counted together.
        let exhausted = refusal.filter(|status| status.code() == Code::ResourceExhausted);
        if let (Some(log), Some(refusal)) = (log, exhausted) {
            head.refused(log, refusal);
            return AuditedRequest::default();
        }
        let Some(audited) = head.begin(log) else {
            let refusal = refusal.filter(|status| status.code() == Code::PermissionDenied);
            if let (Some(log), Some(refusal)) = (log, refusal) {
                head.refused(log, refusal);
            }
            return AuditedRequest::default();
        };
        request.extensions_mut().insert(audited.clone());
        audited
    }

    /// Authenticates the request and adds its principal and its deadline to its extensions.
    fn admit(
        &self,
        request: &mut Request<Body>,
        method: &str,
        request_id: &HeaderValue,
        size: &BodySize,
    ) -> Result<Admission, Status> {
        let options = &self.shared.options;
        let mut admission = Admission::default();
        let is_open = is_open(request.uri().path());
        if !is_open {
            let (caller, is_forwarded) = self.caller(request, request_id)?;
            // The replica that has forwarded it has compared the scopes, and counted it.
            let checked = match is_forwarded {
                true => Ok(None),
                false => scopes::check(&caller, method)
                    .and_then(|()| Ok(self.within_limits(&caller, method)?)),
            };
            admission.is_forwarded = is_forwarded;
            request.extensions_mut().insert(caller);
            admission.held = checked?;
        }
        let timeout = request.headers().get(TIMEOUT).and_then(|value| value.to_str().ok());
        if let Some(deadline) = timeout.and_then(|text| Deadline::parse(text, Instant::now())) {
            request.extensions_mut().insert(deadline);
        }
        if !self.shared.request_streams.contains(method) {
            let forwarder = options.forwarder.as_ref();
            let forwarder = forwarder.filter(|_| !is_open && !admission.is_forwarded);
            admission.keeper =
                forwarder.map(|forwarder| Keeper::new(forwarder.request_bytes_max()));
            let body = std::mem::take(request.body_mut());
            let keeper = admission.keeper.clone();
            *request.body_mut() =
                Body::new(TimedBody::new(body, options.read_timeout, size.clone(), keeper));
        }
        Ok(admission)
    }

    /// Counts a request for the limits of its tenant. Returns the guard of its stream.
    fn within_limits(&self, caller: &Caller, method: &str) -> Result<Option<Held>, Exceeded> {
        let (quotas, tenant) = (&self.shared.options.quotas, &caller.principal.tenant);
        let kind = scopes::kind(method);
        quotas.request(tenant, kind)?;
        let stream = match kind {
            _ if !self.shared.streams.contains(method) => return Ok(None),
            RequestKind::Start => Use::StartStream,
            RequestKind::Other => Use::Stream,
        };
        quotas.hold(tenant, stream)
    }

    /// Returns the caller of a request, and whether another replica has forwarded it. That replica has
    /// checked the scopes and the limits of the tenant.
    fn caller(
        &self,
        request: &Request<Body>,
        request_id: &HeaderValue,
    ) -> Result<(Caller, bool), AuthError> {
        let options = &self.shared.options;
        let authorization = request.headers().get(http::header::AUTHORIZATION);
        let peer = request.extensions().get::<PeerInfo>();
        let credentials = Credentials {
            // Bytes that are no text are credentials, too, and wrong ones.
            authorization: authorization.map(|value| value.to_str().unwrap_or("?")),
            peer: peer.map(|info| info.peer),
            certificate: peer.and_then(|info| info.certificate.as_deref()),
            time: options.clock.now(),
        };
        let forwarded = options
            .forwarder
            .as_ref()
            .and_then(|forwarder| forwarder.verify(request.headers(), request.uri().path()));
        let verified = match forwarded {
            Some(verified) => verified.map(|principal| (Caller::unlimited(principal), true)),
            None => options.verifiers.verify(&credentials).map(|caller| (caller, false)),
        };
        verified.inspect_err(|error| {
            let peer = credentials.peer.as_ref().map(|peer| peer as &dyn fmt::Display);
            options.metrics.credentials_rejected(error.as_str(), peer);
            if let Some(log) = &options.audit {
                credentials_refused(log, &credentials, &Status::from(*error), request_id);
            }
        })
    }

    /// Returns what is needed to forward a request, or `None` if it is answered here in any case.
    fn forwarding(
        &self,
        admission: Admission,
        request: &Request<Body>,
        method: &str,
        request_id: &HeaderValue,
        size: &BodySize,
    ) -> Option<Box<Forwarding>> {
        let options = &self.shared.options;
        let (keeper, forwarder) = (admission.keeper?, options.forwarder.clone()?);
        let mut head = Request::new(()).into_parts().0;
        head.method.clone_from(request.method());
        head.uri.clone_from(request.uri());
        head.version = request.version();
        head.headers.clone_from(request.headers());
        head.extensions.clone_from(request.extensions());
        // In a box, so that the future of a request without it stays as small as it is.
        Some(Box::new(Forwarding {
            forwarder,
            metrics: options.metrics.clone(),
            keeper,
            head,
            request_id: request_id.clone(),
            is_stream: self.shared.streams.contains(method),
            size: size.clone(),
            places: PollSemaphore::new(self.shared.places.clone()),
        }))
    }
}

/// The properties of a request that is admitted.
#[derive(Default)]
struct Admission {
    /// Keeps the body of a request that can be forwarded.
    keeper: Option<Keeper>,
    /// `true` if another replica has forwarded the request, which then goes no further.
    is_forwarded: bool,
    /// Counts the stream of the request for the limit of its tenant.
    held: Option<Held>,
}

/// Returns the response to a request that is not gRPC, or `None` if it is gRPC. The check also stops
/// web pages: a browser lets a page send plain text to any server without a CORS preflight.
fn refuse_other_protocols(request: &Request<Body>) -> Option<Response<Body>> {
    let mut refusal = Response::new(Body::empty());
    if request.method() != Method::POST {
        *refusal.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        refusal.headers_mut().insert(http::header::ALLOW, HeaderValue::from_static("POST"));
        return Some(refusal);
    }
    let content_type = request.headers().get(http::header::CONTENT_TYPE);
    let subtype = content_type.and_then(|value| value.as_bytes().strip_prefix(GRPC_CONTENT_TYPE));
    match subtype {
        Some([] | [b'+' | b';', ..]) => None,
        _ => {
            *refusal.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            Some(refusal)
        }
    }
}

/// Returns the answer, or DEADLINE_EXCEEDED if there is none at `abort_at`. tonic would abort the
/// handler too, but later and without a reason.
async fn abort_late(
    answer: Pin<&mut impl Future<Output = Response<Body>>>,
    abort_at: Option<Instant>,
) -> Response<Body> {
    let Some(abort_at) = abort_at else { return answer.await };
    let answer = match abort_at <= Instant::now() {
        // A timer has a resolution of 1 ms, in which work could start for a caller that has gone.
        true => answer.now_or_never(),
        false => tokio::time::timeout_at(abort_at, answer).await.ok(),
    };
    answer.unwrap_or_else(|| Status::from(Error::DeadlineExceeded).into_http())
}

/// Adds the request id to the response, and records the outcome when its body has been sent. Only another
/// replica learns which one owns a session.
fn finish(
    response: Response<Body>,
    request_id: HeaderValue,
    mut recorder: OutcomeRecorder,
    is_forwarded: bool,
) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    head.headers.insert(REQUEST_ID, request_id);
    recorder.pass_id(&mut head.headers, is_forwarded);
    if let Some(status) = Status::from_header_map(&head.headers) {
        recorder.set_status(&status);
        if !is_forwarded {
            head.headers.remove(OWNER_HEADER);
        }
    }
    Response::from_parts(head, Body::new(RecordedBody::new(body, recorder, is_forwarded)))
}

fn request_id(headers: &HeaderMap) -> HeaderValue {
    let given = headers.get(REQUEST_ID).filter(|value| {
        let bytes = value.as_bytes();
        !bytes.is_empty()
            && bytes.len() <= REQUEST_ID_BYTES_MAX
            && bytes.iter().all(u8::is_ascii_graphic)
    });
    given.cloned().unwrap_or_else(|| {
        let id = uuid::Uuid::new_v4().simple().to_string();
        // Hexadecimal digits are always a header value.
        HeaderValue::try_from(id).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
    })
}
