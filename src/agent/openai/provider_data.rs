//! Data of a provider that must go back with the message that it came with: reasoning and signatures.

use serde_json::{Map, Value};

use super::lenient;
use crate::agent::ModelConfig;
use crate::model::ProviderData;
use crate::model::limits::PROVIDER_DATA_BYTES_MAX;

/// The fields of a message that go back.
pub(super) const MESSAGE_FIELDS: &[&str] = &[
    // DeepSeek, Kimi, vLLM, llama.cpp, LiteLLM.
    "reasoning_content",
    // OpenRouter, Groq, Ollama, newer vLLM.
    "reasoning",
    "reasoning_details",
    // LiteLLM, for Anthropic.
    "thinking_blocks",
    // Gemini.
    "extra_content",
];

/// The fields of a call that go back.
pub(super) const CALL_FIELDS: &[&str] =
    &["extra_content", "provider_specific_fields", "thought_signature"];

/// Texts that grow with each piece. Any other text is whole in its piece.
const GROWING: [&str; 6] =
    ["reasoning_content", "reasoning", "text", "summary", "thinking", "content"];

/// Fields that have been collected from the pieces of an answer.
#[derive(Debug, Default)]
pub(super) struct Collected {
    fields: Map<String, Value>,
}

impl Collected {
    /// Adds the named fields of a piece, and returns their size in bytes.
    pub(super) fn push(&mut self, piece: &Value, names: &[&str]) -> usize {
        let mut bytes = 0;
        for name in names {
            if let Some(value) =
                lenient::field(piece, name).filter(|value| !lenient::is_nothing(value))
            {
                bytes += size_bytes(value);
                merge_field(&mut self.fields, name, value);
            }
        }
        bytes
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.fields.iter().map(|(name, value)| name.len() + size_bytes(value)).sum()
    }

    /// Returns the data, or `None` if there is none.
    pub(super) fn finish(self, source: &str) -> Option<Box<ProviderData>> {
        if self.fields.is_empty() {
            return None;
        }
        let mut fields = Value::Object(self.fields);
        lenient::make_whole(&mut fields);
        let Value::Object(fields) = fields else { return None };
        Some(Box::new(ProviderData { source: source.to_owned(), fields }))
    }
}

fn merge_field(fields: &mut Map<String, Value>, name: &str, value: &Value) {
    match (fields.get_mut(name), value) {
        (Some(Value::String(known)), Value::String(more)) if GROWING.contains(&name) => {
            known.push_str(more);
        }
        (Some(Value::Object(known)), Value::Object(more)) => {
            more.iter().for_each(|(name, value)| merge_field(known, name, value));
        }
        (Some(Value::Array(known)), Value::Array(more)) => {
            more.iter().for_each(|item| merge_item(known, item));
        }
        (Some(known), _) if !value.is_null() => *known = value.clone(),
        (Some(_), _) => {}
        (None, value) => drop(fields.insert(name.to_owned(), value.clone())),
    }
}

/// Adds an element to a list. A piece of text continues the last element if both are of the same kind
/// and have the same place.
fn merge_item(list: &mut Vec<Value>, item: &Value) {
    let is_text = |value: &Value| {
        ["text", "summary", "thinking", "signature"]
            .iter()
            .any(|name| value.get(name).is_some_and(Value::is_string))
    };
    let has_ended = |value: &Value| lenient::text(value, "signature").is_some();
    match (list.last_mut(), item) {
        (Some(last @ Value::Object(_)), Value::Object(more))
            if is_text(last)
                && is_text(item)
                && !has_ended(last)
                && ["type", "index"].iter().all(|name| last.get(name) == item.get(name)) =>
        {
            if let Value::Object(last) = last {
                more.iter().for_each(|(name, value)| merge_field(last, name, value));
            }
        }
        _ => list.push(item.clone()),
    }
}

