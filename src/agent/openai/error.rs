//! Errors of requests to a chat endpoint.

use reqwest::{Response, StatusCode};
use serde_json::Value;

use super::overflow;
use crate::agent::{ModelError, ModelErrorCode};
use crate::model::limits::ERROR_TEXT_BYTES_MAX;

/// The part of an error response that is read, in bytes.
const BODY_BYTES_MAX: usize = 16 * 1024;

/// The advice for a conversation that stays too long however much is left out of it.
const CONTEXT_ADVICE: &str =
    "send a shorter prompt or fewer tools, or see context_tokens of the model";

fn error(code: ModelErrorCode, message: String) -> ModelError {
    ModelError { code, message }
}

/// Returns the error for a connection that failed.
pub(super) fn transport_error(cause: &reqwest::Error, url: &str) -> ModelError {
    if cause.is_timeout() && !cause.is_connect() {
        let message = format!("{url} sent nothing for too long: see read_timeout of the model");
        return error(ModelErrorCode::Timeout, message);
    }
    let causes = std::iter::successors(Some(cause as &dyn std::error::Error), |e| e.source());
    let root = causes.last().map(ToString::to_string).unwrap_or_default();
    if cause.is_connect() {
        return error(
            ModelErrorCode::Connection,
            format!(
                "{url} cannot be reached: {root}; check that it is running, and endpoint of the model"
            ),
        );
    }
    error(ModelErrorCode::Connection, format!("the connection to {url} was lost: {root}"))
}

/// Returns the error for a stream of events that cannot be read.
pub(super) fn stream_error(cause: sse_stream::Error, url: &str) -> ModelError {
    let malformed = || {
        error(
            ModelErrorCode::Malformed,
            format!("the answer of {url} is not a stream of server-sent events"),
        )
    };
    match cause {
        sse_stream::Error::Body(cause) => {
            cause.downcast::<ModelError>().map_or_else(|_| malformed(), |error| *error)
        }
        _ => malformed(),
    }
}

/// Returns the error for a piece of an answer that cannot be parsed.
pub(super) fn malformed(cause: &serde_json::Error, url: &str) -> ModelError {
    let message = format!("a piece of the answer of {url} cannot be parsed: {cause}");
    error(ModelErrorCode::Malformed, message)
}

/// Returns the error for an answer that exceeds a limit.
pub(super) fn too_large(url: &str) -> ModelError {
    error(ModelErrorCode::TooLarge, format!("the answer of {url} exceeds the size limit"))
}

/// Returns the error for a response that is not a success, and its body.
pub(super) async fn response_error(mut response: Response, url: &str) -> (ModelError, String) {
    let status = response.status();
    let mut body = Vec::new();
    while let Ok(Some(piece)) = response.chunk().await {
        body.extend_from_slice(&piece[..piece.len().min(BODY_BYTES_MAX - body.len())]);
        if body.len() >= BODY_BYTES_MAX {
            break;
        }
    }
    let body = String::from_utf8_lossy(&body).into_owned();
    let detail = match serde_json::from_str::<Value>(&body) {
        Ok(value) => message_of(&value),
        Err(_) => truncated(&body),
    };
    let (code, advice) = match status {
        status if overflow::is_overflow(Some(status), &body) => {
            (ModelErrorCode::ContextExceeded, CONTEXT_ADVICE)
        }
        StatusCode::TOO_MANY_REQUESTS => (ModelErrorCode::RateLimited, "try later"),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => (
            ModelErrorCode::Unauthenticated,
            "see api_key_environment or api_key_file of the model",
        ),
        StatusCode::REQUEST_TIMEOUT => (ModelErrorCode::Timeout, "try again"),
        status if status.is_server_error() => (ModelErrorCode::Server, "try again"),
        _ => (ModelErrorCode::Refused, "see endpoint and model of the model, and the prompt"),
    };
    (error(code, format!("{url} answered {status}: {detail}; {advice}")), body)
}

/// Returns the error that the endpoint reports in the middle of a stream.
pub(super) fn reported_error(value: &Value, url: &str) -> ModelError {
    let message = format!("{url} failed while it was answering: {}", message_of(value));
    if overflow::is_overflow(None, &value.to_string()) {
        return error(ModelErrorCode::ContextExceeded, format!("{message}; {CONTEXT_ADVICE}"));
    }
    error(ModelErrorCode::Server, message)
}

/// Returns the message of an error in JSON.
fn message_of(value: &Value) -> String {
    let inner = value.get("error").unwrap_or(value);
    let message = inner.get("message").and_then(Value::as_str).or(inner.as_str());
    truncated(message.map_or_else(|| inner.to_string(), str::to_owned).as_str())
}

pub(super) fn truncated(text: &str) -> String {
    let text = text.trim();
    text[..text.floor_char_boundary(ERROR_TEXT_BYTES_MAX)].to_owned()
}
