//! What the examples share: a client from the environment, and a call of `bash`.

use std::{collections::BTreeMap, env};

use callpark_client::{Client, ClientOptions, Error, TokenSource, v1};
use prost_types::{Struct, Value, value::Kind};

#[expect(clippy::disallowed_methods, reason = "an example has no configuration but these")]
fn variable(name: &str) -> Option<String> {
    env::var(name).ok()
}

/// A client of the server that CALLPARK_ENDPOINT names, with the token in CALLPARK_TOKEN. It connects
/// at its first call.
pub(crate) fn client() -> Result<Client, Error> {
    let mut options = ClientOptions::default();
    if let Some(endpoint) = variable("CALLPARK_ENDPOINT") {
        options.endpoint = endpoint;
    }
    if let Some(token) = variable("CALLPARK_TOKEN") {
        options.token = TokenSource::Value(token.into());
    }
    Client::new(options)
}

/// A call of the tool `bash`, in a session of its own.
pub(crate) fn bash(command: &str) -> v1::RunToolRequest {
    let command = Value { kind: Some(Kind::StringValue(command.to_owned())) };
    let fields = BTreeMap::from([("command".to_owned(), command)]);
    v1::RunToolRequest {
        tool: "bash".to_owned(),
        arguments: Some(Struct { fields }),
        ..v1::RunToolRequest::default()
    }
}
