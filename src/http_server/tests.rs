//! Services on real sockets. The time is paused where a bound is a time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::model::limits::{
    HTTP_BODY_BYTES_MAX, HTTP_BODY_SECONDS, HTTP_FIRST_REQUEST_SECONDS, HTTP_HEAD_BYTES_MAX,
    HTTP_IDLE_SECONDS, HTTP_STRANGERS_MAX,
};

/// A time that no step of a test needs.
const TIMEOUT: Duration = Duration::from_secs(20);

struct Running {
    address: SocketAddr,
    metrics: Metrics,
    stop: CancellationToken,
    task: JoinSet<()>,
    /// Lets the answers of `/wait` go.
    go: Arc<Notify>,
}

/// Reads the whole body.
async fn size(request: Request) -> Response {
    match to_bytes(request.into_body(), usize::MAX).await {
        Ok(body) => format!("{}\n", body.len()).into_response(),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "broken\n").into_response(),
    }
}

/// Accepts every caller that names itself.
async fn enter(request: Request) -> StatusCode {
    let is_known = request.headers().contains_key("authorization");
    let connection = request.extensions().get::<ConnectionHandle>().expect("a handle");
    connection.set_authenticated(is_known);
    if is_known { StatusCode::OK } else { StatusCode::UNAUTHORIZED }
}

async fn start(access: Access) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address");
    let (metrics, stop, go) =
        (Metrics::default(), CancellationToken::new(), Arc::new(Notify::new()));
    let waiting = go.clone();
    let router = Router::new()
        .route("/", get(enter))
        .route("/size", post(size))
        .route("/wait", get(async move || waiting.notified().await));
    let service = HttpService::Agents;
    let server = HttpServer { service, access, router, metrics: metrics.clone() };
    let mut task = JoinSet::new();
    task.spawn(server.serve(listener, stop.clone()));
    Running { address, metrics, stop, task, go }
}

impl Running {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("connected")
    }

    #[track_caller]
    fn check_line(&self, line: &str) {
        let page = self.metrics.render();
        assert!(page.lines().any(|l| l == line), "no line `{line}` in:\n{page}");
    }
}

/// Sends a part of a request.
async fn send(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.expect("written");
}

/// Reads the head of an answer and the begin of its body. Returns the status.
async fn status(stream: &mut TcpStream) -> u16 {
    let mut answer = Vec::new();
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = timeout(TIMEOUT, stream.read_buf(&mut answer)).await.expect("an answer");
        assert!(read.expect("read") > 0, "closed after {}", String::from_utf8_lossy(&answer));
    }
    let text = String::from_utf8_lossy(&answer);
    text.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status")
}

/// Waits until the server has closed a connection.
async fn closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    // A connection that was reset is closed, too.
    let _read = timeout(TIMEOUT, stream.read_to_end(&mut rest)).await.expect("it is closed");
}

fn about(elapsed: Duration, seconds: u64) -> bool {
    (seconds..=seconds + 1).contains(&elapsed.as_secs())
}

const KNOWN: &str = "GET / HTTP/1.1\r\nhost: x\r\nauthorization: me\r\n\r\n";
const STRANGER: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";

#[tokio::test]
async fn silent_connections_take_no_place_of_one_that_has_authenticated() {
    let running = start(Access::Authenticated).await;
    let mut known = running.connect().await;
    send(&mut known, KNOWN).await;
    assert_eq!(status(&mut known).await, 200);
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(running.connect().await);
    }
    send(&mut known, KNOWN).await;
    assert_eq!(status(&mut known).await, 200);
    let mut next = running.connect().await;
    send(&mut next, KNOWN).await;
    assert_eq!(status(&mut next).await, 200);
    for early in silent.iter_mut().take(300 - HTTP_STRANGERS_MAX + 1) {
        closed(early).await;
    }
    let expected = 2 + HTTP_STRANGERS_MAX - 1;
    running.check_line(&format!("callpark_http_connections_open{{service=\"agents\"}} {expected}"));
    let displaced = "{service=\"agents\",reason=\"displaced\"} 237";
    running.check_line(&format!("callpark_http_connections_refused_total{displaced}"));
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_closed_and_counted() {
    let running = start(Access::Open).await;
    let mut silent = running.connect().await;
    let began = Instant::now();
    closed(&mut silent).await;
    assert!(about(began.elapsed(), HTTP_FIRST_REQUEST_SECONDS), "{:?}", began.elapsed());
    running.check_line("callpark_http_connections_open{service=\"agents\"} 0");
    let timeout = "{service=\"agents\",reason=\"timeout\"} 1";
    running.check_line(&format!("callpark_http_connections_refused_total{timeout}"));
}

