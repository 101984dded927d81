//! The messages of a request, so that the strictest chat endpoint accepts them.
//!
//! The history has what really was, and each endpoint refuses something of that: arguments that are
//! not an object, messages without content, two messages of a role in a row, the id of another
//! endpoint's call. An endpoint that refuses a history refuses every later request of its session,
//! too. So the messages that are sent follow the rules of all of them:
//!
//! - The first message after the system message is the user's. Messages of the user and of the model
//!   alternate; behind the results of calls comes the model's.
//! - Each message has content, or calls.
//! - Each call is answered, in order, before anything else follows, and has an id of its own.
//! - Arguments are an object, and names are as in [`ToolNames`].

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::dialect::Dialect;
use super::names::ToolNames;
use crate::agent::{ModelRequest, prompts};
use crate::model::{
    CallId, Content, ContentKind, Image, Message, ModelCall, ProviderData, ResourceBody,
};

/// The characters of a short id, which is what the strictest endpoint demands.
const SHORT_ID_CHARACTERS: usize = 9;

/// Returns the messages of a request.
///
/// `source` is the model at its endpoint, which data of the provider goes back to.
pub(super) fn messages(
    request: &ModelRequest,
    names: &ToolNames,
    dialect: &Dialect,
    source: &str,
) -> Vec<Value> {
    let mut conversation = Conversation {
        names,
        dialect,
        source,
        turns: Vec::new(),
        open: Vec::new(),
        ids: BTreeSet::new(),
    };
    for message in &request.messages {
        conversation.push(message);
    }
    conversation.answer_open();
    let system = (!request.system.trim().is_empty())
        .then(|| json!({ "role": "system", "content": request.system }));
    system.into_iter().chain(conversation.turns.into_iter().map(Turn::into_json)).collect()
}

/// A message that is sent, to which the next one may still be joined.
enum Turn {
    User(Vec<Part>),
    Assistant { text: String, calls: Vec<Value>, fields: Map<String, Value> },
    Tool { id: String, text: String },
}

/// A part of a user's message.
enum Part {
    Text(String),
    Image(Value),
}

/// A call that has been sent, and its result as far as it is known.
struct OpenCall<'a> {
    call: &'a ModelCall,
    id: String,
    result: Option<(&'a str, &'a [Image])>,
}

struct Conversation<'a> {
    names: &'a ToolNames,
    dialect: &'a Dialect,
    source: &'a str,
    turns: Vec<Turn>,
    /// The calls of the last message, until something other than a result follows.
    open: Vec<OpenCall<'a>>,
    ids: BTreeSet<String>,
}

impl<'a> Conversation<'a> {
    fn push(&mut self, message: &'a Message) {
        match message {
            Message::User { text, attachments, origin: _ } => {
                self.answer_open();
                let attached = attachments.iter().map(|content| part(content, self.dialect));
                self.push_user([Part::Text(text.clone())].into_iter().chain(attached).collect());
            }
            Message::Assistant { text, calls, provider_data, note: _, origin: _ } => {
                self.answer_open();
                // Reasoning goes back with the calls that it led to.
                let data = provider_data.as_deref().filter(|_| !calls.is_empty());
                self.push_assistant(text, calls, self.fields_of(data));
            }
            Message::Tool { id, text, pictures, origin: _ } => {
                let open = self.open.iter_mut();
                // Calls that a model gave the same id are answered in order.
                let call = open.into_iter().find(|o| o.call.id == *id && o.result.is_none());
                if let Some(call) = call {
                    call.result = Some((text, pictures));
                }
            }
        }
    }

    fn push_user(&mut self, mut parts: Vec<Part>) {
        parts.retain(|part| !matches!(part, Part::Text(text) if text.trim().is_empty()));
        if parts.is_empty() {
            parts.push(Part::Text(prompts::EMPTY_MESSAGE.to_owned()));
        }
        match self.turns.last_mut() {
            Some(Turn::User(last)) => last.extend(parts),
            Some(Turn::Tool { .. }) => {
                let text = prompts::RESULTS_WERE_READ.to_owned();
                let (calls, fields) = (Vec::new(), Map::new());
                self.turns.push(Turn::Assistant { text, calls, fields });
                self.turns.push(Turn::User(parts));
            }
            Some(Turn::Assistant { .. }) | None => self.turns.push(Turn::User(parts)),
        }
    }

    fn push_assistant(&mut self, text: &str, calls: &'a [ModelCall], fields: Map<String, Value>) {
        let is_blank = text.trim().is_empty();
        // An answer without content, such as one that a filter removed, says nothing to the model.
        if is_blank && calls.is_empty() {
            return;
        }
        if self.turns.is_empty() {
            let text = prompts::HISTORY_BEGINS_EARLIER.to_owned();
            self.turns.push(Turn::User(vec![Part::Text(text)]));
        }
        let text = if is_blank { "" } else { text };
        let calls: Vec<Value> = calls.iter().map(|call| self.open_call(call)).collect();
        match self.turns.last_mut() {
            Some(Turn::Assistant { text: last, calls: last_calls, fields: last_fields }) => {
                if !last.is_empty() && !text.is_empty() {
                    last.push_str("\n\n");
                }
                last.push_str(text);
                last_calls.extend(calls);
                last_fields.extend(fields);
            }
            _ => self.turns.push(Turn::Assistant { text: text.to_owned(), calls, fields }),
        }
    }

