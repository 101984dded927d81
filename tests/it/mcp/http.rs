//! Servers over HTTP whose requests fail one by one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Response, StatusCode};
use axum::routing::post;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use super::{list, result, text};
use crate::support::waiting::{call, ended, outcome_of, park};
use crate::support::{TestServer, folder, soon, v1};

/// An MCP server over HTTP. A call of `work` is answered when it is let go, one of `fail` as `failure`
/// says.
struct Remote {
    url: String,
    state: Arc<State>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    failure: Mutex<Failure>,
    go: Gate,
    /// The session that is known, or 0 if there are no sessions.
    session: AtomicUsize,
    beginnings: AtomicUsize,
    lists: AtomicUsize,
    /// The token that is asked for, or none.
    token: Mutex<String>,
}

/// Lets as many calls go as have been allowed.
struct Gate(Semaphore);

impl Default for Gate {
    fn default() -> Self {
        Self(Semaphore::new(0))
    }
}

#[derive(Clone, Default)]
struct Failure {
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
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/mcp", listener.local_addr().expect("an address"));
        let state = Arc::<State>::default();
        let of_handler = state.clone();
        let handler = move |headers: HeaderMap, body: Bytes| {
            let state = of_handler.clone();
            async move { state.answer(&headers, &body).await }
        };
        let app = Router::new().route("/mcp", post(handler));
        let task = TaskTracker::new()
            .spawn(async move { axum::serve(listener, app).await.expect("served") });
        Self { url, state, task }
    }

    /// A server of callpark that has this one.
    async fn server(&self, more: &str) -> TestServer {
        let toml = format!("[[mcp_servers]]\nname = 'odd'\nurl = '{}'\n{more}\n", self.url);
        TestServer::with_config(&toml, &[]).await
    }

    fn fail(&self, status: u16, headers: &[(&'static str, &'static str)], body: &str) {
        let failure = Failure { status, headers: headers.to_vec(), body: body.to_owned() };
        *self.state.failure.lock().expect("a lock") = failure;
    }
}

