//! Failures of an agent as errors of a turn.

use agent_client_protocol::ErrorCode;

use crate::agent::{ModelError, ModelErrorCode};
use crate::exec::StartError;

/// Returns the error of a turn in which an agent failed. `reason` is the end of a sentence.
pub(super) fn agent_error(agent: &str, code: ModelErrorCode, reason: &str) -> ModelError {
    ModelError { code, message: format!("the agent `{agent}` failed: {reason}") }
}

/// Returns the code for an agent whose process cannot be started. A wrong configuration is still
/// wrong a moment later; a shortage of the system may pass.
pub(super) fn start_error_code(error: &StartError) -> ModelErrorCode {
    match error {
        StartError::ProgramMissing { .. }
        | StartError::NotExecutable { .. }
        | StartError::WorkingDirectory { .. } => ModelErrorCode::NotStartable,
        StartError::System { .. } => ModelErrorCode::Connection,
    }
}

/// Returns the code and the reason for a `request` that an agent answered with an error.
pub(super) fn error_answer(
    request: &str,
    error: &agent_client_protocol::Error,
) -> (ModelErrorCode, String) {
    let detail = match &error.data {
        Some(serde_json::Value::String(text)) => format!(": {text}"),
        Some(data) if !data.is_null() => format!(": {data}"),
        Some(_) | None => String::new(),
    };
    let number = i32::from(error.code);
    let reason = format!("it answered {request} with {}{detail} ({number})", error.message);
    if error.code == ErrorCode::AUTH_REQUIRED {
        let advice = "log in with its own program as the user that callpark runs as, or pass its \
                      key by set_environment";
        return (ModelErrorCode::Unauthenticated, format!("{reason}; {advice}"));
    }
    let is_rejected =
        [ErrorCode::INVALID_REQUEST, ErrorCode::METHOD_NOT_FOUND, ErrorCode::INVALID_PARAMS]
            .contains(&error.code);
    match is_rejected {
        true => (ModelErrorCode::Refused, reason),
        false => (ModelErrorCode::Server, reason),
    }
}
