//! One connection of a service.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::Access;
use super::body::{AnswerBody, RequestBody};
use super::connection_places::{ConnectionHandle, ConnectionPlace};
use crate::model::limits::{HTTP_FIRST_REQUEST_SECONDS, HTTP_HEAD_BYTES_MAX, HTTP_IDLE_SECONDS};
use crate::telemetry::HttpRefusal;

const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(HTTP_FIRST_REQUEST_SECONDS);
const IDLE_TIMEOUT: Duration = Duration::from_secs(HTTP_IDLE_SECONDS);

/// Serves a connection to its end. At a stop the answer under way may finish.
pub(super) async fn serve(
    stream: TcpStream,
    place: ConnectionPlace,
    access: Access,
    router: Router,
    stop: CancellationToken,
) {
    let handle = place.handle().clone();
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_TIMEOUT)
        .max_buf_size(HTTP_HEAD_BYTES_MAX)
        .serve_connection(
            TokioIo::new(stream),
            service_fn(|request| answer(request, handle.clone(), router.clone())),
        );
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = place.displaced() => return,
        () = stays_unused(&place, access) => return place.refuse(HttpRefusal::Timeout),
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection on HTTP/1 broke");
    }
}

/// Returns when the peer has had its time and has not sent the request that it must begin with.
async fn stays_unused(place: &ConnectionPlace, access: Access) {
    sleep(FIRST_REQUEST_TIMEOUT).await;
    let is_used = match access {
        Access::Open => place.handle().has_requested(),
        Access::Authenticated => place.handle().is_authenticated(),
    };
    if is_used {
        std::future::pending().await
    }
}

/// Answers one request, whose body has bounds.
async fn answer(
    request: hyper::Request<Incoming>,
    handle: ConnectionHandle,
    router: Router,
) -> Result<Response, Infallible> {
    let open_request = handle.begin_request();
    let (mut parts, body) = request.into_parts();
    let (body, excess) = RequestBody::new(Body::new(body));
    parts.extensions.insert(handle);
    let response = match excess.answer() {
        Some(answer) => answer.into_response(),
        None => {
            let response = router.oneshot(Request::from_parts(parts, Body::new(body))).await?;
            // The handler has seen a broken body, and knows no reason.
            excess.answer().map_or(response, |answer| answer.into_response())
        }
    };
    Ok(response.map(|body| Body::new(AnswerBody { body, _request: open_request })))
}
