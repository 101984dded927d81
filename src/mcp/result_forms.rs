//! The results of requests, read so that one odd part costs only itself.

use rmcp::model::{InitializeResult, ServerCapabilities, ServerResult};
use serde::Deserialize as _;
use serde_json::{Map, Value, json};

use super::call_result;
use super::excerpt::excerpt;
use super::open_requests::Method;
use super::tool_page;

/// The version of a server that names none: the first one.
const FIRST_VERSION: &str = "2024-11-05";

/// Reads the result of a request. The error is the end of a sentence.
pub(super) fn read(method: Method, result: Value) -> Result<ServerResult, String> {
    match method {
        Method::ListTools => tool_page::read(result).map(ServerResult::ListToolsResult),
        Method::CallTool => call_result::read(result),
        Method::Initialize => initialized(result).map(ServerResult::InitializeResult),
        Method::GetTask => Ok(call_result::any(task(result))),
        Method::Discover | Method::Other => Ok(call_result::any(result)),
    }
}

/// Gives the result of a call, inside the state of its task, its strict form.
fn task(mut state: Value) -> Value {
    if let Some(inner) = state.get_mut("result").filter(|inner| !inner.is_null())
        && let Ok(ServerResult::CallToolResult(result)) = call_result::read(inner.clone())
        && let Ok(strict) = serde_json::to_value(result)
    {
        *inner = strict;
    }
    state
}

fn initialized(result: Value) -> Result<InitializeResult, String> {
    if let Ok(result) = InitializeResult::deserialize(&result) {
        return Ok(result);
    }
    let unreadable = |result: &Value| {
        format!(
            "its answer to `initialize` is not a valid MCP result: {}",
            excerpt(&result.to_string())
        )
    };
    let Value::Object(object) = &result else { return Err(unreadable(&result)) };
    let text = |value: Option<&Value>, default: &str| match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => default.to_owned(),
    };
    let information = object.get("serverInfo");
    let information = |key| information.and_then(|information| information.get(key));
    let strict = json!({
        "protocolVersion": text(object.get("protocolVersion"), FIRST_VERSION),
        "capabilities": capabilities(object.get("capabilities")),
        "serverInfo": {
            "name": text(information("name"), "unknown"),
            "version": text(information("version"), ""),
        },
        "instructions": text(object.get("instructions"), ""),
    });
    InitializeResult::deserialize(&strict).map_err(|_| unreadable(&result))
}

/// Returns the capabilities that can be read. One that is just `true` has no details.
fn capabilities(capabilities: Option<&Value>) -> Map<String, Value> {
    let Some(Value::Object(capabilities)) = capabilities else { return Map::new() };
    let mut readable = Map::new();
    for (key, value) in capabilities {
        let value = match value {
            Value::Null | Value::Bool(false) => continue,
            Value::Bool(true) => json!({}),
            other => other.clone(),
        };
        for value in [value, json!({})] {
            if ServerCapabilities::deserialize(&json!({ key: value })).is_ok() {
                readable.insert(key.clone(), value);
                break;
            }
        }
    }
    readable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_odd_initialization_is_read_as_far_as_possible() {
        let result = initialized(json!({
            "protocolVersion": "2025-06-18",
            "capabilities": { "tools": true, "logging": null, "prompts": { "listChanged": "yes" }, "x": 1 },
            "serverInfo": { "name": "files", "version": 1.5 },
            "instructions": ["read", "this"],
        }));
        let result = result.unwrap();
        assert_eq!(result.protocol_version.as_str(), "2025-06-18");
        assert!(result.capabilities.tools.is_some() && result.capabilities.prompts.is_some());
        assert_eq!((&*result.server_info.name, &*result.server_info.version), ("files", "1.5"));
        let empty = initialized(json!({})).unwrap();
        assert_eq!(empty.protocol_version.as_str(), FIRST_VERSION);
        let reason = initialized(json!("welcome")).unwrap_err();
        assert!(reason.contains("\"welcome\""), "{reason}");
    }

    #[test]
    fn the_result_of_a_task_is_read_like_that_of_a_call() {
        let state =
            task(json!({ "taskId": "1", "result": { "content": "done", "isError": "false" } }));
        let expected = json!([{ "type": "text", "text": "done" }]);
        assert_eq!(state["result"]["content"], expected);
        let odd = json!({ "taskId": "1", "result": { "content": 7 } });
        assert_eq!(task(odd.clone()), odd);
    }
}
