//! The messages of a session that a model is sent.

use std::collections::VecDeque;
use std::sync::Arc;

use super::run::turn_error;
use super::size;
use crate::agent::prompts;
use crate::engine::Error;
use crate::model::limits::HISTORY_BYTES_MAX;
use crate::model::{Message, ModelCall, Origin, TurnError};
use crate::store::{MessagePage, StoredMessage};

/// The least weight of a result that is shortened, in bytes.
pub(super) const SHORTENED_WEIGHT_MIN: usize = 1_000;

/// The newest messages of a session, up to the size limit of a request.
#[derive(Debug, Default)]
pub(super) struct History {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// The size in the context of a model, in bytes of text.
    weight: usize,
    /// The place of the prompt of the turn, or `None` before it is added.
    prompt: Option<usize>,
    /// The number of older messages that are left out in front of the first one.
    omitted: u64,
    /// The number of messages that are left out behind the prompt of the turn.
    omitted_in_turn: u64,
}

#[derive(Debug)]
struct Entry {
    bytes: usize,
    weight: usize,
    message: Arc<Message>,
}

impl Entry {
    fn new(message: Message) -> Self {
        let (bytes, weight) = (size::bytes(&message), size::weight(&message));
        Self { bytes, weight, message: Arc::new(message) }
    }
}

/// Reads a stored message.
pub(super) fn parse(stored: &StoredMessage) -> Result<Message, TurnError> {
    let mut message = serde_json::from_str(&stored.body).map_err(|cause| {
        let number = stored.number;
        turn_error(&Error::Internal(format!("cannot parse message {number}: {cause}")))
    })?;
    prompts::fill_in(&mut message);
    Ok(message)
}