    fn open_call(&mut self, call: &'a ModelCall) -> Value {
        let id = self.unique_id(call);
        self.open.push(OpenCall { call, id: id.clone(), result: None });
        let arguments = sent_arguments(self.names, call);
        let mut fields = self.fields_of(call.provider_data.as_deref());
        let function = json!({ "name": self.names.wire_name(&call.tool), "arguments": arguments });
        fields.insert("id".into(), id.into());
        fields.insert("type".into(), "function".into());
        fields.insert("function".into(), function);
        Value::Object(fields)
    }

    /// Returns the data that came from the endpoint and goes back to it.
    fn fields_of(&self, data: Option<&ProviderData>) -> Map<String, Value> {
        let fields = ProviderData::fields_for(data, self.source);
        let accepted = fields.filter(|(name, _)| self.dialect.accepts(name));
        accepted.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// Returns the id of a call. That of the model stays unless another call of the request has it:
    /// some endpoints keep data in it.
    fn unique_id(&mut self, call: &ModelCall) -> String {
        let keeps = !self.dialect.style.short_ids && !call.id.trim().is_empty();
        if keeps && self.ids.insert(call.id.clone()) {
            return call.id.clone();
        }
        let mut salt = 0;
        loop {
            let id = short_id(call.call_id, salt);
            if self.ids.insert(id.clone()) {
                return id;
            }
            salt += 1;
        }
    }

    /// Adds the results of the calls of the last message. Endpoints accept no images in results, so
    /// they follow in a message of the user.
    fn answer_open(&mut self) {
        let mut sources = Vec::new();
        let mut images = Vec::new();
        for OpenCall { call, id, result } in std::mem::take(&mut self.open) {
            let (text, shown) = result.unwrap_or((prompts::CALL_WITHOUT_RESULT, &[]));
            let text = prompts::or_no_output(text).to_owned();
            let url = |image: &Image| self.dialect.image_url(&image.media_type, &image.data);
            let before = images.len();
            images.extend(shown.iter().filter_map(url).map(image_part));
            if images.len() > before {
                sources.push((images.len() - before, self.names.wire_name(&call.tool), id.clone()));
            }
            self.turns.push(Turn::Tool { id, text });
        }
        if !images.is_empty() {
            let text = Part::Text(prompts::images_of_results(&sources));
            self.push_user([text].into_iter().chain(images).collect());
        }
    }
}

impl Turn {
    fn into_json(self) -> Value {
        match self {
            Self::User(parts) => json!({ "role": "user", "content": content(parts) }),
            Self::Assistant { text, calls, mut fields } => {
                let content = if text.is_empty() { Value::Null } else { text.into() };
                fields.insert("role".into(), "assistant".into());
                fields.insert("content".into(), content);
                if !calls.is_empty() {
                    fields.insert("tool_calls".into(), calls.into());
                }
                Value::Object(fields)
            }
            Self::Tool { id, text } => {
                json!({ "role": "tool", "tool_call_id": id, "content": text })
            }
        }
    }
}

/// Returns the content of a user's message: a text if there is nothing else, which more endpoints
/// accept than a list.
fn content(parts: Vec<Part>) -> Value {
    let is_text = parts.iter().all(|part| matches!(part, Part::Text(_)));
    let mut texts = Vec::new();
    let mut list = Vec::new();
    for part in parts {
        match part {
            Part::Text(text) if is_text => texts.push(text),
            Part::Text(text) => list.push(json!({ "type": "text", "text": text })),
            Part::Image(image) => list.push(image),
        }
    }
    if is_text { texts.join("\n\n").into() } else { list.into() }
}

/// Returns the arguments of a call as a JSON object. The model reads its own words in it, beside the
/// result that says what was wrong with them.
fn sent_arguments(names: &ToolNames, call: &ModelCall) -> String {
    let text = call.arguments.as_str();
    let parsed = serde_json::from_str::<Map<String, Value>>(text);
    match parsed.map(Value::Object) {
        Ok(arguments) => {
            let wrapped = names.wrap_arguments(&call.tool, arguments.clone());
            // Unchanged bytes are found in the endpoint's cache.
            if wrapped == arguments { text.to_owned() } else { wrapped.to_string() }
        }
        Err(_) if matches!(text.trim(), "" | "null") => "{}".to_owned(),
        Err(_) => json!({ "arguments": text }).to_string(),
    }
}

/// Returns an id of nine letters and digits for a call, the same in each request.
fn short_id(call_id: CallId, salt: u32) -> String {
    let alphabet = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let digest = Sha256::digest(format!("{call_id}/{salt}").as_bytes());
    let character = |byte: &u8| char::from(alphabet[usize::from(*byte) % alphabet.len()]);
    digest.iter().take(SHORT_ID_CHARACTERS).map(character).collect()
}

fn image_part(url: String) -> Part {
    Part::Image(json!({ "type": "image_url", "image_url": { "url": url } }))
}

/// Returns an attachment, or a note about it if the endpoint or its model doesn't accept it.
fn part(content: &Content, dialect: &Dialect) -> Part {
    if let ContentKind::Image { media_type, data } = &content.kind
        && let Some(url) = dialect.image_url(media_type, data)
    {
        return image_part(url);
    }
    Part::Text(match &content.kind {
        ContentKind::Text(text) => text.clone(),
        ContentKind::Json(value) => value.to_string(),
        ContentKind::Resource { uri, body: Some(ResourceBody::Text(text)), .. } => {
            prompts::attachment_text(uri, text)
        }
        ContentKind::Image { media_type, data } | ContentKind::Binary { media_type, data } => {
            prompts::attachment_not_shown(media_type, data.len())
        }
        ContentKind::Resource { uri, .. } => prompts::attachment_address(uri),
    })
}
