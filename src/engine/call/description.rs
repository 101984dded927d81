//! The description of a call that its caller did not describe: the first words of its arguments, or of
//! the prompt of a turn.

use serde_json::Value;

use crate::model::Tool;
use crate::redact::redacted_value;
use crate::tool::Arguments;

/// The longest description, in characters.
const CHARACTERS_MAX: usize = 60;

/// The part of a text that is looked at, in characters. More never shows.
const TEXT_CHARACTERS_MAX: usize = 256;

/// Returns the value of the tool's only required argument, or else all arguments as `key=value`,
/// truncated, and without what looks like a secret.
pub(super) fn of_arguments(tool: &Tool, arguments: &Arguments) -> String {
    let required = tool.input_schema.get("required").and_then(Value::as_array);
    let required: Vec<&str> = required
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .take(arguments.len() + 1)
        .collect();
    let text = match required.as_slice() {
        [only] => arguments.get(*only).map(|value| shown(only, value)).unwrap_or_default(),
        _ => pairs(&required, arguments),
    };
    truncated(text.trim(), CHARACTERS_MAX)
}

/// Returns the first words of a prompt, without what looks like a secret.
pub(crate) fn of_prompt(prompt: &str) -> String {
    truncated(beginning("prompt", prompt.trim_start()).trim_end(), CHARACTERS_MAX)
}

/// Returns arguments as `key=value`, the required ones first.
fn pairs(required: &[&str], arguments: &Arguments) -> String {
    let is_required = |name: &str| required.contains(&name);
    let first = required.iter().filter_map(|name| arguments.get_key_value(*name));
    let others = arguments.iter().filter(|(name, _)| !is_required(name));
    let mut text = String::new();
    for (name, value) in first.chain(others) {
        if text.len() > CHARACTERS_MAX {
            break;
        }
        let space = if text.is_empty() { "" } else { " " };
        text.push_str(&format!("{space}{name}={}", shown(name, value)));
    }
    text
}

/// Returns the beginning of a value, without secrets.
fn shown(name: &str, value: &Value) -> String {
    let text = match value {
        Value::Object(_) => return "{…}".to_owned(),
        Value::Array(_) => return "[…]".to_owned(),
        Value::String(text) => text.as_str(),
        Value::Null | Value::Bool(_) | Value::Number(_) => &value.to_string(),
    };
    beginning(name, text)
}

/// Returns the beginning of the text of an argument, without secrets.
fn beginning(name: &str, text: &str) -> String {
    let begin: String = text.chars().take(TEXT_CHARACTERS_MAX).collect();
    // Secrets cannot be found in a part of a JSON document.
    if text.trim_start().starts_with(['{', '[']) && begin.len() < text.len() {
        return "{…}".to_owned();
    }
    redacted_value(name, &begin)
}

fn truncated(text: &str, characters_max: usize) -> String {
    let line = text.lines().next().unwrap_or_default();
    if line.len() == text.len() && line.chars().count() <= characters_max {
        return line.to_owned();
    }
    let mut begin: String = line.chars().take(characters_max - 1).collect();
    begin.push('…');
    begin
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::{ToolKind, ToolSource};

    fn description(required: &[&str], arguments: Value) -> String {
        let schema = json!({ "required": required });
        let tool = Tool::new("x", "", schema, ToolKind::Command, ToolSource::BuiltIn);
        let Value::Object(arguments) = arguments else { panic!("no arguments") };
        of_arguments(&tool, &arguments)
    }

    #[test]
    fn the_only_required_argument_describes_a_call() {
        let text =
            |command: &str| description(&["command"], json!({ "command": command, "cwd": "/" }));
        assert_eq!(text("make test"), "make test");
        assert_eq!(text("  for i in 1 2\ndo x; done"), "for i in 1 2…");
        assert_eq!(text(&"x".repeat(500)), format!("{}…", "x".repeat(59)));
        assert_eq!(description(&["command"], json!({})), "");
    }

    #[test]
    fn other_arguments_have_their_names() {
        let arguments = json!({ "b": 1, "a": "x y", "path": "/srv", "o": { "k": 1 }, "l": [1] });
        let text = description(&["path", "a"], arguments);
        assert_eq!(text, "path=/srv a=x y b=1 o={…} l=[…]");
        assert_eq!(description(&[], json!({})), "");
        assert_eq!(description(&[], json!({ "n": null })), "n=null");
    }

    #[test]
    fn a_prompt_describes_its_turn() {
        assert_eq!(of_prompt(" fix the build\n"), "fix the build");
        assert_eq!(of_prompt("fix it\nwith --token abc"), "fix it…");
        assert_eq!(of_prompt("log in with --token abc"), "log in with --token [redacted]");
    }

    #[test]
    fn secrets_are_not_shown() {
        let text = |command: &str| description(&["command"], json!({ "command": command }));
        assert_eq!(text("curl --token abc https://x"), "curl --token [redacted] https://x");
        assert_eq!(text(r#"{"password": "abc"}"#), r#"{"password":"[redacted]"}"#);
        let long = format!(r#"{{"x": "{}", "password": "abc"}}"#, "y".repeat(300));
        assert_eq!(text(&long), "{…}");
        let arguments = json!({ "api_key": "abc", "user": "me" });
        assert_eq!(description(&["api_key", "user"], arguments), "api_key=[redacted] user=me");
        assert_eq!(description(&["password"], json!({ "password": "abc" })), "[redacted]");
    }
}
