//! The messages of a session that a model is sent.

use std::collections::VecDeque;
use std::sync::Arc;

use super::run::turn_error;
use crate::agent::prompts;
use crate::engine::Error;
use crate::model::limits::HISTORY_BYTES_MAX;
use crate::model::{ContentKind, Message, ModelCall, Origin, ResourceBody, TurnError};
use crate::store::MessagePage;

/// The newest messages of a session, up to the size limit of a request.
#[derive(Debug, Default)]
pub(super) struct History {
    messages: VecDeque<(usize, Arc<Message>)>,
    bytes: usize,
    omitted: u64,
}

impl History {
    /// Reads the stored messages. A call without a result gets one that says so, because endpoints
    /// reject a history with a call that isn't answered.
    pub(super) fn read(page: MessagePage) -> Result<Self, TurnError> {
        let mut history = Self { omitted: page.omitted, ..Self::default() };
        let mut open: Vec<ModelCall> = Vec::new();
        for stored in page.messages {
            let mut message = serde_json::from_str(&stored.body).map_err(|cause| {
                let number = stored.number;
                turn_error(&Error::Internal(format!("cannot parse message {number}: {cause}")))
            })?;
            prompts::fill_in(&mut message);
            match &message {
                Message::Tool { id, .. } => match open.iter().position(|call| call.id == *id) {
                    Some(index) => drop(open.remove(index)),
                    // The message that asks for the call was left out.
                    None => {
                        history.omitted += 1;
                        continue;
                    }
                },
                Message::Assistant { calls, .. } => {
                    history.answer_open(&mut open);
                    open.clone_from(calls);
                }
                Message::User { .. } => history.answer_open(&mut open),
            }
            history.push(message);
        }
        history.answer_open(&mut open);
        Ok(history)
    }

    fn answer_open(&mut self, open: &mut Vec<ModelCall>) {
        for call in open.drain(..) {
            let (id, text) = (call.id, prompts::CALL_WITHOUT_RESULT.into());
            let origin = Origin::Callpark;
            self.push(Message::Tool { id, text, pictures: Vec::new(), origin });
        }
    }

    /// Adds a message, and removes the oldest ones if the size limit is exceeded.
    pub(super) fn push(&mut self, message: Message) {
        let bytes = size_bytes(&message);
        self.bytes += bytes;
        self.messages.push_back((bytes, Arc::new(message)));
        let max = usize::try_from(HISTORY_BYTES_MAX).unwrap_or(usize::MAX);
        while self.bytes > max && self.messages.len() > 1 {
            self.remove_oldest();
        }
        // A conversation must not begin with the result of a call.
        while matches!(self.messages.front(), Some((_, first)) if is_tool(first)) {
            self.remove_oldest();
        }
    }

    fn remove_oldest(&mut self) {
        if let Some((bytes, _)) = self.messages.pop_front() {
            self.bytes -= bytes;
            self.omitted += 1;
        }
    }

    /// Returns the messages, oldest first.
    pub(super) fn messages(&self) -> Vec<Arc<Message>> {
        self.messages.iter().map(|(_, message)| message.clone()).collect()
    }

    /// Returns the number of older messages that are left out.
    pub(super) fn omitted(&self) -> u64 {
        self.omitted
    }
}

fn is_tool(message: &Message) -> bool {
    matches!(message, Message::Tool { .. })
}

/// Returns the approximate size of a message in a request.
fn size_bytes(message: &Message) -> usize {
    match message {
        Message::User { text, attachments, origin: _ } => {
            let attached = attachments.iter().map(|content| match &content.kind {
                ContentKind::Image { data, .. } => base64_bytes(data),
                ContentKind::Text(text) => text.len(),
                ContentKind::Resource { body: Some(ResourceBody::Text(text)), .. } => text.len(),
                _ => 100,
            });
            text.len() + attached.sum::<usize>()
        }
        Message::Assistant { text, calls, .. } => {
            let calls = calls.iter().map(|call| call.tool.len() + call.arguments.len() + 100);
            text.len() + calls.sum::<usize>()
        }
        Message::Tool { text, pictures: images, .. } => {
            let images = images.iter().map(|image| base64_bytes(&image.data) + 100);
            text.len() + 100 + images.sum::<usize>()
        }
    }
}

