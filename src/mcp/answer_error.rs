//! The errors in answers, in whatever form they come, and those that callpark makes of answers.

use rmcp::model::{ErrorCode, ErrorData, RequestId, ServerJsonRpcMessage};
use serde_json::Value;

use super::excerpt::excerpt;

/// The code of an error that callpark makes of an answer. Its message is the end of a sentence.
pub(super) const OWN_ERROR: ErrorCode = ErrorCode(i32::MIN);

/// Returns an error that ends an open request. The reason is the end of a sentence.
pub(super) fn own_error(id: RequestId, reason: String) -> ServerJsonRpcMessage {
    ServerJsonRpcMessage::error(ErrorData::new(OWN_ERROR, reason, None), Some(id))
}

/// Returns `true` for the values with which servers say that there is no error.
pub(super) fn is_empty(error: &Value) -> bool {
    match error {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Object(object) => object.is_empty(),
        Value::Array(array) => array.is_empty(),
        Value::Number(number) => number.as_i64() == Some(0),
        Value::Bool(true) => false,
    }
}

/// Reads the error of an answer, in whatever form it comes.
pub(super) fn error_data(error: Value) -> ErrorData {
    let Value::Object(mut object) = error else {
        let words = error.as_str().map_or_else(|| excerpt(&error.to_string()), excerpt);
        return ErrorData::new(OWN_ERROR, format!("it returned an error: {words}"), None);
    };
    let data = object.remove("data").filter(|data| !data.is_null());
    let code = object.remove("code").filter(|code| !code.is_null());
    let message = match object.remove("message").filter(|message| !is_empty(message)) {
        Some(Value::String(message)) => message,
        Some(other) => excerpt(&other.to_string()),
        None if object.is_empty() => "it gives no reason".to_owned(),
        None => excerpt(&Value::Object(object).to_string()),
    };
    let number = match &code {
        Some(Value::String(text)) => text.trim().parse().ok(),
        Some(code) => code.as_i64(),
        None => None,
    };
    if let Some(number) = number.and_then(|number| i32::try_from(number).ok()) {
        return ErrorData::new(ErrorCode(number), message, data);
    }
    let code = match code {
        Some(Value::String(text)) => format!(" ({})", excerpt(&text)),
        Some(other) => format!(" ({})", excerpt(&other.to_string())),
        None => String::new(),
    };
    ErrorData::new(OWN_ERROR, format!("it returned an error: {message}{code}"), data)
}
