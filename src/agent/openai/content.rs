//! The content of an answer: a text, or a list of parts.

use serde_json::Value;

use super::lenient;

/// A part of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part<'v> {
    Text(&'v str),
    Reasoning(&'v str),
    /// The words with which the model refuses to answer.
    Refusal(&'v str),
    /// The type of a part that cannot be used.
    Unknown(&'v str),
}

/// Returns the parts of a content, without those that are empty.
pub(super) fn parts(content: &Value) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    for item in lenient::items(content) {
        match item {
            Value::String(text) => parts.push(Part::Text(text)),
            Value::Object(_) => push_object(item, &mut parts),
            _ => parts.push(Part::Unknown("")),
        }
    }
    parts.retain(|part| !matches!(part, Part::Text("") | Part::Reasoning("") | Part::Refusal("")));
    parts
}

fn push_object<'v>(item: &'v Value, parts: &mut Vec<Part<'v>>) {
    match lenient::text(item, "type").unwrap_or("text") {
        "text" | "output_text" => parts.extend(texts(item).into_iter().map(Part::Text)),
        "refusal" => parts.extend(texts(item).into_iter().map(Part::Refusal)),
        kind if kind.contains("thinking") || kind.contains("reasoning") => {
            parts.extend(texts(item).into_iter().map(Part::Reasoning));
        }
        kind => parts.push(Part::Unknown(kind)),
    }
}

/// Returns the reasoning in a part of an answer. Endpoints that give it under several names repeat it.
pub(super) fn reasoning(delta: &Value) -> Vec<&str> {
    let names =
        ["reasoning_content", "reasoning", "thinking", "reasoning_details", "thinking_blocks"];
    let found = names.iter().filter_map(|name| lenient::field(delta, name)).map(texts);
    found.into_iter().find(|texts| !texts.is_empty()).unwrap_or_default()
}

/// Returns the texts in a value that is a text, or that holds them under one of their usual names.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) if text.is_empty() => Vec::new(),
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::Object(_) => {
            let names = ["text", "thinking", "reasoning", "refusal", "content", "summary", "value"];
            names.iter().filter_map(|name| lenient::field(value, name)).flat_map(texts).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn content_is_a_text_or_parts() {
        let thinking =
            json!({ "type": "thinking", "thinking": [{ "type": "text", "text": "hm" }] });
        for (content, expected) in [
            (json!("hi"), vec![Part::Text("hi")]),
            (json!(""), vec![]),
            (json!(null), vec![]),
            (json!(7), vec![Part::Unknown("")]),
            (json!(["a", null, { "text": "b" }]), vec![Part::Text("a"), Part::Text("b")]),
            (
                json!([thinking, { "type": "text", "text": "hi" }]),
                vec![Part::Reasoning("hm"), Part::Text("hi")],
            ),
            (json!({ "type": "output_text", "text": { "value": "hi" } }), vec![Part::Text("hi")]),
            (json!([{ "type": "refusal", "refusal": "no" }]), vec![Part::Refusal("no")]),
            (
                json!([{ "type": "image_url", "image_url": {} }, { "type": "text", "text": null }]),
                vec![Part::Unknown("image_url")],
            ),
            (
                json!([{ "type": "reasoning", "summary": [{ "type": "summary_text", "text": "hm" }] }]),
                vec![Part::Reasoning("hm")],
            ),
        ] {
            assert_eq!(parts(&content), expected, "{content}");
        }
    }

    #[test]
    fn reasoning_that_is_repeated_under_another_name_counts_once() {
        for (delta, expected) in [
            (json!({ "reasoning_content": "hm", "reasoning": "hm" }), vec!["hm"]),
            (json!({ "reasoning_content": null, "reasoning": "hm" }), vec!["hm"]),
            (json!({ "reasoning": { "content": "hm" } }), vec!["hm"]),
            (
                json!({ "reasoning_content": "", "reasoning_details": [{ "type": "reasoning.summary", "summary": "hm" }] }),
                vec!["hm"],
            ),
            (
                json!({ "reasoning_details": [{ "type": "reasoning.encrypted", "data": "x" }] }),
                vec![],
            ),
            (json!({ "content": "hi" }), vec![]),
        ] {
            assert_eq!(reasoning(&delta), expected, "{delta}");
        }
    }
}
