//! A replica that owns nothing, in front of one that owns everything.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use callpark::internals::audit::AuditLog;
use callpark::internals::auth::{TokenVerifier, Verifiers};
use callpark::internals::engine::SystemClock;
use callpark::internals::quota::Quotas;
use callpark::internals::rpc::{Forwarder, ForwarderOptions, RequestLayer, RequestOptions};
use callpark::internals::telemetry::Metrics;
use callpark::model::{SessionId, Timestamp};
use callpark::store::{
    Append, Claimed, MemoryStore, RemoteChange, Renewed, Replica, Replicas, Store as _, StoreError,
};
use callpark_proto::v1::tool_runner_client::ToolRunnerClient;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use http::{HeaderMap, Request, Response};
use http_body::{Body as _, Frame};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Endpoint;
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::support::appends::{Appends, StoreWith};
use crate::support::server::{Settings, WithToken};
use crate::support::{Additions, AuthorisedChannel, TestServer};

/// The time of the store of these tests.
pub const TIME: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

/// The header by which a handler names the owner.
pub const OWNER: &str = "callpark-owner";

/// The answer of a replica without sessions to a request that it has read.
#[derive(Debug, Clone)]
pub enum Local {
    /// The name of an owner.
    Owner(String),
    /// The name of an owner after the head of the answer, as streams have it.
    LateOwner(String),
    /// An empty message.
    Answer,
}

/// A replica that does what its script says. The last line of the script is for all further requests.
pub struct Front {
    pub tools: ToolRunnerClient<AuthorisedChannel>,
    pub endpoint: String,
    pub metrics: Metrics,
    pub forwarder: Forwarder,
    script: Script,
    _end: DropGuard,
}

impl Front {
    /// Starts one with this script.
    pub async fn start(script: &[Local]) -> Self {
        Self::with(script, OwnerOfAll::default(), 4 << 20).await
    }

    /// Starts one that sends everything to this owner.
    pub async fn of(owner: &str) -> Self {
        Self::start(&[Local::Owner(owner.to_owned())]).await
    }

    /// Starts one with this script, this key and time, and this bound on what it forwards.
    pub async fn with(script: &[Local], replicas: OwnerOfAll, request_bytes_max: usize) -> Self {
        Self::with_audit_log(script, replicas, request_bytes_max, None).await
    }

