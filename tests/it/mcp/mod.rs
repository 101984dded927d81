//! Tools of MCP servers: a well-behaved one, and one with odd manners.

use std::path::Path;

use serde_json::json;

use crate::support::waiting::{call, run};
use crate::support::{TestServer, result_of, soon, v1};
use v1::content::Kind;

mod beginnings;
mod documents;
mod everything;
mod faults;
mod http;
mod lenient;
mod remote;
mod restarts;
mod tasks;
mod tools;
mod waits;

/// A server with the odd MCP server, which has this folder and this manner.
async fn odd(folder: &Path, manner: &str, more: &str) -> TestServer {
    TestServer::with_config(&toml(folder, manner, more), &[]).await
}

/// The odd MCP server in a configuration.
pub fn toml(folder: &Path, manner: &str, more: &str) -> String {
    format!(
        "[[mcp_servers]]\nname = 'odd'\nargv = ['python3', '{script}', '{folder}', '{manner}']\n\
         environment = ['PATH']\n{more}\n",
        script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/mcp/odd_server.py"),
        folder = folder.display(),
    )
}

async fn list(server: &TestServer) -> v1::ListToolsResponse {
    let request = v1::ListToolsRequest::default();
    let answer = soon("a list", server.tools.clone().list_tools(request)).await;
    answer.expect("an answer").into_inner()
}

/// The result of a call of one of the odd server's tools.
async fn result(server: &TestServer, tool: &str, arguments: serde_json::Value) -> v1::ToolResult {
    let answer = run(server, call(&format!("odd__{tool}"), arguments)).await;
    result_of(&answer).clone()
}

async fn echo(server: &TestServer, text: &str) -> v1::ToolResult {
    result(server, "echo", json!({ "text": text })).await
}

/// The text of a result.
fn text(result: &v1::ToolResult) -> String {
    let texts = result.content.iter().filter_map(|content| match &content.kind {
        Some(Kind::Text(text)) => Some(text.as_str()),
        _ => None,
    });
    texts.collect()
}

/// The lines of a file that may not be there yet.
fn lines(folder: &Path, name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}
