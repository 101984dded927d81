//! What stands before every request: who is calling, what the request is called in the logs, how
//! long its body may take, and how it ended.

mod body;
mod normal;
mod request;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tonic::{Request, Status};

use crate::auth::{AuthError, Verifier};
use crate::model::Principal;
use crate::telemetry::Metrics;

pub use request::RequestService;

/// The methods of reflection, whose requests are streams.
const REFLECTION: [&str; 2] = [
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// What the layer works with.
#[derive(Clone)]
pub struct RequestOptions {
    /// Who a caller is.
    pub verifier: Arc<dyn Verifier>,
    /// Counters.
    pub metrics: Metrics,
    /// How long the body of a request may take.
    pub read_timeout: Duration,
}

/// Stands before all services.
#[derive(Clone)]
pub struct RequestLayer {
    shared: Arc<Shared>,
}

struct Shared {
    options: RequestOptions,
    /// Methods whose answer is a stream, as `package.Service/Method`.
    streams: HashSet<String>,
    /// Methods whose request is a stream, and so takes as long as it likes.
    request_streams: HashSet<String>,
}

impl RequestLayer {
    /// A layer with these parts.
    pub fn new(options: RequestOptions) -> Self {
        let methods = super::method_kinds();
        let pick = |choose: fn(&super::MethodKind) -> bool| {
            methods.iter().filter(|kind| choose(kind)).map(|kind| kind.name.clone()).collect()
        };
        let streams = pick(|kind| kind.server_streaming);
        let mut request_streams: HashSet<_> = pick(|kind| kind.client_streaming);
        request_streams.extend(REFLECTION.map(str::to_owned));
        Self { shared: Arc::new(Shared { options, streams, request_streams }) }
    }
}

impl<S> tower::Layer<S> for RequestLayer {
    type Service = RequestService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RequestService { shared: self.shared.clone(), inner }
    }
}

/// Health and the schema are for everybody who can connect: probes and tools have no token.
fn is_open(path: &str) -> bool {
    path.starts_with("/grpc.health.") || path.starts_with("/grpc.reflection.")
}

/// Who sends this request.
pub(crate) fn principal<T>(request: &Request<T>) -> Result<Principal, Status> {
    let principal = request.extensions().get::<Principal>();
    principal.cloned().ok_or_else(|| Status::from(AuthError::Missing))
}