    /// Starts one that has an audit log, too.
    pub async fn with_audit_log(
        script: &[Local],
        replicas: OwnerOfAll,
        request_bytes_max: usize,
        audit: Option<AuditLog>,
    ) -> Self {
        let lines = Arc::new(Mutex::new(script.iter().cloned().collect()));
        let script = Script { lines, requests: Arc::default(), head: Arc::default() };
        let metrics = Metrics::default();
        let replicas = Arc::new(replicas);
        let forwarder = Forwarder::new(ForwarderOptions { replicas, tls: None, request_bytes_max });
        let layer = RequestLayer::new(RequestOptions {
            clock: Arc::new(SystemClock),
            verifiers: Verifiers::new(vec![Arc::new(TokenVerifier::new("of-the-front".into()))]),
            metrics: metrics.clone(),
            quotas: Quotas::default(),
            read_timeout: Duration::from_secs(30),
            forwarder: Some(forwarder.clone()),
            audit,
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let end = CancellationToken::new();
        let serving = tonic::transport::Server::builder()
            .layer(layer)
            .add_service(script.clone())
            .serve_with_incoming(TcpListenerStream::new(listener));
        TaskTracker::new().spawn(end.clone().run_until_cancelled_owned(serving));
        let channel = Endpoint::from_shared(endpoint.clone()).expect("an endpoint").connect_lazy();
        let token = WithToken("Bearer of-the-front".parse().expect("a header"));
        let tools = ToolRunnerClient::new(InterceptedService::new(channel, token));
        Self { tools, endpoint, metrics, forwarder, script, _end: end.drop_guard() }
    }

    /// Returns how often a request was handled here.
    pub fn requests(&self) -> usize {
        self.script.requests.load(Ordering::SeqCst)
    }

    /// Returns the head of the last request that was handled here.
    pub fn head(&self) -> HeaderMap {
        self.script.head.lock().expect("a head").clone()
    }

    /// Returns the number of requests that were forwarded with this outcome.
    pub fn forwarded(&self, outcome: &str) -> u64 {
        let page = self.metrics.render();
        let name = format!("callpark_rpc_forwarded_total{{outcome=\"{outcome}\"}} ");
        let line = page.lines().find_map(|line| line.strip_prefix(&name));
        line.expect("a line").parse().expect("a number")
    }
}

/// The services of a replica, as a script.
#[derive(Clone)]
struct Script {
    lines: Arc<Mutex<VecDeque<Local>>>,
    requests: Arc<AtomicUsize>,
    /// The head of the last request.
    head: Arc<Mutex<HeaderMap>>,
}

impl NamedService for Script {
    const NAME: &'static str = "callpark.v1.ToolRunner";
}

impl tower::Service<Request<Body>> for Script {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let script = self.clone();
        Box::pin(async move {
            script.head.lock().expect("a head").clone_from(request.headers());
            let mut body = request.into_body();
            while let Some(frame) =
                std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await
            {
                frame.expect("a whole request");
            }
            script.requests.fetch_add(1, Ordering::SeqCst);
            Ok(script.next().answer())
        })
    }
}

impl Script {
    fn next(&self) -> Local {
        let mut lines = self.lines.lock().expect("lines");
        if lines.len() > 1 {
            return lines.pop_front().expect("a line");
        }
        lines.front().cloned().expect("a line")
    }
}

impl Local {
    fn answer(self) -> Response<Body> {
        match self {
            Self::Owner(owner) => not_owner(&owner).into_http(),
            Self::LateOwner(owner) => {
                let trailers = not_owner(&owner).into_http::<Body>().headers().clone();
                grpc(Frames(VecDeque::from([Frame::trailers(trailers)])))
            }
            Self::Answer => {
                let ok = HeaderMap::from_iter([(
                    http::HeaderName::from_static("grpc-status"),
                    http::HeaderValue::from_static("0"),
                )]);
                let message = Bytes::from_static(&[0; 5]);
                grpc(Frames(VecDeque::from([Frame::data(message), Frame::trailers(ok)])))
            }
        }
    }
}

fn grpc(body: Frames) -> Response<Body> {
    let mut response = Response::new(Body::new(body));
    let grpc = http::HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(http::header::CONTENT_TYPE, grpc);
    response
}

/// The status of a handler whose session belongs to another replica.
fn not_owner(owner: &str) -> Status {
    let mut details = ErrorDetails::with_error_info("NOT_OWNER", "callpark", HashMap::new());
    details.set_retry_info(Some(Duration::from_millis(500)));
    let mut status = Status::with_error_details(tonic::Code::Unavailable, "elsewhere", details);
    status.metadata_mut().insert(OWNER, owner.parse().expect("a header"));
    status
}

struct Frames(VecDeque<Frame<Bytes>>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}

/// A whole server that has replicas, and owns each session.
pub async fn owner() -> TestServer {
    owner_with(&[("admin-listen", "127.0.0.1:0")]).await
}

/// The same, with these settings.
pub async fn owner_with(settings: Settings<'_>) -> TestServer {
    let more = Additions {
        store: Some(Arc::new(StoreWith(Shared(Arc::default())))),
        advertise: Some("127.0.0.1:0".parse().expect("an address")),
        ..Additions::default()
    };
    TestServer::with_more(more, settings).await
}

/// A store with replicas, of which one has all sessions.
struct Shared(Arc<MemoryStore>);

#[async_trait]
impl Appends for Shared {
    fn store(&self) -> &MemoryStore {
        &self.0
    }

    async fn append(&self, append: Append) -> Result<(), StoreError> {
        self.0.append(append).await
    }

    fn replicas(&self) -> Option<Arc<dyn Replicas>> {
        Some(Arc::new(OwnerOfAll::default()))
    }
}

/// A replica that owns every session.
pub struct OwnerOfAll {
    /// The key of the replicas of its store.
    pub key: [u8; 32],
    /// The time of its store.
    pub time: Timestamp,
}

impl Default for OwnerOfAll {
    fn default() -> Self {
        Self { key: [7; 32], time: TIME }
    }
}

#[async_trait]
impl Replicas for OwnerOfAll {
    async fn renew(&self) -> Result<Renewed, StoreError> {
        Ok(Renewed::Renewed { time: self.time, others: Vec::new() })
    }

    async fn rejoin(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn claim(&self, _: SessionId) -> Result<Claimed, StoreError> {
        Ok(Claimed::Own { claim: 1 })
    }

    async fn release(&self, _: SessionId, _: u64) -> Result<(), StoreError> {
        Ok(())
    }

    async fn take_over(&self, _: u32) -> Result<Vec<SessionId>, StoreError> {
        Ok(Vec::new())
    }

    async fn leave(&self, _: Duration) -> Result<(), StoreError> {
        Ok(())
    }

    async fn list(&self) -> Result<Vec<Replica>, StoreError> {
        Ok(Vec::new())
    }

    fn changes(&self) -> BoxStream<'static, RemoteChange> {
        stream::pending().boxed()
    }

    fn key(&self) -> [u8; 32] {
        self.key
    }

    fn time(&self) -> Timestamp {
        self.time
    }
}
