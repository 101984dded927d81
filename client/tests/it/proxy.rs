//! A proxy between client and server that answers in HTTP where gRPC is expected, and compression.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use callpark_client::{Client, ClientOptions, Code, Compression, Origin, RunTool, v1};
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture};
use http::{Request, Response};
use tokio::time::Instant;
use tonic::body::Body;
use tower::{Layer, Service};

use crate::{
    fake::{Fake, Play},
    story::{caught_up, seconds, shutdown, snapshot},
};

/// The answer of a proxy.
#[derive(Clone)]
pub(crate) struct Page {
    status: u16,
    headers: Vec<(&'static str, &'static str)>,
    body: PageBody,
}

#[derive(Clone)]
enum PageBody {
    Text(String),
    /// Nothing, and no end.
    Stalled,
}

fn page(status: u16, body: &str) -> Page {
    let headers = vec![("content-type", "text/html"), ("server", "nginx/1.26.3")];
    Page { status, headers, body: PageBody::Text(body.to_owned()) }
}

/// The page that nginx sends.
fn nginx(status: u16, words: &str) -> Page {
    page(
        status,
        &format!(
            "<html>\r\n<head><title>{status} {words}</title></head>\r\n<body>\r\n\
             <center><h1>{status} {words}</h1></center>\r\n<hr><center>nginx/1.26.3</center>\r\n\
             </body>\r\n</html>\r\n"
        ),
    )
}

/// The encoding of a request, and those that it accepts.
type Encodings = (Option<String>, Option<String>);

/// The answers of the proxy to the next requests. It passes later ones on.
#[derive(Clone, Default)]
pub(crate) struct Pages {
    pages: Arc<Mutex<VecDeque<Page>>>,
    encodings: Arc<Mutex<Vec<Encodings>>>,
}

impl Pages {
    fn plays(&self, pages: impl IntoIterator<Item = Page>) {
        self.pages.lock().unwrap().extend(pages);
    }

    fn left(&self) -> usize {
        self.pages.lock().unwrap().len()
    }

    /// The compressions of each request and its answer.
    fn encodings(&self) -> Vec<(Option<String>, Option<String>)> {
        self.encodings.lock().unwrap().clone()
    }
}

impl<S> Layer<S> for Pages {
    type Service = Proxy<S>;

    fn layer(&self, inner: S) -> Proxy<S> {
        Proxy { pages: self.clone(), inner }
    }
}

#[derive(Clone)]
pub(crate) struct Proxy<S> {
    pages: Pages,
    inner: S,
}

impl<S> Service<Request<Body>> for Proxy<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Some(page) = self.pages.pages.lock().unwrap().pop_front() else {
            let name = |headers: &http::HeaderMap| {
                headers.get("grpc-encoding").map(|name| name.to_str().unwrap().to_owned())
            };
            let (asked, encodings) = (name(request.headers()), self.pages.encodings.clone());
            return self
                .inner
                .call(request)
                .inspect(move |answer| {
                    let answered = name(answer.as_ref().unwrap().headers());
                    encodings.lock().unwrap().push((asked, answered));
                })
                .boxed();
        };
        let body = match page.body {
            PageBody::Text(text) => Body::new(text),
            PageBody::Stalled => Body::new(Stalled),
        };
        let mut answer = Response::builder().status(page.status);
        for (name, value) in page.headers {
            answer = answer.header(name, value);
        }
        std::future::ready(Ok(answer.body(body).unwrap())).boxed()
    }
}

struct Stalled;

impl http_body::Body for Stalled {
    type Data = bytes::Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<bytes::Bytes>, Infallible>>> {
        Poll::Pending
    }
}

async fn error_of(client: &Client) -> callpark_client::Error {
    client.tasks().get("bg-1").await.unwrap_err()
}