#[tokio::test(start_paused = true)]
async fn a_head_that_comes_byte_by_byte_has_no_more_time() {
    let running = start(Access::Open).await;
    let mut slow = running.connect().await;
    send(&mut slow, "GET / HTTP/1.1\r\nx: ").await;
    let began = Instant::now();
    let (mut reader, mut writer) = slow.split();
    let sending = async {
        while writer.write_all(b"x").await.is_ok() {
            sleep(Duration::from_millis(500)).await;
        }
    };
    let mut rest = Vec::new();
    let reading = timeout(TIMEOUT, reader.read_to_end(&mut rest));
    tokio::select! {
        () = sending => {}
        read = reading => assert!(read.is_ok(), "it is open for too long"),
    }
    assert!(about(began.elapsed(), HTTP_FIRST_REQUEST_SECONDS), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn requests_without_credentials_give_no_more_time() {
    let running = start(Access::Authenticated).await;
    let mut stranger = running.connect().await;
    let began = Instant::now();
    send(&mut stranger, STRANGER).await;
    assert_eq!(status(&mut stranger).await, 401);
    sleep(Duration::from_secs(HTTP_FIRST_REQUEST_SECONDS - 1)).await;
    send(&mut stranger, STRANGER).await;
    assert_eq!(status(&mut stranger).await, 401);
    closed(&mut stranger).await;
    assert!(about(began.elapsed(), HTTP_FIRST_REQUEST_SECONDS), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_kept_between_requests_for_a_time() {
    let running = start(Access::Authenticated).await;
    let mut known = running.connect().await;
    for _ in 0..3 {
        send(&mut known, KNOWN).await;
        assert_eq!(status(&mut known).await, 200);
        sleep(Duration::from_secs(HTTP_IDLE_SECONDS - 1)).await;
    }
    send(&mut known, KNOWN).await;
    assert_eq!(status(&mut known).await, 200);
    let began = Instant::now();
    sleep(Duration::from_secs(HTTP_IDLE_SECONDS - 1)).await;
    closed(&mut known).await;
    assert!(about(began.elapsed(), HTTP_IDLE_SECONDS), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_before_and_while_it_is_read() {
    let running = start(Access::Open).await;
    let mut announced = running.connect().await;
    let length = HTTP_BODY_BYTES_MAX + 1;
    let head = format!("POST /size HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n");
    send(&mut announced, &head).await;
    assert_eq!(status(&mut announced).await, 413);

    let mut chunked = running.connect().await;
    send(&mut chunked, "POST /size HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    let half = format!("{:x}\r\n{}\r\n", length / 2, "x".repeat(length / 2));
    send(&mut chunked, &half).await;
    send(&mut chunked, &half).await;
    // The answer comes with the byte that is too many.
    send(&mut chunked, "1\r\nx\r\n").await;
    assert_eq!(status(&mut chunked).await, 413);

    let mut fits = running.connect().await;
    let head = "POST /size HTTP/1.1\r\nhost: x\r\ncontent-length: ";
    send(&mut fits, &format!("{head}{HTTP_BODY_BYTES_MAX}\r\n\r\n")).await;
    send(&mut fits, &"x".repeat(HTTP_BODY_BYTES_MAX)).await;
    assert_eq!(status(&mut fits).await, 200);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_too_slow_is_refused() {
    let running = start(Access::Open).await;
    let mut slow = running.connect().await;
    let began = Instant::now();
    send(&mut slow, "POST /size HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nx").await;
    sleep(Duration::from_secs(HTTP_BODY_SECONDS - 1)).await;
    assert_eq!(status(&mut slow).await, 408);
    assert!(about(began.elapsed(), HTTP_BODY_SECONDS), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let running = start(Access::Open).await;
    let mut large = running.connect().await;
    let value = "x".repeat(2 * HTTP_HEAD_BYTES_MAX);
    send(&mut large, &format!("GET / HTTP/1.1\r\nx: {value}\r\n\r\n")).await;
    assert_eq!(status(&mut large).await, 431);
}

#[tokio::test]
async fn a_stop_waits_for_answers_and_not_for_silence() {
    let mut running = start(Access::Open).await;
    let mut silent = running.connect().await;
    let mut half = running.connect().await;
    send(&mut half, "GET / HTT").await;
    let mut asking = running.connect().await;
    send(&mut asking, "GET /wait HTTP/1.1\r\nhost: x\r\n\r\n").await;
    // The request is at its handler once one that was sent after it has been answered.
    let mut other = running.connect().await;
    send(&mut other, KNOWN).await;
    assert_eq!(status(&mut other).await, 200);
    running.stop.cancel();
    for idle in [&mut silent, &mut other] {
        closed(idle).await;
    }
    running.go.notify_one();
    assert_eq!(status(&mut asking).await, 200);
    timeout(TIMEOUT, running.task.join_next()).await.expect("in time");
    closed(&mut half).await;
}