impl State {
    async fn answer(&self, headers: &HeaderMap, body: &[u8]) -> Response<Body> {
        let message: Value = serde_json::from_slice(body).expect("a message");
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let token = format!("Bearer {}", self.token.lock().expect("a lock"));
        if token != "Bearer " && header("authorization") != Some(token.as_str()) {
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
        let result = match method {
            "initialize" => {
                self.beginnings.fetch_add(1, Ordering::SeqCst);
                json!({ "protocolVersion": "2025-06-18", "capabilities": { "tools": {} },
                    "serverInfo": { "name": "remote", "version": "1" } })
            }
            "tools/list" => {
                self.lists.fetch_add(1, Ordering::SeqCst);
                let tools = ["work", "fail"].map(|name| json!({ "name": name, "inputSchema": {} }));
                json!({ "tools": tools })
            }
            "tools/call" if message["params"]["name"] == "work" => {
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
}

fn response(status: u16, headers: &[(&str, &str)], body: &str) -> Response<Body> {
    let mut response = Response::builder().status(StatusCode::from_u16(status).expect("a status"));
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(Body::from(body.to_owned())).expect("a response")
}

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];
const EVENTS: &[(&str, &str)] = &[("content-type", "text/event-stream")];

async fn failed(server: &TestServer) -> v1::ToolResult {
    soon("an answer", result(server, "fail", json!({}))).await
}

#[tokio::test]
async fn a_request_that_fails_ends_its_call_only() {
    let remote = Remote::start().await;
    let server = remote.server("").await;
    let working = park(&server, call("odd__work", json!({}))).await;
    for (status, headers, body, words) in [
        (
            500,
            &[][..],
            "database zork is down",
            &["HTTP 500 Internal Server Error: database zork"][..],
        ),
        (
            429,
            &[("retry-after", "30")],
            "too much zork",
            &["HTTP 429", "try again after 30 s", "too much zork"],
        ),
        (429, &[("retry-after", "Fri, 31 Dec 2027 23:59:59 GMT")], "", &["after Fri, 31 Dec 2027"]),
        (503, EVENTS, "<html>\n<h1>zork</h1>", &["HTTP 503", "<h1>zork</h1>"]),
        (403, JSON, r#"{"error":"zork"}"#, &["HTTP 403", r#"{"error":"zork"}"#]),
        (404, JSON, "", &["HTTP 404"]),
        (400, JSON, r#"{"id":ID,"error":{"code":-3,"message":"zork"}}"#, &["an error: zork (-3)"]),
        (
            200,
            &[("content-type", "text/html")],
            "<html>zork",
            &["(text/html) is not one: <html>zork"],
        ),
        (200, JSON, "", &["its answer is empty"]),
        (200, JSON, r#"{"jsonrpc":"2.0","id":ID,"result":{"co"#, &["not valid JSON", r#"{"co"#]),
        (202, &[], "", &["HTTP 202"]),
        (204, &[], "", &["HTTP 204"]),
        (307, &[("location", "http://127.0.0.1:9/")], "", &["HTTP 307"]),
        (200, EVENTS, "", &["closed the connection before its answer"]),
        (200, EVENTS, "data: {\"id\":ID,\"result\":{\"co\n\n", &["not valid JSON"]),
        (200, EVENTS, "id: 1\ndata: {}\n\n", &["closed the connection before its answer"]),
    ] {
        remote.fail(status, headers, body);
        let answer = failed(&server).await;
        assert!(answer.is_error, "{status} {body}: {answer:?}");
        for words in words {
            assert!(answer.error_message.contains(words), "{status}: {}", answer.error_message);
        }
    }
    remote.state.go.0.add_permits(1);
    let task = ended(&server, &working).await;
    assert_eq!(text(outcome_of(&task)), "done", "{task:?}");
    assert_eq!(remote.state.beginnings.load(Ordering::SeqCst), 1, "one connection for all of it");
}

#[tokio::test]
async fn answers_of_every_form_are_read() {
    let remote = Remote::start().await;
    let server = remote.server("").await;
    let answer = r#""id":ID,"result":{"content":"good"}"#;
    for (headers, body) in [
        (JSON, format!("{{{answer},\"error\":null}}")),
        (JSON, format!("[{{{answer}}}]")),
        (JSON, format!("[{{\"method\":\"notifications/x\"}},{{{answer}}}]")),
        (&[][..], format!("{{{answer}}}")),
        (&[("content-type", "text/plain")], format!("\u{feff}{{{answer}}}")),
        (EVENTS, format!("event: message\ndata: {{{answer}}}\n\n")),
        (EVENTS, format!("event: result\r\ndata: {{{answer}}}\r\n\r\n")),
        (EVENTS, format!("unknown: x\nid: 1\nid: 2\ndata: [{{{answer}}}]\n\n")),
        (EVENTS, format!("data: working\n\ndata: {{{answer}}}")),
    ] {
        remote.fail(200, headers, &body);
        let answer = failed(&server).await;
        assert_eq!(
            (text(&answer).as_str(), answer.is_error),
            ("good", false),
            "{body}: {answer:?}"
        );
    }
    assert_eq!(remote.state.beginnings.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_session_that_is_over_is_begun_again() {
    let remote = Remote::start().await;
    remote.state.session.store(1, Ordering::SeqCst);
    let server = remote.server("").await;
    remote.fail(200, JSON, r#"{"id":ID,"result":"good"}"#);
    assert_eq!(text(&failed(&server).await), "good");
    let working = park(&server, call("odd__work", json!({}))).await;
    remote.state.session.store(2, Ordering::SeqCst);
    assert_eq!(text(&failed(&server).await), "good");
    assert_eq!(remote.state.beginnings.load(Ordering::SeqCst), 2);
    // The tools of a server that has begun again may be others.
    let lists = remote.state.lists.load(Ordering::SeqCst);
    list(&server).await;
    assert_eq!(remote.state.lists.load(Ordering::SeqCst), lists + 1);
    // A call of the earlier session goes on.
    remote.state.go.0.add_permits(1);
    assert_eq!(text(outcome_of(&ended(&server, &working).await)), "done");
    // In words instead of a status.
    remote.fail(400, &[], "Bad Request: No valid session");
    let answer = failed(&server).await;
    assert!(answer.error_message.contains("ession"), "{}", answer.error_message);
    assert!(answer.error_message.contains("No valid session"), "{}", answer.error_message);
    assert_eq!(remote.state.beginnings.load(Ordering::SeqCst), 3, "once, not again and again");
    remote.fail(200, JSON, r#"{"id":ID,"result":"good"}"#);
    assert_eq!(text(&failed(&server).await), "good");
}

#[tokio::test]
async fn a_token_that_is_refused_is_read_again() {
    let folder = folder();
    let file = folder.path().join("token");
    std::fs::write(&file, "first\n").expect("a token");
    let remote = Remote::start().await;
    "first".clone_into(&mut remote.state.token.lock().expect("a lock"));
    let server = remote.server(&format!("token_file = '{}'", file.display())).await;
    remote.fail(200, JSON, r#"{"id":ID,"result":"good"}"#);
    assert_eq!(text(&failed(&server).await), "good");
    "second".clone_into(&mut remote.state.token.lock().expect("a lock"));
    let refused = failed(&server).await;
    assert!(refused.error_message.contains("HTTP 401 Unauthorized: who are you?"), "{refused:?}");
    std::fs::write(&file, "second\n").expect("a token");
    assert_eq!(text(&failed(&server).await), "good");
    assert_eq!(remote.state.beginnings.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_server_that_is_gone_for_a_while_is_found_again() {
    let mut remote = Remote::start().await;
    let server = remote.server("").await;
    remote.fail(200, JSON, r#"{"id":ID,"result":"good"}"#);
    assert_eq!(text(&failed(&server).await), "good");
    remote.task.abort();
    let _aborted = (&mut remote.task).await;
    let gone = failed(&server).await;
    assert!(gone.error_message.contains("the request failed: "), "{}", gone.error_message);
    assert!(!gone.error_message.contains("::"), "{}", gone.error_message);
    let tools = list(&server).await;
    assert!(tools.tools.iter().any(|tool| tool.name == "odd__work"), "{:?}", tools.unavailable);
    let words = &tools.unavailable.first().expect("a warning").message;
    assert!(words.contains("what has changed"), "{words}");

    let address = remote.url.trim_start_matches("http://").trim_end_matches("/mcp").to_owned();
    let listener = tokio::net::TcpListener::bind(address).await.expect("the same port");
    let state = remote.state.clone();
    let handler = move |headers: HeaderMap, body: Bytes| {
        let state = state.clone();
        async move { state.answer(&headers, &body).await }
    };
    let app = Router::new().route("/mcp", post(handler));
    remote.task =
        TaskTracker::new().spawn(async move { axum::serve(listener, app).await.expect("served") });
    assert_eq!(text(&failed(&server).await), "good");
}

#[tokio::test]
async fn slow_calls_do_not_hold_up_the_others() {
    let remote = Remote::start().await;
    let server = remote.server("").await;
    remote.fail(200, JSON, r#"{"id":ID,"result":"good"}"#);
    let mut working = Vec::new();
    for _ in 0..20 {
        working.push(park(&server, call("odd__work", json!({}))).await);
    }
    assert_eq!(text(&failed(&server).await), "good");
    remote.state.go.0.add_permits(working.len());
    for id in working {
        assert_eq!(text(outcome_of(&ended(&server, &id).await)), "done");
    }
}

#[tokio::test]
async fn tools_that_do_not_change_are_listed_once() {
    let remote = Remote::start().await;
    let server = remote.server("").await;
    remote.fail(200, JSON, r#"{"id":ID,"result":"good"}"#);
    for _ in 0..3 {
        list(&server).await;
        assert_eq!(text(&failed(&server).await), "good");
    }
    assert_eq!(remote.state.lists.load(Ordering::SeqCst), 1);
}
