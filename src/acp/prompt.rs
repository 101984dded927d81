//! A turn's request as the blocks of an ACP prompt.

use agent_client_protocol::v1::schema::{ContentBlock, ImageContent, TextContent};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::agent::AgentRequest;
use crate::agent::prompts::{self, HistoryLine};
use crate::model::{Content, ContentKind, Message, ResourceBody};

/// The parts of a prompt that an agent needs or can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PromptParts {
    /// The system message and the history.
    pub(super) history: bool,
    /// The instructions for callpark's tools.
    pub(super) tool_instructions: bool,
    pub(super) images: bool,
}

/// Returns the blocks of a request: the system message, the instructions for callpark's tools and the
/// history, as far as they are needed, then the attachments, then the prompt.
pub(super) fn blocks(request: &AgentRequest, parts: PromptParts) -> Vec<ContentBlock> {
    let mut texts: Vec<String> = Vec::new();
    if parts.history && !request.system.trim().is_empty() {
        texts.push(request.system.to_string());
    }
    if parts.tool_instructions && !request.tool_instructions.trim().is_empty() {
        texts.push(request.tool_instructions.clone());
    }
    if parts.history {
        let lines = request.messages.iter().filter_map(|message| history_line(message));
        texts.extend(prompts::history(lines));
    }
    let mut blocks: Vec<ContentBlock> = texts.into_iter().map(text_block).collect();
    let mut left_out = LeftOut::default();
    for attachment in &request.attachments {
        blocks.extend(attachment_block(attachment, parts.images, &mut left_out));
    }
    let mut prompt = request.prompt.clone();
    for note in prompts::attachments_left_out(left_out.images, left_out.files) {
        tracing::warn!(session = %request.session_id, note, "an attachment was not sent");
        prompt.push_str(&format!("\n[{note}]"));
    }
    blocks.push(text_block(prompt));
    blocks
}

fn text_block(text: String) -> ContentBlock {
    ContentBlock::Text(TextContent::new(text))
}

/// Returns a message as a part of the history. Results of tools are left out, since the assistant's
/// messages are based on them.
fn history_line(message: &Message) -> Option<HistoryLine<'_>> {
    let (role, text, images) = match message {
        Message::User { text, attachments, origin: _ } => {
            let is_image = |content: &&Content| matches!(content.kind, ContentKind::Image { .. });
            ("user", text, attachments.iter().filter(is_image).count())
        }
        Message::Assistant { text, .. } => ("assistant", text, 0),
        Message::Tool { .. } => return None,
    };
    Some(HistoryLine { role, text, images })
}

/// The numbers of attachments that an agent can't be sent.
#[derive(Default)]
struct LeftOut {
    images: usize,
    files: usize,
}

fn attachment_block(
    content: &Content,
    accepts_images: bool,
    left_out: &mut LeftOut,
) -> Option<ContentBlock> {
    match &content.kind {
        ContentKind::Text(text) => Some(text_block(text.clone())),
        ContentKind::Json(json) => Some(text_block(json.to_string())),
        ContentKind::Image { media_type, data } if accepts_images => {
            let image = ImageContent::new(STANDARD.encode(data), media_type.clone());
            Some(ContentBlock::Image(image))
        }
        ContentKind::Image { .. } => {
            left_out.images += 1;
            None
        }
        ContentKind::Resource { uri, body: Some(ResourceBody::Text(text)), .. } => {
            Some(text_block(prompts::attachment_text(uri, text)))
        }
        ContentKind::Resource { uri, body: None, .. } => Some(text_block(uri.clone())),
        ContentKind::Binary { .. }
        | ContentKind::Resource { body: Some(ResourceBody::Blob(_)), .. } => {
            left_out.files += 1;
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::model::{Origin, SessionId};

    fn image() -> Content {
        let data = Bytes::from_static(b"png");
        let kind = ContentKind::Image { media_type: "image/png".to_owned(), data };
        Content { kind, stream: None, offset: 0 }
    }

    fn request() -> AgentRequest {
        let user = |text: &str, attachments| Message::User {
            text: text.to_owned(),
            attachments,
            origin: Origin::Person,
        };
        let assistant = |text: &str| Message::Assistant {
            text: text.to_owned(),
            calls: vec![],
            provider_data: None,
            note: None,
            origin: Origin::Model,
        };
        let (id, ok) = ("1".to_owned(), "ok".to_owned());
        let tool = Message::Tool { id, text: ok, pictures: Vec::new(), origin: Origin::Tool };
        let messages =
            [user("Hello", vec![image(), image()]), assistant(""), tool, assistant("Hi")];
        AgentRequest {
            session_id: SessionId::random(),
            system: "Be brief.".into(),
            tool_instructions: "Use the tools.".to_owned(),
            messages: messages.into_iter().map(Arc::new).collect(),
            messages_before: 4,
            messages_after: 6,
            prompt: "Go on".to_owned(),
            attachments: vec![image()],
            tools: Arc::default(),
            working_directory: None,
            allowed_tools: Arc::default(),
        }
    }

    fn texts(blocks: &[ContentBlock]) -> Vec<&str> {
        let texts = blocks.iter().map(|block| match block {
            ContentBlock::Text(text) => text.text.as_str(),
            _ => "an image",
        });
        texts.collect()
    }

    #[test]
    fn the_history_stands_before_the_prompt_if_the_agent_does_not_know_it() {
        let parts = |history, tool_instructions| {
            let images = true;
            blocks(&request(), PromptParts { history, tool_instructions, images })
        };
        let blocks_sent = parts(true, false);
        let lines = request().messages;
        let lines = lines.iter().filter_map(|message| history_line(message));
        let history = prompts::history(lines).expect("a history");
        assert!(history.contains("\n[user]: [+2 image(s)]\n<callpark-data "), "{history}");
        assert_eq!(texts(&blocks_sent), ["Be brief.", &history, "an image", "Go on"]);
        assert_eq!(
            texts(&parts(true, true)),
            ["Be brief.", "Use the tools.", &history, "an image", "Go on"]
        );
        assert_eq!(texts(&parts(false, false)), ["an image", "Go on"]);
        assert_eq!(texts(&parts(false, true)), ["Use the tools.", "an image", "Go on"]);
    }

    #[test]
    fn attachments_that_are_left_out_are_noted() {
        let parts = PromptParts { history: false, tool_instructions: false, images: false };
        let blocks_sent = blocks(&request(), parts);
        assert_eq!(
            texts(&blocks_sent),
            ["Go on\n[1 image(s) were left out: this agent does not accept images]"]
        );
    }
}
