//! What an agent did wrong, as the error of a turn.

use agent_client_protocol::ErrorCode;

use crate::agent::{ModelError, ModelErrorCode};
use crate::exec::StartError;

/// A sentence about what an agent did wrong.
pub(super) fn blame(agent: &str, code: ModelErrorCode, reason: &str) -> ModelError {
    ModelError { code, message: format!("the agent `{agent}` failed: {reason}") }
}

/// What kind of failure it is that an agent's process can't be started. What is wrong with its
/// configuration is still wrong a moment later; what the system lacks it may have then.
pub(super) fn start_code(error: &StartError) -> ModelErrorCode {
    match error {
        StartError::ProgramMissing { .. }
        | StartError::NotExecutable { .. }
        | StartError::WorkingDirectory { .. } => ModelErrorCode::NotStartable,
        StartError::System { .. } => ModelErrorCode::Connection,
    }
}

/// What an agent answered to `what` with an error: the code, and the end of a sentence.
pub(super) fn refusal(
    what: &str,
    error: &agent_client_protocol::Error,
) -> (ModelErrorCode, String) {
    let detail = match &error.data {
        Some(serde_json::Value::String(text)) => format!(": {text}"),
        Some(data) if !data.is_null() => format!(": {data}"),
        Some(_) | None => String::new(),
    };
    let number = i32::from(error.code);
    let said = format!("it answered {what} with {}{detail} ({number})", error.message);
    if error.code == ErrorCode::AUTH_REQUIRED {
        let advice = "log in with its own program as the user that callpark runs as, or give it \
                      its key by set_environment";
        return (ModelErrorCode::Unauthenticated, format!("{said}; {advice}"));
    }
    let is_ours =
        [ErrorCode::INVALID_REQUEST, ErrorCode::METHOD_NOT_FOUND, ErrorCode::INVALID_PARAMS]
            .contains(&error.code);
    match is_ours {
        true => (ModelErrorCode::Refused, said),
        false => (ModelErrorCode::Server, said),
    }
}
