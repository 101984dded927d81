//! What a model is asked, as the endpoint wants it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::names::{Names, spelled};
use crate::agent::ModelRequest;
use crate::model::{Content, ContentKind, Message, ModelCall, ResourceBody};

/// The body of the request.
pub(super) fn body(
    model: &str,
    max_output_tokens: Option<u32>,
    request: &ModelRequest,
    names: &Names,
) -> Value {
    let system = (!request.system.is_empty())
        .then(|| json!({ "role": "system", "content": request.system }));
    let messages: Vec<Value> =
        system.into_iter().chain(request.messages.iter().map(|one| message(one))).collect();
    let mut body = json!({
        "model": model,
        "messages": messages,
        "stream": true,
        "stream_options": { "include_usage": true },
    });
    let tools: Vec<Value> = names
        .shown(&request.tools)
        .map(|(name, tool)| {
            json!({
                "type": "function",
                "function": {
                    "name": name,
                    "description": tool.description,
                    "parameters": tool.input_schema,
                },
            })
        })
        .collect();
    if !tools.is_empty() {
        body["tools"] = tools.into();
    }
    if let Some(tokens) = max_output_tokens {
        body["max_completion_tokens"] = tokens.into();
    }
    body
}

fn message(message: &Message) -> Value {
    match message {
        Message::User { text, attachments } if attachments.is_empty() => {
            json!({ "role": "user", "content": text })
        }
        Message::User { text, attachments } => {
            let parts: Vec<Value> =
                [text_part(text)].into_iter().chain(attachments.iter().map(part)).collect();
            json!({ "role": "user", "content": parts })
        }
        Message::Assistant { text, calls, note: _ } if calls.is_empty() => {
            json!({ "role": "assistant", "content": text })
        }
        Message::Assistant { text, calls, note: _ } => {
            let content = if text.is_empty() { Value::Null } else { text.as_str().into() };
            let calls: Vec<Value> = calls.iter().map(call).collect();
            json!({ "role": "assistant", "content": content, "tool_calls": calls })
        }
        Message::Tool { id, text } => {
            json!({ "role": "tool", "tool_call_id": id, "content": text })
        }
    }
}

fn call(call: &ModelCall) -> Value {
    json!({
        "id": call.id,
        "type": "function",
        "function": { "name": spelled(&call.tool), "arguments": call.arguments },
    })
}

fn text_part(text: &str) -> Value {
    json!({ "type": "text", "text": text })
}

/// An attachment. What the endpoint has no part for is told of in words.
fn part(content: &Content) -> Value {
    match &content.kind {
        ContentKind::Text(text) => text_part(text),
        ContentKind::Json(value) => text_part(&value.to_string()),
        ContentKind::Image { media_type, data } => {
            let url = format!("data:{media_type};base64,{}", STANDARD.encode(data));
            json!({ "type": "image_url", "image_url": { "url": url } })
        }
        ContentKind::Resource { uri, body: Some(ResourceBody::Text(text)), .. } => {
            text_part(&format!("{uri}:\n{text}"))
        }
        ContentKind::Binary { media_type, data } => {
            text_part(&format!("[an attachment of {} bytes of {media_type}]", data.len()))
        }
        ContentKind::Resource { uri, .. } => text_part(&format!("[an attachment: {uri}]")),
    }
}