/// Returns the size of bytes that are encoded as Base64.
fn base64_bytes(data: &[u8]) -> usize {
    data.len().div_ceil(3) * 4
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CallId, Image};
    use crate::store::StoredMessage;

    fn user(text: &str) -> Message {
        Message::User { text: text.into(), attachments: Vec::new(), origin: Origin::Person }
    }

    fn asks(ids: &[&str]) -> Message {
        let call = |id: &&str| ModelCall {
            id: (*id).to_owned(),
            tool: "t".into(),
            arguments: "{}".into(),
            call_id: CallId::random(),
        };
        Message::Assistant {
            text: String::new(),
            calls: ids.iter().map(call).collect(),
            note: None,
            origin: Origin::Model,
        }
    }

    fn answers(id: &str) -> Message {
        Message::Tool {
            id: id.into(),
            text: "done".into(),
            pictures: Vec::new(),
            origin: Origin::Tool,
        }
    }

    fn read(omitted: u64, messages: &[Message]) -> History {
        let stored = |(number, message): (u64, &Message)| StoredMessage {
            number,
            body: serde_json::to_string(message).expect("becomes JSON"),
        };
        let messages = (omitted + 1..).zip(messages).map(stored).collect();
        History::read(MessagePage { messages, omitted }).expect("can be read")
    }

    fn shown(history: &History) -> Vec<Message> {
        history.messages().iter().map(|message| (**message).clone()).collect()
    }

    #[test]
    fn a_call_without_a_result_gets_one_that_says_so() {
        let two = asks(&["a", "b"]);
        let history = read(0, &[user("1"), two.clone(), answers("b"), user("2")]);
        let (id, text) = ("a".into(), prompts::CALL_WITHOUT_RESULT.into());
        let unanswered = Message::Tool { id, text, pictures: Vec::new(), origin: Origin::Callpark };
        assert_eq!(shown(&history), [user("1"), two, answers("b"), unanswered, user("2")]);
        assert_eq!(history.omitted(), 0);
    }

    #[test]
    fn a_result_whose_call_was_removed_is_left_out_and_counted() {
        let history = read(7, &[answers("gone"), user("2")]);
        assert_eq!(shown(&history), [user("2")]);
        assert_eq!(history.omitted(), 8);
    }

    #[test]
    fn the_oldest_messages_are_removed_when_the_limit_is_exceeded() {
        let half = "x".repeat(usize::try_from(HISTORY_BYTES_MAX).expect("fits") / 2);
        let mut history = read(0, &[user(&half), asks(&["a"]), answers("a")]);
        history.push(user(&half));
        assert_eq!(shown(&history), [asks_like(&history), answers("a"), user(&half)]);
        history.push(user(&half));
        assert_eq!(shown(&history), [user(&half), user(&half)]);
        assert_eq!(history.omitted(), 3);
    }

    #[test]
    fn images_count_towards_the_size() {
        let data = vec![0; usize::try_from(HISTORY_BYTES_MAX).expect("fits") / 4 * 3];
        let image = Image { media_type: "image/png".into(), data: data.into() };
        let shows = Message::Tool {
            id: "a".into(),
            text: "p".into(),
            pictures: vec![image],
            origin: Origin::Tool,
        };
        let mut history = read(0, &[asks(&["a"]), shows]);
        assert_eq!(history.omitted(), 2, "neither the call nor its result fits");
        history.push(user("2"));
        assert_eq!(shown(&history), [user("2")]);
    }

    #[test]
    fn a_stored_result_without_images_can_be_read() {
        let body = r#"{"tool":{"id":"a","text":"done"}}"#.to_owned();
        let message: Message = serde_json::from_str(&body).expect("can be read");
        assert_eq!(message, answers("a"));
        assert_eq!(serde_json::to_string(&message).expect("becomes JSON"), body);
    }

    /// Returns the first message, whose call has a random id.
    fn asks_like(history: &History) -> Message {
        let first = shown(history).remove(0);
        assert!(matches!(first, Message::Assistant { .. }), "{first:?}");
        first
    }
}
