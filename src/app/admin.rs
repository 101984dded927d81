//! HTTP/1 for operators: `/metrics`, `/healthz` and `/readyz`.
//!
//! There is no authentication: the pages show counts and nothing about callers, and belong on an
//! address that only operators reach.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::http_server::{Access, HttpServer};
use crate::telemetry::{HttpService, Metrics};

#[derive(Clone)]
struct Admin {
    metrics: Metrics,
    /// Brings the metrics up to date that are read only here.
    refresh: Arc<dyn Fn(&Metrics) + Send + Sync>,
    ready: watch::Receiver<bool>,
}

/// Serves until `shutdown` is cancelled, and for at most a second more.
///
/// `GET /metrics` is the text format of Prometheus. `GET /healthz` is 200 while the process
/// answers at all. `GET /readyz` is 200 while `ready` is true, and 503 otherwise. Another path is 404,
/// another method 405. `refresh` is called before the metrics are shown.
pub(super) async fn serve(
    listener: TcpListener,
    metrics: Metrics,
    refresh: Arc<dyn Fn(&Metrics) + Send + Sync>,
    ready: watch::Receiver<bool>,
    shutdown: CancellationToken,
) {
    let router = router(Admin { metrics: metrics.clone(), refresh, ready });
    let server = HttpServer { service: HttpService::Admin, access: Access::Open, router, metrics };
    server.serve(listener, shutdown).await;
}

fn router(admin: Admin) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readiness))
        .with_state(admin)
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    (admin.refresh)(&admin.metrics);
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
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::task::JoinSet;
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
        let refresh = Arc::new(|metrics: &Metrics| metrics.shims(1, 2, 3));
        task.spawn(serve(listener, metrics.clone(), refresh, receiver, shutdown.clone()));
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
        assert!(page.contains("\ncallpark_shim_runs 2\n"), "{page}");
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
