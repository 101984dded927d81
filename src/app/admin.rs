//! HTTP/1 for operators: `/metrics`, `/healthz` and `/readyz`.
//!
//! There is no authentication: the pages show counts and nothing about callers, and belong on an
//! address that only operators reach.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::telemetry::Metrics;

/// The most connections at the same time; more are closed at once.
const CONNECTIONS_MAX: usize = 64;
/// The time after which a connection without a whole request is closed.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// The pause after an error in accepting, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The time that answers under way have when the server stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Clone)]
struct Admin {
    metrics: Metrics,
    ready: watch::Receiver<bool>,
}

/// Serves until `shutdown` is cancelled, and for at most a second more.
///
/// `GET /metrics` is the text format of Prometheus. `GET /healthz` is 200 while the process
/// answers at all. `GET /readyz` is 200 while `ready` is true, and 503 otherwise. Another path is 404,
/// another method 405.
pub(super) async fn serve(
    listener: TcpListener,
    metrics: Metrics,
    ready: watch::Receiver<bool>,
    shutdown: CancellationToken,
) {
    let router = router(Admin { metrics, ready });
    let mut connections = JoinSet::new();
    while let Some(accepted) = shutdown.run_until_cancelled(listener.accept()).await {
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) if connections.len() < CONNECTIONS_MAX => {
                connections.spawn(serve_connection(stream, router.clone(), shutdown.clone()));
            }
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%error, "cannot accept an admin connection");
                let pause = tokio::time::sleep(ACCEPT_PAUSE);
                let _stopped = shutdown.run_until_cancelled(pause).await;
            }
        }
    }
    drop(listener);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    // An answer that is aborted here goes to a peer that has stopped reading.
    let _aborted = tokio::time::timeout(STOP_TIMEOUT, all_ended).await;
}

fn router(admin: Admin) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readiness))
        .with_state(admin)
}

/// Serves one connection. At a stop the answer under way may finish.
async fn serve_connection(stream: TcpStream, router: Router, shutdown: CancellationToken) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an admin connection broke");
    }
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], admin.metrics.render())
}

async fn readiness(State(admin): State<Admin>) -> (StatusCode, &'static str) {
    if *admin.ready.borrow() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    use super::*;

    /// A time that no test needs.
    const TIMEOUT: Duration = Duration::from_secs(20);

    struct Running {
        address: SocketAddr,
        ready: watch::Sender<bool>,
        metrics: Metrics,
        shutdown: CancellationToken,
        task: JoinSet<()>,
    }

    async fn start() -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let (ready, receiver) = watch::channel(false);
        let (metrics, shutdown) = (Metrics::default(), CancellationToken::new());
        let mut task = JoinSet::new();
        task.spawn(serve(listener, metrics.clone(), receiver, shutdown.clone()));
        Running { address, ready, metrics, shutdown, task }
    }

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("connected");
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("written");
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        timeout(TIMEOUT, read).await.expect("in time").expect("read");
        answer
    }

    #[tokio::test]
    async fn readiness_follows_the_server_and_liveness_does_not() {
        let running = start().await;
        assert!(get(running.address, "/readyz").await.starts_with("HTTP/1.1 503"));
        assert!(get(running.address, "/healthz").await.starts_with("HTTP/1.1 200"));
        running.ready.send_replace(true);
        assert!(get(running.address, "/readyz").await.starts_with("HTTP/1.1 200"));
        assert!(get(running.address, "/nothing").await.starts_with("HTTP/1.1 404"));
    }

    #[tokio::test]
    async fn metrics_are_those_of_this_server() {
        let running = start().await;
        running.metrics.events_appended(7);
        let page = get(running.address, "/metrics").await;
        assert!(page.contains("content-type: text/plain; version=0.0.4"), "{page}");
        assert!(page.contains("\ncallpark_events_appended_total 7\n"), "{page}");
    }

    #[tokio::test]
    async fn a_stop_does_not_wait_for_a_silent_peer() {
        let mut running = start().await;
        let mut half = TcpStream::connect(running.address).await.expect("connected");
        half.write_all(b"GET /metrics HTT").await.expect("written");
        // The connection is at work once another one, accepted after it, has been answered.
        get(running.address, "/healthz").await;
        running.shutdown.cancel();
        timeout(TIMEOUT, running.task.join_next()).await.expect("in time");
    }
}