/// Selects the data that fits into its bound. Signatures come before reasoning: a call without its
/// own is refused. Returns the size of what was left out, in bytes.
pub(super) fn bound<'c>(
    message: &'c mut Collected,
    calls: impl Iterator<Item = &'c mut Collected>,
) -> usize {
    let (mut room, mut dropped) = (PROVIDER_DATA_BYTES_MAX, 0);
    for collected in calls.chain([message]) {
        let bytes = collected.size_bytes();
        match room.checked_sub(bytes) {
            Some(left) => room = left,
            None => {
                dropped += bytes;
                *collected = Collected::default();
            }
        }
    }
    dropped
}

/// Returns the name of a model at the endpoint with this address, which has no secrets. Data goes back
/// to where it came from, and nowhere else.
pub(super) fn source(config: &ModelConfig, url: &str) -> String {
    format!("{} {} {url}", config.name, config.model.as_ref().unwrap_or(&config.name))
}

fn size_bytes(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(size_bytes).sum(),
        Value::Object(map) => map.iter().map(|(name, value)| name.len() + size_bytes(value)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn collected(pieces: &[Value]) -> Value {
        let mut all = Collected::default();
        for piece in pieces {
            all.push(piece, MESSAGE_FIELDS);
        }
        all.finish("here").map(|data| Value::Object(data.fields)).unwrap_or_default()
    }

    #[test]
    fn pieces_of_a_field_become_one() {
        let detail = |text: &str| json!({ "type": "reasoning.text", "index": 0, "text": text, "signature": null });
        for (pieces, expected) in [
            (
                vec![
                    json!({ "reasoning_content": "a" }),
                    json!({ "reasoning_content": null }),
                    json!({ "reasoning_content": "b" }),
                ],
                json!({ "reasoning_content": "ab" }),
            ),
            (
                vec![
                    json!({ "reasoning_details": [detail("a")] }),
                    json!({ "reasoning_details": [detail("b")] }),
                    json!({ "reasoning_details": [{ "type": "reasoning.text", "index": 0, "text": "", "signature": "s" }] }),
                    json!({ "reasoning_details": [{ "type": "reasoning.encrypted", "index": 1, "data": "x", "id": "r" }] }),
                    json!({ "reasoning_details": [{ "type": "reasoning.encrypted", "index": 1, "data": "y", "id": "q" }] }),
                ],
                json!({ "reasoning_details": [
                { "type": "reasoning.text", "index": 0, "text": "ab", "signature": "s" },
                { "type": "reasoning.encrypted", "index": 1, "data": "x", "id": "r" },
                { "type": "reasoning.encrypted", "index": 1, "data": "y", "id": "q" },
             ] }),
            ),
            (
                vec![
                    json!({ "thinking_blocks": [{ "type": "thinking", "thinking": "a" }] }),
                    json!({ "thinking_blocks": [{ "type": "thinking", "thinking": "b", "signature": "s" }] }),
                    json!({ "thinking_blocks": [{ "type": "thinking", "thinking": "c" }] }),
                ],
                json!({ "thinking_blocks": [
                { "type": "thinking", "thinking": "ab", "signature": "s" },
                { "type": "thinking", "thinking": "c" },
             ] }),
            ),
            (
                vec![
                    json!({ "extra_content": { "google": { "thought_signature": "s" } } }),
                    json!({ "extra_content": { "google": { "thought": true } } }),
                ],
                json!({ "extra_content": { "google": { "thought_signature": "s", "thought": true } } }),
            ),
            (
                vec![json!({ "content": "a", "reasoning": "", "reasoning_details": [] })],
                Value::Null,
            ),
        ] {
            assert_eq!(collected(&pieces), expected);
        }
    }

    #[test]
    fn signatures_are_kept_before_reasoning() {
        let mut message = Collected::default();
        let text = "x".repeat(PROVIDER_DATA_BYTES_MAX);
        message.push(&json!({ "reasoning": text }), MESSAGE_FIELDS);
        let mut call = Collected::default();
        call.push(&json!({ "thought_signature": "s" }), CALL_FIELDS);
        let dropped = bound(&mut message, [&mut call].into_iter());
        assert_eq!(dropped, text.len() + "reasoning".len());
        assert!(message.finish("here").is_none() && call.finish("here").is_some());
    }
}
