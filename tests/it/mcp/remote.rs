//! A fake MCP server over HTTP.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Response, StatusCode};
use axum::routing::post;
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Barrier, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;

use crate::support::{TestServer, soon};

/// An MCP server over HTTP. A call of `work` is answered when it is let go, one of `fail` as `failure`
/// says.
pub(super) struct Remote {
    pub(super) url: String,
    pub(super) state: Arc<State>,
    pub(super) task: JoinHandle<()>,
}

#[derive(Default)]
pub(super) struct State {
    failure: Mutex<Failure>,
    pub(super) go: Gate,
    /// The session that is known, or 0 if there are no sessions.
    pub(super) session: AtomicUsize,
    pub(super) beginnings: AtomicUsize,
    pub(super) lists: AtomicUsize,
    /// The token that is asked for, or none.
    pub(super) token: Mutex<String>,
    /// Requests without the token are refused together, when so many have come.
    pub(super) refusals: Mutex<Option<Arc<Barrier>>>,
    /// The method that is out of order: it fails, after [`OUTAGE`].
    pub(super) broken: Mutex<&'static str>,
    /// `true` if the server has streams for what it sends without a request.
    pub(super) has_streams: AtomicBool,
    /// The number of calls of `work` that have arrived.
    working: watch::Sender<usize>,
    /// The streams so far, and their sessions.
    streams: watch::Sender<Vec<(String, mpsc::Sender<Bytes>)>>,
}

/// The time after which a method that is out of order fails.
pub(super) const OUTAGE: Duration = Duration::from_millis(300);

/// Lets as many calls go as have been allowed.
pub(super) struct Gate(pub(super) Semaphore);

impl Default for Gate {
    fn default() -> Self {
        Self(Semaphore::new(0))
    }
}

#[derive(Clone, Default)]
pub(super) struct Failure {
    status: u16,
    headers: Vec<(&'static str, &'static str)>,
    body: String,
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Remote {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/mcp", listener.local_addr().expect("an address"));
        let state = Arc::<State>::default();
        let task = Self::serve(listener, &state);
        Self { url, state, task }
    }

    /// A server with a session, which is 1.
    pub(super) async fn with_session() -> Self {
        let remote = Self::start().await;
        remote.state.session.store(1, Ordering::SeqCst);
        remote
    }

    /// The same with streams for what the server sends without a request.
    pub(super) async fn with_streams() -> Self {
        let remote = Self::with_session().await;
        remote.state.has_streams.store(true, Ordering::SeqCst);
        remote
    }

    /// Serves again, at the same address.
    pub(super) async fn restart(&mut self) {
        let address = self.url.trim_start_matches("http://").trim_end_matches("/mcp").to_owned();
        let listener = TcpListener::bind(address).await.expect("the same port");
        self.task = Self::serve(listener, &self.state);
    }

    fn serve(listener: TcpListener, state: &Arc<State>) -> JoinHandle<()> {
        let (of_post, of_get) = (state.clone(), state.clone());
        let answer = move |headers: HeaderMap, body: Bytes| {
            let state = of_post.clone();
            async move { state.answer(&headers, &body).await }
        };
        let stream = move |headers: HeaderMap| std::future::ready(of_get.stream(&headers));
        let app = Router::new().route("/mcp", post(answer).get(stream));
        TaskTracker::new().spawn(async move { axum::serve(listener, app).await.expect("served") })
    }

    /// A server of callpark that has this one.
    pub(super) async fn server(&self, more: &str) -> TestServer {
        let toml = format!("[[mcp_servers]]\nname = 'odd'\nurl = '{}'\n{more}\n", self.url);
        TestServer::with_config(&toml, &[]).await
    }

    pub(super) fn fail(&self, status: u16, headers: &[(&'static str, &'static str)], body: &str) {
        let failure = Failure { status, headers: headers.to_vec(), body: body.to_owned() };
        *self.state.failure.lock().expect("a lock") = failure;
    }

