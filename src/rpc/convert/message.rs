//! Conversions of the messages in the history of a session.

use callpark_proto::v1;

use super::tool::{content, signed};
use crate::agent::prompts;
use crate::model::limits::PAGE_BYTES_MAX;
use crate::model::{Content, ContentKind, Image, Message, ModelCall, Origin};

/// Converts a message and its number.
pub(crate) fn message((number, mut message): (u64, Message)) -> v1::Message {
    prompts::fill_in(&mut message);
    let mut converted = v1::Message { number: signed(number), ..v1::Message::default() };
    let parts = match message {
        Message::User { text, attachments, origin } => {
            converted.set_role(v1::MessageRole::User);
            let attached = attachments.into_iter().map(|part| content(part, Origin::Person));
            [part(ContentKind::Text(text), origin)].into_iter().chain(attached).collect()
        }
        Message::Assistant { text, calls, provider_data: _, note: _, origin } => {
            converted.set_role(v1::MessageRole::Assistant);
            converted.tool_calls = calls.into_iter().map(tool_call).collect();
            match text.is_empty() {
                true => Vec::new(),
                false => vec![part(ContentKind::Text(text), origin)],
            }
        }
        Message::Tool { id, text, pictures: images, origin } => {
            converted.set_role(v1::MessageRole::Tool);
            converted.model_call_id = id;
            let shown = images.into_iter().map(|Image { media_type, data }| {
                part(ContentKind::Image { media_type, data }, Origin::Tool)
            });
            [part(ContentKind::Text(text), origin)].into_iter().chain(shown).collect()
        }
    };
    (converted.content, converted.omitted_bytes) = fitting(parts);
    converted
}

fn part(kind: ContentKind, origin: Origin) -> v1::Content {
    content(Content { kind, stream: None, offset: 0 }, origin)
}

fn tool_call(call: ModelCall) -> v1::MessageToolCall {
    let ModelCall { id, tool, arguments, call_id, provider_data: _ } = call;
    v1::MessageToolCall { call_id: call_id.to_string(), model_call_id: id, tool, arguments }
}

/// Returns the parts that fit into a page, and the size of the others in bytes.
fn fitting(parts: Vec<v1::Content>) -> (Vec<v1::Content>, i64) {
    use prost::Message as _;
    let (mut kept, mut bytes, mut omitted) = (Vec::with_capacity(parts.len()), 0, 0);
    for part in parts {
        let size = part.encoded_len();
        if bytes + size > PAGE_BYTES_MAX {
            omitted += size as u64;
        } else {
            bytes += size;
            kept.push(part);
        }
    }
    (kept, signed(omitted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_in_place_of_a_silent_model_is_by_callpark() {
        let said = |text: &str, origin| {
            let (text, calls, note) = (text.to_owned(), Vec::new(), None);
            let said = Message::Assistant { text, calls, provider_data: None, note, origin };
            message((7, said)).content
        };
        let shown = said("", Origin::Callpark);
        let [content] = shown.as_slice() else { panic!("{shown:?}") };
        assert_eq!(content.origin(), v1::Origin::Callpark);
        let expected = v1::content::Kind::Text(prompts::FOLLOW_UPS_SEEN.into());
        assert_eq!(content.kind, Some(expected));
        assert_eq!(said("", Origin::Model), [], "a model may say nothing");
        assert_eq!(said("yes", Origin::Model)[0].origin(), v1::Origin::Model);
    }
}