#[tokio::test(start_paused = true)]
async fn an_http_error_has_the_code_of_grpc_and_the_words_of_its_page() {
    for (status, words, code, attempts) in [
        (400, "Bad Request", Code::Internal, 1),
        (401, "Authorization Required", Code::Unauthenticated, 1),
        (403, "Forbidden", Code::PermissionDenied, 1),
        (404, "Not Found", Code::Unimplemented, 1),
        (413, "Request Entity Too Large", Code::Unknown, 1),
        (429, "Too Many Requests", Code::Unavailable, 5),
        (500, "Internal Server Error", Code::Unknown, 1),
        (502, "Bad Gateway", Code::Unavailable, 5),
        (503, "Service Temporarily Unavailable", Code::Unavailable, 5),
        (504, "Gateway Time-out", Code::Unavailable, 5),
    ] {
        let fake = Fake::start();
        fake.pages.plays((0..5).map(|_| nginx(status, words)));
        let error = error_of(&fake.client()).await;
        assert_eq!((error.origin(), error.code()), (Origin::Proxy, code), "{error}");
        assert_eq!(error.attempts(), attempts, "{error}");
        let text = error.to_string();
        let expected = [format!("HTTP {status}"), words.to_owned(), "nginx/1.26.3".to_owned()];
        assert!(expected.iter().all(|part| text.contains(part.as_str())), "{text}");
        assert!(!text.contains('<'), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_is_sent_again_after_a_bad_gateway() {
    let fake = Fake::start();
    fake.pages.plays([nginx(502, "Bad Gateway"), nginx(503, "Unavailable")]);
    fake.run_tool
        .plays([Play::Answer(v1::RunToolResponse { dry_run: true, ..Default::default() })]);
    fake.client().tools().run(RunTool::new("build")).await.unwrap();
    assert_eq!((fake.pages.left(), fake.run_tool.requests().len()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_opened_again_after_a_gateway_timeout() {
    let fake = Fake::start();
    fake.pages.plays([nginx(504, "Gateway Time-out")]);
    fake.stream_session.plays([vec![snapshot(1), crate::story::send([shutdown(1)]), caught_up(1)]]);
    let mut stream = fake.client().sessions().events(v1::StreamSessionRequest::default());
    assert!(stream.next().await.unwrap().is_ok());
    assert_eq!(fake.pages.left(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_long_wait_outlives_a_proxy_that_ends_silent_requests() {
    let fake = Fake::start();
    fake.wait.plays([Play::Answer(v1::WaitResponse::default())]);
    fake.pages.plays((0..4).map(|_| nginx(504, "Gateway Time-out")));
    let answer = fake.client().tasks().handle("bg-1").wait(None).await.unwrap();
    assert!(!answer.still_running);
}

#[tokio::test(start_paused = true)]
async fn the_delay_that_a_proxy_asks_for_is_kept() {
    let slow = |seconds: &'static str| {
        let mut page = nginx(429, "Too Many Requests");
        page.headers.push(("retry-after", seconds));
        page
    };
    let fake = Fake::start();
    fake.pages.plays([slow("7")]);
    fake.get.plays([Play::Answer(v1::GetResponse { task: Some(v1::Task::default()) })]);
    let began = Instant::now();
    fake.client().tasks().get("bg-1").await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 7);

    // Longer than anyone waits for.
    fake.pages.plays([slow("3600")]);
    let error = error_of(&fake.client()).await;
    assert_eq!((error.attempts(), error.retry_delay()), (1, Some(seconds(3600))));
    assert!(error.retryable());
}

#[tokio::test(start_paused = true)]
async fn a_page_with_status_200_is_no_answer() {
    let fake = Fake::start();
    fake.pages.plays([page(200, "<h1>Sign in</h1>to the <b>network</b>")]);
    let error = error_of(&fake.client()).await;
    assert_eq!((error.origin(), error.code()), (Origin::Proxy, Code::Unknown));
    assert!(error.message().contains("Sign in to the network"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_page_that_never_ends_is_reported_without_its_words() {
    let fake = Fake::start();
    let headers = vec![("content-type", "text/plain")];
    fake.pages.plays([Page { status: 500, headers, body: PageBody::Stalled }]);
    let began = Instant::now();
    let error = error_of(&fake.client()).await;
    assert_eq!(error.message(), "the answer is HTTP 500 Internal Server Error instead of gRPC");
    assert!(began.elapsed() <= Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn a_long_page_is_cut() {
    let fake = Fake::start();
    fake.pages.plays([page(500, &"words ".repeat(100_000))]);
    let error = error_of(&fake.client()).await;
    assert!(error.message().ends_with('…') && error.message().len() < 300, "{error}");
}

#[tokio::test(start_paused = true)]
async fn messages_are_compressed_when_the_options_say_so() {
    let fake = Fake::start();
    let task = v1::Task { description: "x".repeat(10_000), ..Default::default() };
    let answer = v1::GetResponse { task: Some(task) };
    fake.get.plays([Play::Answer(answer.clone()), Play::Answer(answer.clone())]);
    let options = ClientOptions::default().with_compression(Compression::Gzip);
    let gzip = || Some("gzip".to_owned());
    assert_eq!(Some(fake.client_with(options).tasks().get("bg-1").await.unwrap()), answer.task);
    assert_eq!(Some(fake.client().tasks().get("bg-1").await.unwrap()), answer.task);
    assert_eq!(fake.pages.encodings(), [(gzip(), gzip()), (None, None)]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_no_larger_than_the_options_allow_once_it_is_decompressed() {
    let fake = Fake::start();
    let task = v1::Task { description: "x".repeat(3 << 20), ..Default::default() };
    fake.get.plays([Play::Answer(v1::GetResponse { task: Some(task) })]);
    let options = ClientOptions::default()
        .with_compression(Compression::Gzip)
        .with_message_bytes_max(1 << 20);
    let error = error_of(&fake.client_with(options)).await;
    assert_eq!((error.code(), error.attempts()), (Code::ResourceExhausted, 1), "{error}");
}