    /// Calls of `fail` are answered with `good`.
    pub(super) fn recover(&self) {
        self.fail(200, JSON, r#"{"id":ID,"result":"good"}"#);
    }

    /// Waits for this number of calls of `work`.
    pub(super) async fn works(&self, count: usize) {
        let mut working = self.state.working.subscribe();
        let arrived = working.wait_for(|arrived| *arrived >= count);
        let _arrived = soon("a call of `work`", arrived).await.expect("a server");
    }

    /// Ends the streams that are open, as far as the test has no other sender of theirs.
    pub(super) fn end_streams(&self) {
        self.state.streams.send_modify(Vec::clear);
    }

    /// Returns `true` if a stream has been opened since the last ones were ended.
    pub(super) fn has_stream(&self) -> bool {
        !self.state.streams.borrow().is_empty()
    }

    /// Waits for a stream of this session.
    pub(super) async fn stream_of(&self, session: &str) -> mpsc::Sender<Bytes> {
        let mut streams = self.state.streams.subscribe();
        let opened = async {
            loop {
                let all = streams.borrow_and_update().clone();
                if let Some((_, stream)) = all.into_iter().rfind(|(of, _)| of == session) {
                    return stream;
                }
                streams.changed().await.expect("a server");
            }
        };
        soon("a stream", opened).await
    }
}

impl State {
    async fn answer(&self, headers: &HeaderMap, body: &[u8]) -> Response<Body> {
        let message: Value = serde_json::from_slice(body).expect("a message");
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let token = format!("Bearer {}", self.token.lock().expect("a lock"));
        if token != "Bearer " && header("authorization") != Some(token.as_str()) {
            let refusals = self.refusals.lock().expect("a lock").clone();
            if let Some(refusals) = refusals {
                refusals.wait().await;
            }
            return response(401, &[], "who are you?");
        }
        let session = self.session.load(Ordering::SeqCst).to_string();
        let method = message["method"].as_str().unwrap_or_default();
        let is_beginning = matches!(method, "initialize" | "server/discover");
        if session != "0" && !is_beginning && header("mcp-session-id") != Some(session.as_str()) {
            return response(404, &[], "Session not found");
        }
        if message.get("id").is_none() {
            return response(202, &[], "");
        }
        match method {
            "initialize" => drop(self.beginnings.fetch_add(1, Ordering::SeqCst)),
            "tools/list" => drop(self.lists.fetch_add(1, Ordering::SeqCst)),
            _ => {}
        }
        if *self.broken.lock().expect("a lock") == method {
            tokio::time::sleep(OUTAGE).await;
            return response(500, &[], "out of order");
        }
        let result = match method {
            "initialize" => {
                json!({ "protocolVersion": "2025-06-18", "capabilities": { "tools": {} },
                    "serverInfo": { "name": "remote", "version": "1" } })
            }
            "tools/list" => {
                let tools = ["work", "fail"].map(|name| json!({ "name": name, "inputSchema": {} }));
                json!({ "tools": tools })
            }
            "tools/call" if message["params"]["name"] == "work" => {
                self.working.send_modify(|count| *count += 1);
                self.go.0.acquire().await.expect("open").forget();
                json!({ "content": "done" })
            }
            "tools/call" => {
                let Failure { status, headers, body } =
                    self.failure.lock().expect("a lock").clone();
                return response(status, &headers, &body.replace("ID", &message["id"].to_string()));
            }
            _ => {
                let error = json!({ "code": -32601, "message": "no such method" });
                let answer = json!({ "jsonrpc": "2.0", "id": message["id"], "error": error });
                return response(200, &[("content-type", "application/json")], &answer.to_string());
            }
        };
        let answer = json!({ "jsonrpc": "2.0", "id": message["id"], "result": result }).to_string();
        let session = session.leak();
        let headers = [("content-type", "application/json"), ("mcp-session-id", &*session)];
        let headers = if session == "0" { &headers[..1] } else { &headers[..] };
        response(200, headers, &answer)
    }

    /// Opens a stream for what the server sends without a request.
    fn stream(&self, headers: &HeaderMap) -> Response<Body> {
        if !self.has_streams.load(Ordering::SeqCst) {
            return response(405, &[], "");
        }
        let session = headers.get("mcp-session-id").and_then(|id| id.to_str().ok());
        let (sender, events) = mpsc::channel(8);
        let session = session.unwrap_or_default().to_owned();
        self.streams.send_modify(|streams| streams.push((session, sender)));
        let events = ReceiverStream::new(events).map(Ok::<_, std::convert::Infallible>);
        let mut response = response(200, EVENTS, "");
        *response.body_mut() = Body::from_stream(events);
        response
    }
}

fn response(status: u16, headers: &[(&str, &str)], body: &str) -> Response<Body> {
    let mut response = Response::builder().status(StatusCode::from_u16(status).expect("a status"));
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(Body::from(body.to_owned())).expect("a response")
}

pub(super) const JSON: &[(&str, &str)] = &[("content-type", "application/json")];
pub(super) const EVENTS: &[(&str, &str)] = &[("content-type", "text/event-stream")];
