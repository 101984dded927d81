//! What a model is asked, as the endpoint wants it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::names::{Names, spelled};
use crate::agent::{ModelConfig, ModelRequest};
use crate::model::{Content, ContentKind, Message, ModelCall, ResourceBody};

/// The body of the request.
pub(super) fn body(config: &ModelConfig, request: &ModelRequest, names: &Names) -> Value {
    let mut messages = Vec::with_capacity(request.messages.len() + 1);
    if !request.system.is_empty() {
        messages.push(json!({ "role": "system", "content": request.system }));
    }
    let mut seen = Seen::default();
    for one in &request.messages {
        if !matches!(**one, Message::Tool { .. }) {
            messages.extend(seen.message());
        }
        messages.push(message(one, config.pictures));
        if config.pictures {
            seen.note(one);
        }
    }
    messages.extend(seen.message());
    let mut body = json!({
        "model": config.model.as_ref().unwrap_or(&config.name),
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
    if let Some(tokens) = config.max_output_tokens {
        body["max_completion_tokens"] = tokens.into();
    }
    body
}

/// The pictures in the results of the last calls. The endpoint takes none where results are, so they
/// follow behind all of them.
#[derive(Default)]
struct Seen<'a> {
    calls: &'a [ModelCall],
    /// What they belong to.
    words: Vec<String>,
    parts: Vec<Value>,
}

impl<'a> Seen<'a> {
    fn note(&mut self, message: &'a Message) {
        match message {
            Message::Assistant { calls, .. } => self.calls = calls,
            Message::Tool { id, pictures, .. } if !pictures.is_empty() => {
                let call = self.calls.iter().find(|call| call.id == *id);
                let tool = call.map(|call| spelled(&call.tool)).unwrap_or_default();
                self.words.push(format!("{} of {tool} ({id})", pictures.len()));
                let parts = pictures.iter().map(|one| picture_part(&one.media_type, &one.data));
                self.parts.extend(parts);
            }
            Message::Tool { .. } | Message::User { .. } => {}
        }
    }

    /// The message that shows them, if there are any.
    fn message(&mut self) -> Option<Value> {
        if self.parts.is_empty() {
            return None;
        }
        let words = std::mem::take(&mut self.words).join(", ");
        let text = format!("[the pictures in the results of the calls above, in order: {words}]");
        let parts = std::mem::take(&mut self.parts);
        let parts: Vec<Value> = [text_part(&text)].into_iter().chain(parts).collect();
        Some(json!({ "role": "user", "content": parts }))
    }
}

fn message(message: &Message, takes_pictures: bool) -> Value {
    match message {
        Message::User { text, attachments } if attachments.is_empty() => {
            json!({ "role": "user", "content": text })
        }
        Message::User { text, attachments } => {
            let attached = attachments.iter().map(|content| part(content, takes_pictures));
            let parts: Vec<Value> = [text_part(text)].into_iter().chain(attached).collect();
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
        Message::Tool { id, text, .. } => {
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

fn picture_part(media_type: &str, data: &[u8]) -> Value {
    let url = format!("data:{media_type};base64,{}", STANDARD.encode(data));
    json!({ "type": "image_url", "image_url": { "url": url } })
}

/// An attachment. What the endpoint has no part for, or its model doesn't take, is told of in words.
fn part(content: &Content, takes_pictures: bool) -> Value {
    match &content.kind {
        ContentKind::Text(text) => text_part(text),
        ContentKind::Json(value) => text_part(&value.to_string()),
        ContentKind::Image { media_type, data } if takes_pictures => picture_part(media_type, data),
        ContentKind::Resource { uri, body: Some(ResourceBody::Text(text)), .. } => {
            text_part(&format!("{uri}:\n{text}"))
        }
        ContentKind::Image { media_type, data } | ContentKind::Binary { media_type, data } => {
            text_part(&format!("[an attachment of {} bytes of {media_type}]", data.len()))
        }
        ContentKind::Resource { uri, .. } => text_part(&format!("[an attachment: {uri}]")),
    }
}
