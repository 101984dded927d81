//! Requests as chat endpoints accept them.

use serde_json::{Value, json};

use super::conversation;
use super::dialect::Dialect;
use super::names::{OfferedTool, ToolNames};
use crate::agent::{ModelConfig, ModelRequest};

/// Returns the body of a request.
pub(super) fn body(
    config: &ModelConfig,
    request: &ModelRequest,
    names: &ToolNames,
    dialect: &Dialect,
    source: &str,
) -> Value {
    let mut body = serde_json::Map::new();
    body.insert("model".into(), config.model.as_ref().unwrap_or(&config.name).as_str().into());
    let messages = conversation::messages(request, names, dialect, source);
    body.insert("messages".into(), messages.into());
    body.insert("stream".into(), true.into());
    let tools: Vec<Value> = names.offered().iter().map(tool_json).collect();
    let has_tools = !tools.is_empty() && dialect.accepts("tools");
    if has_tools {
        body.insert("tools".into(), tools.into());
    }
    let tool_choice = config.tool_choice.as_deref().and_then(|choice| tool_choice(choice, names));
    let optional: [(&str, Option<Value>); 6] = [
        ("stream_options", Some(json!({ "include_usage": true }))),
        (dialect.max_tokens_field.as_str(), config.max_output_tokens.map(Value::from)),
        ("temperature", config.temperature.map(Value::from)),
        ("reasoning_effort", config.reasoning_effort.as_deref().map(Value::from)),
        // Endpoints refuse these two in a request without tools.
        ("tool_choice", tool_choice.filter(|_| has_tools)),
        ("parallel_tool_calls", config.parallel_tool_calls.map(Value::from).filter(|_| has_tools)),
    ];
    for (field, value) in optional {
        if let Some(value) = value.filter(|_| dialect.accepts(field)) {
            body.insert(field.into(), value);
        }
    }
    body.extend(config.extra_body.clone());
    // A field that was refused in a message, or as callpark sends it, is not the one of `extra_body`.
    body.retain(|field, _| !dialect.omits(field));
    Value::Object(body)
}

fn tool_json(tool: &OfferedTool) -> Value {
    json!({
        "type": "function",
        "function": {
            "name": tool.name,
            "description": tool.description,
            "parameters": tool.schema.value,
        },
    })
}

/// Returns a choice of the protocol, or that of the tool with this name. A session without the tool has
/// no choice: endpoints refuse one that isn't offered.
fn tool_choice(choice: &str, names: &ToolNames) -> Option<Value> {
    if matches!(choice, "auto" | "none" | "required" | "any") {
        return Some(choice.into());
    }
    let name = names.wire_name(choice);
    let is_offered = names.offered().iter().any(|tool| tool.name == name);
    is_offered.then(|| json!({ "type": "function", "function": { "name": name } }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::agent::openai::dialect::Adaptation;

    #[test]
    fn only_a_configured_omission_removes_a_field_of_extra_body() {
        let request =
            ModelRequest { system: "s".into(), messages: Vec::new(), tools: Arc::default() };
        let names = ToolNames::new(&request.tools, &request.messages);
        for (omit, is_sent) in [("[]", true), ("['reasoning']", false)] {
            let toml = format!(
                "name = 'm'\nendpoint = 'http://127.0.0.1:1'\nomit = {omit}\n\
                 extra_body = {{ reasoning = {{ effort = 'low' }} }}"
            );
            let config: ModelConfig = toml::from_str(&toml).expect("a model");
            let mut dialect = Dialect::new(&config);
            dialect.adapt(Adaptation::WithoutField("reasoning"));
            dialect.adapt(Adaptation::WithoutField("stream_options"));
            let body = body(&config, &request, &names, &dialect, "here");
            assert_eq!(body.get("reasoning").is_some(), is_sent, "{omit}");
            assert_eq!(body.get("stream_options"), None);
        }
    }
}
