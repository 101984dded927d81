//! What can go wrong with a request, in words.

use eventsource_stream::EventStreamError;
use reqwest::{Response, StatusCode};
use serde_json::Value;

use crate::agent::{ModelError, ModelErrorCode};
use crate::model::limits::ERROR_TEXT_BYTES_MAX;

/// What of an endpoint's own words is read and told, in bytes.
const BODY_BYTES_MAX: usize = 16 * 1024;

fn error(code: ModelErrorCode, message: String) -> ModelError {
    ModelError { code, message }
}

/// The connection failed.
pub(super) fn of_transport(cause: &reqwest::Error, at: &str) -> ModelError {
    if cause.is_timeout() && !cause.is_connect() {
        let message = format!("{at} has said nothing for too long: see read_timeout of the model");
        return error(ModelErrorCode::Timeout, message);
    }
    let causes = std::iter::successors(Some(cause as &dyn std::error::Error), |e| e.source());
    let root = causes.last().map(ToString::to_string).unwrap_or_default();
    if cause.is_connect() {
        return error(
            ModelErrorCode::Connection,
            format!("{at} can't be reached: {root}; see that it runs, and endpoint of the model"),
        );
    }
    error(ModelErrorCode::Connection, format!("the connection to {at} was lost: {root}"))
}

/// The stream of events can't be read.
pub(super) fn of_events(cause: EventStreamError<ModelError>, at: &str) -> ModelError {
    match cause {
        EventStreamError::Transport(error) => error,
        EventStreamError::Utf8(_) | EventStreamError::Parser(_) => error(
            ModelErrorCode::Garbled,
            format!("the answer of {at} is no stream of server-sent events"),
        ),
    }
}

/// A piece of an answer is no JSON, or not of the right kind.
pub(super) fn garbled(cause: &serde_json::Error, at: &str) -> ModelError {
    error(ModelErrorCode::Garbled, format!("a piece of the answer of {at} can't be read: {cause}"))
}

/// The answer has no end.
pub(super) fn too_large(at: &str) -> ModelError {
    error(ModelErrorCode::TooLarge, format!("the answer of {at} is larger than any should be"))
}

/// The endpoint refused the request, or failed.
pub(super) async fn of_response(mut response: Response, at: &str) -> ModelError {
    let status = response.status();
    let mut body = Vec::new();
    while let Ok(Some(piece)) = response.chunk().await {
        body.extend_from_slice(&piece[..piece.len().min(BODY_BYTES_MAX - body.len())]);
        if body.len() >= BODY_BYTES_MAX {
            break;
        }
    }
    let said = match serde_json::from_slice::<Value>(&body) {
        Ok(value) => words(&value),
        Err(_) => cut(&String::from_utf8_lossy(&body)),
    };
    let (code, advice) = match status {
        StatusCode::TOO_MANY_REQUESTS => (ModelErrorCode::RateLimited, "try later"),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => (
            ModelErrorCode::Unauthenticated,
            "see api_key_environment or api_key_file of the model",
        ),
        StatusCode::REQUEST_TIMEOUT => (ModelErrorCode::Timeout, "try again"),
        status if status.is_server_error() => (ModelErrorCode::Server, "try again"),
        _ => (ModelErrorCode::Refused, "see endpoint and model of the model, and the prompt"),
    };
    error(code, format!("{at} answered {status}: {said}; {advice}"))
}

/// The endpoint says in mid-stream that it failed.
pub(super) fn of_body(fault: &Value, at: &str) -> ModelError {
    error(ModelErrorCode::Server, format!("{at} failed while it answered: {}", words(fault)))
}

/// What an error in JSON says.
fn words(value: &Value) -> String {
    let inner = value.get("error").unwrap_or(value);
    let message = inner.get("message").and_then(Value::as_str).or(inner.as_str());
    cut(message.map_or_else(|| inner.to_string(), str::to_owned).as_str())
}

fn cut(text: &str) -> String {
    let text = text.trim();
    text[..text.floor_char_boundary(ERROR_TEXT_BYTES_MAX)].to_owned()
}
