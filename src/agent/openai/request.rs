//! Requests as chat endpoints accept them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::names::{ToolNames, wire_name};
use crate::agent::{ModelConfig, ModelRequest, prompts};
use crate::model::{Content, ContentKind, Message, ModelCall, ResourceBody};

/// Returns the body of a request.
pub(super) fn body(config: &ModelConfig, request: &ModelRequest, names: &ToolNames) -> Value {
    let mut messages = Vec::with_capacity(request.messages.len() + 1);
    if !request.system.is_empty() {
        messages.push(json!({ "role": "system", "content": request.system }));
    }
    let mut images = ResultImages::default();
    for message in &request.messages {
        if !matches!(**message, Message::Tool { .. }) {
            messages.extend(images.take_message());
        }
        messages.push(message_json(message, config.pictures));
        if config.pictures {
            images.collect(message);
        }
    }
    messages.extend(images.take_message());
    let mut body = json!({
        "model": config.model.as_ref().unwrap_or(&config.name),
        "messages": messages,
        "stream": true,
        "stream_options": { "include_usage": true },
    });
    let tools: Vec<Value> = names
        .offered(&request.tools)
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

/// The images in the results of the last calls. The endpoint accepts no images in results, so they
/// follow in a message of the user behind all results of a round.
#[derive(Default)]
struct ResultImages<'a> {
    calls: &'a [ModelCall],
    /// The number of images, the tool and the id of the call, for each result with images.
    sources: Vec<(usize, String, String)>,
    parts: Vec<Value>,
}

impl<'a> ResultImages<'a> {
    fn collect(&mut self, message: &'a Message) {
        match message {
            Message::Assistant { calls, .. } => self.calls = calls,
            Message::Tool { id, pictures: images, .. } if !images.is_empty() => {
                let call = self.calls.iter().find(|call| call.id == *id);
                let tool = call.map(|call| wire_name(&call.tool)).unwrap_or_default();
                self.sources.push((images.len(), tool, id.clone()));
                let parts = images.iter().map(|image| image_part(&image.media_type, &image.data));
                self.parts.extend(parts);
            }
            Message::Tool { .. } | Message::User { .. } => {}
        }
    }

    /// Takes the message that shows the images, or `None` if there are none.
    fn take_message(&mut self) -> Option<Value> {
        if self.parts.is_empty() {
            return None;
        }
        let text = prompts::images_of_results(&std::mem::take(&mut self.sources));
        let parts = std::mem::take(&mut self.parts);
        let parts: Vec<Value> = [text_part(&text)].into_iter().chain(parts).collect();
        Some(json!({ "role": "user", "content": parts }))
    }
}

fn message_json(message: &Message, accepts_images: bool) -> Value {
    match message {
        Message::User { text, attachments, origin: _ } if attachments.is_empty() => {
            json!({ "role": "user", "content": text })
        }
        Message::User { text, attachments, origin: _ } => {
            let attached = attachments.iter().map(|content| part(content, accepts_images));
            let parts: Vec<Value> = [text_part(text)].into_iter().chain(attached).collect();
            json!({ "role": "user", "content": parts })
        }
        Message::Assistant { text, calls, .. } if calls.is_empty() => {
            json!({ "role": "assistant", "content": text })
        }
        Message::Assistant { text, calls, .. } => {
            let content = if text.is_empty() { Value::Null } else { text.as_str().into() };
            let calls: Vec<Value> = calls.iter().map(call_json).collect();
            json!({ "role": "assistant", "content": content, "tool_calls": calls })
        }
        Message::Tool { id, text, .. } => {
            json!({ "role": "tool", "tool_call_id": id, "content": text })
        }
    }
}

fn call_json(call: &ModelCall) -> Value {
    json!({
        "id": call.id,
        "type": "function",
        "function": { "name": wire_name(&call.tool), "arguments": call.arguments },
    })
}

fn text_part(text: &str) -> Value {
    json!({ "type": "text", "text": text })
}

fn image_part(media_type: &str, data: &[u8]) -> Value {
    let url = format!("data:{media_type};base64,{}", STANDARD.encode(data));
    json!({ "type": "image_url", "image_url": { "url": url } })
}

/// Returns an attachment, or a note about it if the endpoint or its model doesn't accept its kind.
fn part(content: &Content, accepts_images: bool) -> Value {
    let text = match &content.kind {
        ContentKind::Image { media_type, data } if accepts_images => {
            return image_part(media_type, data);
        }
        ContentKind::Text(text) => text.clone(),
        ContentKind::Json(value) => value.to_string(),
        ContentKind::Resource { uri, body: Some(ResourceBody::Text(text)), .. } => {
            prompts::attachment_text(uri, text)
        }
        ContentKind::Image { media_type, data } | ContentKind::Binary { media_type, data } => {
            prompts::attachment_not_shown(media_type, data.len())
        }
        ContentKind::Resource { uri, .. } => prompts::attachment_address(uri),
    };
    text_part(&text)
}
