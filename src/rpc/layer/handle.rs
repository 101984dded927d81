//! The handling of a request by its service.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;

use callpark_proto::v1::ErrorReason;
use futures::FutureExt as _;
use http::{Request, Response};
use tokio_util::sync::PollSemaphore;
use tonic::Code;
use tonic::body::Body;

use super::large::{BodySize, Handling};
use crate::rpc::status::status;

/// Returns the response of the service, which is ready. A service that panics has an error as its response.
pub(super) async fn handle<S>(
    service: &mut S,
    request: Request<Body>,
    size: BodySize,
    places: PollSemaphore,
) -> Response<Body>
where
    S: tower::Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let handler = std::pin::pin!(service.call(request));
    let handler = Handling::new(handler, size, places);
    answer(AssertUnwindSafe(handler).catch_unwind().await)
}

/// Returns the response of a handler, or INTERNAL if it panicked. The connection stays open.
fn answer(handled: std::thread::Result<Result<Response<Body>, Infallible>>) -> Response<Body> {
    match handled {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(_) => {
            tracing::error!("a handler panicked");
            status(Code::Internal, ErrorReason::Internal, "internal error: see the server's log")
                .into_http()
        }
    }
}
