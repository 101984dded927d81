//! What an agent is asked, as the blocks of a prompt.

use agent_client_protocol::v1::schema::{ContentBlock, ImageContent, TextContent};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::agent::AgentRequest;
use crate::model::{Content, ContentKind, Message, ResourceBody};

/// What a request is to an agent: with what was said before if it doesn't know it, then what comes
/// with the prompt, then the prompt.
pub(super) fn blocks(
    request: &AgentRequest,
    is_retold: bool,
    takes_images: bool,
) -> Vec<ContentBlock> {
    let mut texts: Vec<String> = Vec::new();
    if is_retold {
        if !request.system.trim().is_empty() {
            texts.push(request.system.to_string());
        }
        let lines: Vec<String> = request.messages.iter().filter_map(|said| line(said)).collect();
        if !lines.is_empty() {
            texts.push(lines.join("\n"));
        }
    }
    let mut blocks: Vec<ContentBlock> = texts.into_iter().map(text).collect();
    let mut left_out = LeftOut::default();
    for attachment in &request.attachments {
        blocks.extend(block(attachment, takes_images, &mut left_out));
    }
    let mut prompt = request.prompt.clone();
    for note in left_out.notes() {
        tracing::warn!(session = %request.session_id, note, "an attachment was not sent");
        prompt.push_str(&format!("\n[{note}]"));
    }
    blocks.push(text(prompt));
    blocks
}

fn text(text: String) -> ContentBlock {
    ContentBlock::Text(TextContent::new(text))
}

/// A message as a line of the history; none: there is nothing to tell. What tools gave is in what
/// was said about it.
fn line(message: &Message) -> Option<String> {
    let (role, text, images) = match message {
        Message::User { text, attachments } => {
            let is_image = |content: &&Content| matches!(content.kind, ContentKind::Image { .. });
            ("user", text, attachments.iter().filter(is_image).count())
        }
        Message::Assistant { text, .. } => ("assistant", text, 0),
        Message::Tool { .. } => return None,
    };
    match (text.trim().is_empty(), images) {
        (true, 0) => None,
        (true, images) => Some(format!("[{role}]: [+{images} image(s)]")),
        (false, 0) => Some(format!("[{role}]: {text}")),
        (false, images) => Some(format!("[{role}]: {text} [+{images} image(s)]")),
    }
}

/// What an agent can't be given.
#[derive(Default)]
struct LeftOut {
    images: usize,
    files: usize,
}

impl LeftOut {
    fn notes(&self) -> impl Iterator<Item = String> {
        let images = (self.images > 0)
            .then(|| format!("{} image(s) were left out: this agent takes none", self.images));
        let files = (self.files > 0)
            .then(|| format!("{} attachment(s) were left out: they are no text", self.files));
        images.into_iter().chain(files)
    }
}

fn block(content: &Content, takes_images: bool, left_out: &mut LeftOut) -> Option<ContentBlock> {
    match &content.kind {
        ContentKind::Text(said) => Some(text(said.clone())),
        ContentKind::Json(json) => Some(text(json.to_string())),
        ContentKind::Image { media_type, data } if takes_images => {
            let image = ImageContent::new(STANDARD.encode(data), media_type.clone());
            Some(ContentBlock::Image(image))
        }
        ContentKind::Image { .. } => {
            left_out.images += 1;
            None
        }
        ContentKind::Resource { uri, body: Some(ResourceBody::Text(body)), .. } => {
            Some(text(format!("{uri}:\n{body}")))
        }
        ContentKind::Resource { uri, body: None, .. } => Some(text(uri.clone())),
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
    use crate::model::SessionId;

    fn image() -> Content {
        let data = Bytes::from_static(b"png");
        let kind = ContentKind::Image { media_type: "image/png".to_owned(), data };
        Content { kind, stream: None, offset: 0 }
    }

    fn request() -> AgentRequest {
        let user = |text: &str, attachments| Message::User { text: text.to_owned(), attachments };
        let assistant =
            |text: &str| Message::Assistant { text: text.to_owned(), calls: vec![], note: None };
        let (id, ok) = ("1".to_owned(), "ok".to_owned());
        let tool = Message::Tool { id, text: ok, pictures: Vec::new() };
        let said = [user("Hello", vec![image(), image()]), assistant(""), tool, assistant("Hi")];
        AgentRequest {
            session_id: SessionId::random(),
            system: "Be brief.".into(),
            messages: said.into_iter().map(Arc::new).collect(),
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
    fn the_history_is_told_before_the_prompt_to_who_does_not_know_it() {
        let told = blocks(&request(), true, true);
        let history = "[user]: Hello [+2 image(s)]\n[assistant]: Hi";
        assert_eq!(texts(&told), ["Be brief.", history, "an image", "Go on"]);
        assert_eq!(texts(&blocks(&request(), false, true)), ["an image", "Go on"]);
    }

    #[test]
    fn what_cannot_be_given_is_told_of() {
        let told = blocks(&request(), false, false);
        assert_eq!(texts(&told), ["Go on\n[1 image(s) were left out: this agent takes none]"]);
    }
}
