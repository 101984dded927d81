//! The nesting depth of JSON. A value that is nested deeper than a message may be could be written
//! to the log, but never be read from it.

use serde_json::Value;

use crate::agent::prompts::truncate_middle;
use crate::model::limits::{ARGUMENTS_DEPTH_MAX, RESULT_CONTENT_BYTES_MAX, RESULT_DEPTH_MAX};
use crate::model::{Content, ContentKind, ToolResult};
use crate::tool::Arguments;

/// Returns whether the arguments are nested deeper than those of a caller may be.
pub(crate) fn are_too_deep(arguments: &Arguments) -> bool {
    // The arguments themselves are a level.
    arguments.values().any(|value| is_deeper(value, ARGUMENTS_DEPTH_MAX - 1))
}

/// Returns whether the value has more than `levels` levels of objects and lists.
fn is_deeper(value: &Value, levels: usize) -> bool {
    match value {
        Value::Object(members) => {
            levels == 0 || members.values().any(|value| is_deeper(value, levels - 1))
        }
        Value::Array(items) => levels == 0 || items.iter().any(|item| is_deeper(item, levels - 1)),
        _ => false,
    }
}

/// Returns the result with all values that are nested too deep as text, with a note.
pub(super) fn flattened(mut result: ToolResult) -> ToolResult {
    for content in &mut result.content {
        if let ContentKind::Json(value) = &content.kind
            && is_deeper(value, RESULT_DEPTH_MAX)
        {
            content.kind = text("a JSON value", &value.to_string());
        }
    }
    let is_deep = |value: &Value| is_deeper(value, RESULT_DEPTH_MAX - 1);
    let deep = result.structured.take_if(|members| members.values().any(is_deep));
    if let Some(members) = deep {
        let kind = text("the structured result", &Value::Object(*members).to_string());
        result.content.insert(0, Content { kind, stream: None, offset: 0 });
    }
    result
}

fn text(name: &str, json: &str) -> ContentKind {
    let json = truncate_middle(json, RESULT_CONTENT_BYTES_MAX);
    ContentKind::Text(format!(
        "[{name} is nested deeper than {RESULT_DEPTH_MAX} levels; it follows as text]\n{json}"
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;

    /// Returns a value of this many levels of both kinds.
    fn nested(levels: usize) -> Value {
        (0..levels).fold(json!(1), |inner, level| match level % 2 {
            0 => json!([inner]),
            _ => json!({ "a": inner }),
        })
    }

    fn object(levels: usize) -> Map<String, Value> {
        Map::from_iter([("a".to_owned(), nested(levels - 1))])
    }

    #[test]
    fn arguments_are_a_level_themselves() {
        assert!(!are_too_deep(&object(ARGUMENTS_DEPTH_MAX)));
        assert!(are_too_deep(&object(ARGUMENTS_DEPTH_MAX + 1)));
        assert!(!are_too_deep(&Map::new()));
    }

    #[test]
    fn values_that_are_nested_too_deep_become_text() {
        let result = |levels| ToolResult {
            content: vec![Content {
                kind: ContentKind::Json(nested(levels)),
                stream: None,
                offset: 0,
            }],
            structured: Some(Box::new(object(levels))),
            ..ToolResult::default()
        };
        let flat = result(RESULT_DEPTH_MAX);
        assert_eq!(flattened(flat.clone()), flat);
        let deep = flattened(result(RESULT_DEPTH_MAX + 1));
        assert_eq!(deep.structured, None);
        let texts: Vec<&str> = deep
            .content
            .iter()
            .map(|content| match &content.kind {
                ContentKind::Text(text) => text.as_str(),
                other => panic!("{other:?}"),
            })
            .collect();
        let json = Value::Object(object(RESULT_DEPTH_MAX + 1)).to_string();
        let note = "is nested deeper than 30 levels; it follows as text]\n";
        assert_eq!(texts[0], format!("[the structured result {note}{json}"));
        assert_eq!(texts[1], format!("[a JSON value {note}{}", nested(RESULT_DEPTH_MAX + 1)));
    }

    #[test]
    fn a_text_that_is_too_long_is_truncated_with_a_note() {
        let value = (0..=RESULT_DEPTH_MAX)
            .fold(json!("x".repeat(RESULT_CONTENT_BYTES_MAX)), |inner, _| json!([inner]));
        let content = Content { kind: ContentKind::Json(value), stream: None, offset: 0 };
        let result = flattened(ToolResult { content: vec![content], ..ToolResult::default() });
        let ContentKind::Text(text) = &result.content[0].kind else { panic!("{result:?}") };
        assert!(text.len() < RESULT_CONTENT_BYTES_MAX + 200, "{}", text.len());
        assert!(text.contains("bytes are left out here]"), "the note is missing");
    }
}