impl History {
    /// Reads the stored messages. A call without a result gets one that says so, because endpoints
    /// reject a history with a call that isn't answered.
    pub(super) fn read(page: MessagePage) -> Result<Self, TurnError> {
        let mut history = Self { omitted: page.omitted, ..Self::default() };
        let mut open: Vec<ModelCall> = Vec::new();
        for stored in page.messages {
            let message = parse(&stored)?;
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

    /// Counts messages of the turn that are left out.
    pub(super) fn omit_in_turn(&mut self, messages: u64) {
        self.omitted_in_turn += messages;
    }

    /// Adds the prompt of the turn, which stays in each of its requests.
    pub(super) fn push_prompt(&mut self, message: Message) {
        self.push(message);
        self.prompt = self.entries.len().checked_sub(1);
    }

    /// Adds a message, and removes the oldest ones if the size limit is exceeded.
    pub(super) fn push(&mut self, message: Message) {
        self.entries.push_back(Entry::new(message));
        if let Some(entry) = self.entries.back() {
            self.bytes += entry.bytes;
            self.weight += entry.weight;
        }
        let max = usize::try_from(HISTORY_BYTES_MAX).unwrap_or(usize::MAX);
        while self.bytes > max && self.remove_oldest_round() {}
        // A conversation must not begin with the result of a call.
        while matches!(self.entries.front(), Some(first) if is_tool(&first.message)) {
            self.remove(0);
            self.omitted += 1;
        }
    }

    /// Removes the oldest message with the results of its calls: those before the turn first, then
    /// those behind its prompt. Returns `false` if only the prompt and the last round are left.
    pub(super) fn remove_oldest_round(&mut self) -> bool {
        let first = match self.prompt {
            Some(0) => 1,
            Some(_) | None => 0,
        };
        let end = match self.prompt {
            Some(prompt) if prompt > 0 => prompt,
            Some(_) => self.last_round(),
            None => self.entries.len().saturating_sub(1),
        };
        if first >= end {
            return false;
        }
        let mut removed = 0;
        while removed == 0
            || (removed < end - first
                && self.entries.get(first).is_some_and(|entry| is_tool(&entry.message)))
        {
            self.remove(first);
            removed += 1;
        }
        let omitted = if first == 0 { &mut self.omitted } else { &mut self.omitted_in_turn };
        *omitted += removed as u64;
        true
    }

    fn remove(&mut self, index: usize) {
        if let Some(entry) = self.entries.remove(index) {
            self.bytes -= entry.bytes;
            self.weight -= entry.weight;
            self.prompt =
                self.prompt.map(|prompt| if index < prompt { prompt - 1 } else { prompt });
        }
    }

    /// Returns the place of the first message that is never removed, apart from the prompt: the last
    /// one of the model that asks for calls in this turn, or the prompt if there is none.
    pub(super) fn last_round(&self) -> usize {
        let start = self.prompt.unwrap_or_default();
        let asks = |entry: &Entry| matches!(&*entry.message, Message::Assistant { calls, .. } if !calls.is_empty());
        let last = self.entries.iter().rposition(asks).filter(|last| *last > start);
        last.or(self.prompt).unwrap_or(self.entries.len().saturating_sub(1))
    }

    /// Returns the places of the results of the last round.
    pub(super) fn last_results(&self) -> Vec<usize> {
        let results = self.entries.iter().enumerate().skip(self.last_round());
        results.filter(|(_, entry)| is_tool(&entry.message)).map(|(index, _)| index).collect()
    }

    /// Shortens the result at this place to so much weight, with a note of what is missing. Returns
    /// `false` if there is no result, or none that is longer.
    pub(super) fn shorten_result(&mut self, index: usize, weight_max: usize) -> bool {
        let Some(entry) = self.entries.get_mut(index) else { return false };
        let Message::Tool { id, text, pictures, origin } = &*entry.message else { return false };
        if entry.weight <= weight_max.max(SHORTENED_WEIGHT_MIN) {
            return false;
        }
        let room = weight_max.saturating_sub(size::RESULT_OVERHEAD);
        let text = prompts::shortened_result(text, pictures.len(), room);
        let (id, origin) = (id.clone(), *origin);
        let shortened = Entry::new(Message::Tool { id, text, pictures: Vec::new(), origin });
        self.bytes = self.bytes - entry.bytes + shortened.bytes;
        self.weight = self.weight - entry.weight + shortened.weight;
        *entry = shortened;
        true
    }

    /// Returns the size in the context of a model, in bytes of text.
    pub(super) fn weight(&self) -> usize {
        self.weight
    }

    /// Returns the size of the message at this place in the context of a model, in bytes of text.
    pub(super) fn weight_of(&self, index: usize) -> usize {
        self.entries.get(index).map_or(0, |entry| entry.weight)
    }

    /// Returns the messages, oldest first.
    pub(super) fn messages(&self) -> Vec<Arc<Message>> {
        self.entries.iter().map(|entry| entry.message.clone()).collect()
    }

    /// Returns the messages for a request, with notes in the place of those that are left out.
    pub(super) fn request_messages(&self) -> Vec<Arc<Message>> {
        let mut messages = self.messages();
        let note = |omitted: u64| {
            let (text, attachments) = (prompts::messages_left_out(omitted), Vec::new());
            Arc::new(Message::User { text, attachments, origin: Origin::Callpark })
        };
        if let Some(prompt) = self.prompt.filter(|_| self.omitted_in_turn > 0) {
            messages.insert(prompt + 1, note(self.omitted_in_turn));
        }
        if self.omitted > 0 {
            messages.insert(0, note(self.omitted));
        }
        messages
    }

    /// Returns the number of messages that are left out.
    pub(super) fn omitted(&self) -> u64 {
        self.omitted + self.omitted_in_turn
    }
}

fn is_tool(message: &Message) -> bool {
    matches!(message, Message::Tool { .. })
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
            provider_data: None,
        };
        Message::Assistant {
            text: String::new(),
            calls: ids.iter().map(call).collect(),
            provider_data: None,
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
    fn the_prompt_of_the_turn_and_its_last_round_stay() {
        let mut history = read(0, &[user("1"), asks(&["a"]), answers("a"), user("2")]);
        history.push_prompt(user("3"));
        for id in ["b", "c", "d"] {
            history.push(asks(&[id]));
            history.push(answers(id));
        }
        history.push(user("a note"));
        let mut steps = 0;
        while history.remove_oldest_round() {
            steps += 1;
        }
        assert_eq!(steps, 5, "each round goes at once");
        let kept = shown(&history);
        assert_eq!((kept.len(), &kept[0], &kept[2]), (4, &user("3"), &answers("d")));
        assert_eq!(history.omitted(), 8);
        let texts: Vec<String> = history
            .request_messages()
            .iter()
            .filter_map(|message| match &**message {
                Message::User { text, .. } => Some(text.clone()),
                _ => None,
            })
            .collect();
        let notes = [prompts::messages_left_out(4), prompts::messages_left_out(4)];
        assert_eq!(texts, [&notes[0], "3", &notes[1], "a note"]);
    }

    #[test]
    fn a_result_is_shortened_with_its_images() {
        let image = Image { media_type: "image/png".into(), data: vec![0; 9_000].into() };
        let text = "x".repeat(500);
        let result = |text: &str, pictures| Message::Tool {
            id: "a".into(),
            text: text.into(),
            pictures,
            origin: Origin::Tool,
        };
        let mut history = read(0, &[asks(&["a"]), result(&text, vec![image])]);
        assert_eq!(history.weight(), 103 + 500 + 100 + 6_100);
        assert!(history.shorten_result(1, 500) && !history.shorten_result(0, 500));
        let shortened = prompts::shortened_result(&text, 1, 400);
        assert_eq!(shown(&history)[1], result(&shortened, Vec::new()));
        assert_eq!(history.weight(), 103 + shortened.len() + 100);
        assert!(history.weight() <= 103 + 500 && !history.shorten_result(1, 500));
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
