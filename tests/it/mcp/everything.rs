//! The reference server of the protocol's authors, over pipes and over HTTP.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use callpark_proto::v1::session_event::Payload;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::OnceCell;

use super::{list, text};
use crate::support::waiting::{call, cancel, cancel_of, ended, log_of, park, run, session};
use crate::support::{TestServer, npm, result_of, soon, v1};
use v1::content::Kind;

/// Returns the path of the server's program, installed with npm from the registry.
async fn program() -> &'static Path {
    static PROGRAM: OnceCell<PathBuf> = OnceCell::const_new();
    PROGRAM.get_or_init(install).await
}

async fn install() -> PathBuf {
    let folder = npm::install("tests/it/mcp/everything").await;
    folder.join("node_modules/@modelcontextprotocol/server-everything/dist/index.js")
}

/// A server that has it as `everything`, as these lines say.
async fn server(lines: &str) -> TestServer {
    let toml = format!("[[mcp_servers]]\nname = 'everything'\nstart_timeout = '2m'\n{lines}\n");
    TestServer::with_config(&toml, &[]).await
}

async fn over_pipes() -> TestServer {
    let program = program().await.display();
    server(&format!("argv = ['node', '{program}', 'stdio']\nenvironment = ['PATH']")).await
}

/// The reference server at a URL, and what ends it.
async fn over_http() -> (TestServer, Child) {
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("an address").port()
    };
    let mut child = Command::new("node")
        .arg(program().await)
        .arg("streamableHttp")
        .env("PORT", port.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("node");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let listens = async {
        while let Some(line) = lines.next_line().await.expect("a line") {
            if line.contains("listening on port") {
                return;
            }
        }
        panic!("it has ended");
    };
    soon("the reference server", listens).await;
    // What it says later has nowhere to go, which is no reason to end.
    tokio_util::task::TaskTracker::new()
        .spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (server(&format!("url = 'http://127.0.0.1:{port}/mcp'")).await, child)
}

/// Checks everything that every transport must support.
async fn check(server: &TestServer) {
    let answer = list(server).await;
    assert_eq!(answer.unavailable, []);
    let names: Vec<&str> = answer.tools.iter().map(|tool| tool.name.as_str()).collect();
    assert!(names.contains(&"everything__echo"), "{names:?}");

    let answer = run(server, call("everything__echo", json!({ "message": "hello" }))).await;
    assert_eq!(text(result_of(&answer)), "Echo: hello");
    let answer = run(server, call("everything__get-tiny-image", json!({}))).await;
    let is_image = |content: &v1::Content| matches!(&content.kind, Some(Kind::Image(image)) if !image.data.is_empty());
    assert!(result_of(&answer).content.iter().any(is_image), "{answer:?}");
    let arguments = json!({ "location": "New York" });
    let answer = run(server, call("everything__get-structured-content", arguments)).await;
    assert!(result_of(&answer).structured.is_some(), "{answer:?}");
    let arguments = json!({ "resourceType": "Text", "resourceId": 1 });
    let answer = run(server, call("everything__get-resource-reference", arguments)).await;
    let is_resource = |content: &v1::Content| matches!(content.kind, Some(Kind::Resource(_)));
    assert!(result_of(&answer).content.iter().any(is_resource), "{answer:?}");

    // It runs as a task only.
    let arguments = json!({ "topic": "parking" });
    let answer = run(server, call("everything__simulate-research-query", arguments)).await;
    assert!(text(result_of(&answer)).contains("parking"), "{answer:?}");

    let session_id = session(server, Default::default()).await;
    let arguments = json!({ "duration": 0.5, "steps": 5 });
    let long = "everything__trigger-long-running-operation";
    let request = v1::RunToolRequest { session_id: session_id.clone(), ..call(long, arguments) };
    let answer = run(server, request).await;
    assert!(text(result_of(&answer)).contains("completed"), "{answer:?}");
    let log = log_of(server, &session_id).await;
    let is_progress =
        |event: &&v1::SessionEvent| matches!(event.payload, Some(Payload::ToolProgress(_)));
    assert!(log.iter().filter(is_progress).count() >= 4, "{log:?}");

    let id = park(server, call(long, json!({ "duration": 600, "steps": 6 }))).await;
    cancel(server, cancel_of(&id)).await;
    assert_eq!(ended(server, &id).await.state(), v1::State::Cancelled);
}

#[tokio::test]
async fn the_reference_server_is_served_over_pipes() {
    check(&over_pipes().await).await;
}

#[tokio::test]
async fn the_reference_server_is_served_over_http() {
    let (server, mut child) = over_http().await;
    check(&server).await;
    // Gone, and nothing listens there any more.
    child.kill().await.expect("killed");
    let answer = run(&server, call("everything__echo", json!({ "message": "x" }))).await;
    let result = result_of(&answer);
    assert!(result.is_error, "{result:?}");
    assert!(result.error_message.contains("the MCP server `everything` failed"), "{result:?}");
}
