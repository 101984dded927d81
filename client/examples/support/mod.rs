//! The parts that the examples share: a client from the environment, and a call of `bash`.

use std::env;

use callpark_client::{Client, ClientOptions, Error, RunTool, TokenSource};
use serde_json::json;

#[expect(clippy::disallowed_methods, reason = "an example has no configuration but these")]
fn variable(name: &str) -> Option<String> {
    env::var(name).ok()
}

/// Creates a client of the endpoints in CALLPARK_ENDPOINT, with the token in CALLPARK_TOKEN. It connects
/// at its first call.
pub(crate) fn client() -> Result<Client, Error> {
    let mut options = ClientOptions::default();
    if let Some(endpoint) = variable("CALLPARK_ENDPOINT") {
        options.endpoints = endpoint.split(',').map(str::to_owned).collect();
    }
    if let Some(token) = variable("CALLPARK_TOKEN") {
        options.token = TokenSource::Value(token.into());
    }
    Client::new(options)
}

/// Creates a call of the tool `bash`, in a session of its own.
pub(crate) fn bash(command: &str) -> Result<RunTool, Error> {
    RunTool::new("bash").arguments(json!({ "command": command }))
}
