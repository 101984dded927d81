//! The layer around every request: authentication, a request id for the logs, a time limit for the
//! body, metrics of the outcome, its line in the audit log, and the way to the replica that owns the session.

mod audit;
mod body;
mod compression;
mod ending;
mod forward;
mod handle;
mod head;
mod keep;
mod large;
mod late;
mod pass;
mod reason;
mod request;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tonic::{Request, Status};

use crate::audit::AuditLog;
use crate::auth::{AuthError, Caller, Verifiers};
use crate::engine::Clock;
use crate::model::Principal;
use crate::model::limits::LARGE_INPUTS_MAX;
use crate::quota::Quotas;
use crate::rpc::forward::Forwarder;
use crate::telemetry::Metrics;

pub(crate) use audit::AuditedRequest;
pub use request::RequestService;

/// The methods of reflection. Their requests are streams.
const REFLECTION: [&str; 2] = [
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// The options of the layer.
#[derive(Clone)]
pub struct RequestOptions {
    /// Verifies the credentials of callers.
    pub verifiers: Verifiers,
    /// The time, at which credentials expire.
    pub clock: Arc<dyn Clock>,
    /// The metrics of the server.
    pub metrics: Metrics,
    /// The limits of tenants.
    pub quotas: Quotas,
    /// The time that the body of a request may take to arrive.
    pub read_timeout: Duration,
    /// Forwards requests to the replicas that own their sessions, or `None` if this server has its store
    /// alone.
    pub forwarder: Option<Forwarder>,
    /// The audit log, or `None` if there is none.
    pub audit: Option<AuditLog>,
}

/// The layer around all services.
#[derive(Clone)]
pub struct RequestLayer {
    shared: Arc<Shared>,
}

struct Shared {
    options: RequestOptions,
    /// Methods whose answer is a stream, as `package.Service/Method`.
    streams: HashSet<String>,
    /// Methods whose request is a stream. `read_timeout` does not apply to them.
    request_streams: HashSet<String>,
    /// The places for large requests that are handled at the same time.
    places: Arc<Semaphore>,
}

impl RequestLayer {
    /// Creates a layer with these options.
    pub fn new(options: RequestOptions) -> Self {
        let methods = super::method_kinds();
        let pick = |choose: fn(&super::MethodKind) -> bool| {
            methods.iter().filter(|kind| choose(kind)).map(|kind| kind.name.clone()).collect()
        };
        let streams = pick(|kind| kind.server_streaming);
        let mut request_streams: HashSet<_> = pick(|kind| kind.client_streaming);
        request_streams.extend(REFLECTION.map(str::to_owned));
        let places = Arc::new(Semaphore::new(LARGE_INPUTS_MAX));
        Self { shared: Arc::new(Shared { options, streams, request_streams, places }) }
    }
}

impl<S> tower::Layer<S> for RequestLayer {
    type Service = RequestService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RequestService { shared: self.shared.clone(), inner }
    }
}

/// Returns whether a method needs no credentials. Probes and schema tools have no token.
fn is_open(path: &str) -> bool {
    path.starts_with("/grpc.health.") || path.starts_with("/grpc.reflection.")
}

/// Returns the principal that sent the request.
pub(crate) fn principal<T>(request: &Request<T>) -> Result<Principal, Status> {
    caller(request).map(|caller| caller.principal.clone())
}

/// Returns the caller that sent the request.
pub(crate) fn caller<T>(request: &Request<T>) -> Result<&Caller, Status> {
    let caller = request.extensions().get::<Caller>();
    caller.ok_or_else(|| Status::from(AuthError::Missing))
}
