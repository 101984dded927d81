//! Arguments that are secrets by the configuration of their tool. The tool gets them; nothing keeps them.

use serde_json::Value;

use super::Arguments;
use crate::model::{ModelCall, Tool};
use crate::redact::HIDDEN;

/// Returns the arguments of a call as they are kept and shown.
pub(crate) fn without_secrets(tool: &Tool, mut arguments: Arguments) -> Arguments {
    for name in &tool.secret_arguments {
        if let Some(value) = arguments.get_mut(name) {
            *value = HIDDEN.into();
        }
    }
    arguments
}

/// Returns the calls of a model as they are kept, and as it sees them later.
pub(crate) fn calls_without_secrets(tools: &[Tool], calls: &[ModelCall]) -> Vec<ModelCall> {
    let shown = |call: &ModelCall| {
        let mut call = call.clone();
        if let Some(tool) = tools.iter().find(|tool| tool.name == call.tool) {
            call.arguments = text_without_secrets(tool, &call.arguments);
        }
        call
    };
    calls.iter().map(shown).collect()
}

/// Returns the arguments of a call that a model has written as they are kept and shown. Those that cannot be
/// read are hidden as a whole.
fn text_without_secrets(tool: &Tool, text: &str) -> String {
    if tool.secret_arguments.is_empty() {
        return text.to_owned();
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(arguments)) => Value::Object(without_secrets(tool, arguments)).to_string(),
        Ok(_) | Err(_) if text.trim().is_empty() => text.to_owned(),
        Ok(_) | Err(_) => HIDDEN.to_owned(),
    }
}

/// Returns the name of an argument of which only the replacement is there, as in a history.
pub(crate) fn hidden_argument<'a>(tool: &'a Tool, arguments: &Arguments) -> Option<&'a str> {
    let is_hidden = |name: &&String| arguments.get(*name).is_some_and(|value| value == HIDDEN);
    tool.secret_arguments.iter().find(is_hidden).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::{ToolKind, ToolSource};

    fn tool(secret: &[&str]) -> Tool {
        let tool = Tool::new("x", "", json!({}), ToolKind::Command, ToolSource::Config);
        Tool { secret_arguments: secret.iter().map(|name| (*name).to_owned()).collect(), ..tool }
    }

    #[test]
    fn secrets_are_hidden_whatever_their_type() {
        let tool = tool(&["pin", "absent"]);
        for text in [r#"{"pin":"rosebud","a":1}"#, r#"{"pin":{"a":["rosebud"]},"a":1}"#] {
            let shown = text_without_secrets(&tool, text);
            let Ok(Value::Object(arguments)) = serde_json::from_str(&shown) else {
                panic!("{shown}")
            };
            assert_eq!(Value::Object(arguments.clone()), json!({ "a": 1, "pin": "[redacted]" }));
            assert_eq!(hidden_argument(&tool, &arguments), Some("pin"));
        }
        assert_eq!(text_without_secrets(&tool, r#"{"pin":"rosebu"#), HIDDEN);
        assert_eq!(text_without_secrets(&tool, " "), " ");
    }

    #[test]
    fn tools_without_secrets_have_their_arguments_as_they_are() {
        let text = r#"{ "pin": 1 "#;
        assert_eq!(text_without_secrets(&tool(&[]), text), text);
    }
}
