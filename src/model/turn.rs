//! An agent's turn: a prompt, rounds with a model, and an end.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    CallId, Content, ContentKind, FollowUp, FollowUpNote, InjectedTask, Origin, ResourceBody,
    TurnLoss, TurnSetup, Usage, enum_table,
};

/// The size of what surrounds the text of a result in a request, in bytes.
pub const RESULT_OVERHEAD_BYTES: usize = 100;

enum_table! {
    /// The fate of a prompt for a session that already runs a turn.
    #[derive(Default)]
    pub enum BusyPolicy {
        /// The prompt is refused.
        #[default]
        Reject => "reject",
        /// The turn begins after the earlier ones.
        Enqueue => "enqueue",
        /// The earlier turns are stopped, and the turn begins after them.
        Interrupt => "interrupt",
    }
}

enum_table! {
    /// The reason why a turn ended without an error.
    pub enum StopReason {
        /// The model finished its answer.
        EndTurn => "end_turn",
        /// The turn reached its limit of rounds.
        MaxRounds => "max_rounds",
        /// The model's answer reached its limit of tokens.
        MaxTokens => "max_tokens",
        /// The model refused to answer.
        Refusal => "refusal",
        /// The turn was cancelled.
        Cancelled => "cancelled",
        /// The session has used up its budget.
        BudgetUsedUp => "budget_used_up",
    }
}

/// The error of a turn that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnError {
    /// The stable name of the error.
    pub code: String,
    /// A message for people that says what went wrong and what to do.
    pub message: String,
    /// `true` if the same prompt may succeed when it is sent again.
    pub retryable: bool,
}

/// The part of a call's record that only turns have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    /// The name of the model.
    pub model: String,
    /// The end that the turn reported, or `None` if it runs or was ended by the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<TurnEnd>,
    /// `true` if the turn was started to deliver follow-ups. Then only its last message goes into
    /// the history.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub delivers: bool,
    /// The follow-ups that the turn delivers, as it claimed them. Nothing else changes them before
    /// it has ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub follow_ups: Vec<FollowUp>,
    /// The settings with which a later server goes on with the turn, or `None` if none can: then
    /// `loss` says why, unless the record is older than these settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setup: Option<Box<TurnSetup>>,
    /// The reason why no later server can go on with the turn, if it is known already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<TurnLoss>,
    /// The number of messages that the turn has recorded, from its prompt on.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub messages: u64,
    /// The number of those that are of the model.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rounds: u32,
    /// The messages of a turn that delivers follow-ups. Those of other turns are in the history.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transcript: Vec<Message>,
    /// The tasks that were announced to the model between two rounds, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub injected: Vec<InjectedTask>,
    /// The number of times that a later server has taken up the turn.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub resumptions: u32,
    /// The number of those since the last message that was recorded.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub resumptions_without_progress: u32,
}

impl Turn {
    /// Creates a turn that has not begun.
    pub fn new(model: impl Into<String>, delivers: bool, setup: Option<Box<TurnSetup>>) -> Self {
        Self {
            model: model.into(),
            end: None,
            delivers,
            follow_ups: Vec::new(),
            setup,
            loss: None,
            messages: 0,
            rounds: 0,
            transcript: Vec::new(),
            injected: Vec::new(),
            resumptions: 0,
            resumptions_without_progress: 0,
        }
    }
}

fn is_zero<T: Default + PartialEq>(count: &T) -> bool {
    *count == T::default()
}

/// The end of a turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnEnd {
    /// The reason, or the error of a turn that failed.
    pub stop: Result<StopReason, TurnError>,
    /// The number of messages of the history that the last request left out.
    #[serde(default)]
    pub history_omitted: u64,
    /// A note about a turn that was started to deliver follow-ups, or `None` for other turns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<Box<FollowUpNote>>,
}

/// Data of a provider that goes back to it with the message or the call that it came with, such as
/// reasoning and signatures. callpark doesn't interpret it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderData {
    /// The model and the endpoint that it came from. It goes nowhere else.
    pub source: String,
    /// The fields, as the endpoint named them.
    pub fields: serde_json::Map<String, serde_json::Value>,
}

impl ProviderData {
    /// Returns the fields that go back to `source`.
    pub fn fields_for<'d>(
        data: Option<&'d Self>,
        source: &str,
    ) -> impl Iterator<Item = (&'d String, &'d serde_json::Value)> {
        data.filter(|data| data.source == source).into_iter().flat_map(|data| &data.fields)
    }

    /// Returns the approximate size in a request, in bytes.
    pub fn size_bytes(data: Option<&Self>) -> usize {
        data.into_iter()
            .flat_map(|data| &data.fields)
            .map(|(name, value)| name.len() + size(value))
            .sum()
    }
}

/// Returns the approximate size of a value as JSON.
fn size(value: &serde_json::Value) -> usize {
    use serde_json::Value;
    match value {
        Value::String(text) => text.len() + 2,
        Value::Array(items) => items.iter().map(|item| size(item) + 1).sum::<usize>() + 2,
        Value::Object(map) => {
            map.iter().map(|(name, value)| name.len() + size(value) + 4).sum::<usize>() + 2
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
    }
}

/// A call of a tool that a model asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelCall {
    /// The model's id for the call.
    pub id: String,
    /// The name of the tool.
    pub tool: String,
    /// The arguments as the model wrote them, which may be invalid JSON.
    pub arguments: String,
    /// The id of the call here.
    pub call_id: CallId,
    /// Data that goes back with the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_data: Option<Box<ProviderData>>,
}

/// An image in the result of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The media type, such as `image/png`.
    pub media_type: String,
    /// The bytes.
    #[serde(with = "super::base64")]
    pub data: Bytes,
}

/// A message that a model finished, as its event has it.
#[derive(Debug, Clone, PartialEq)]
pub struct AssistantMessage {
    /// The text, truncated to the limit of an event.
    pub text: String,
    /// The calls that it asks for.
    pub call_ids: Vec<CallId>,
    /// The calls among them that the token limit of the answer has cut.
    pub incomplete_call_ids: Vec<CallId>,
    /// The size of the rest of the text, in bytes.
    pub omitted_bytes: usize,
}

/// One message of a session's history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// A prompt, or a note by callpark.
    User {
        /// The text.
        text: String,
        /// The attachments.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        attachments: Vec<Content>,
        /// The author.
        #[serde(default = "Origin::person", skip_serializing_if = "Origin::is_person")]
        origin: Origin,
    },
    /// A message of the model.
    Assistant {
        /// The text.
        text: String,
        /// The calls that it asks for.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        calls: Vec<ModelCall>,
        /// Data that goes back with the message.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        provider_data: Option<Box<ProviderData>>,
        /// A note about the follow-ups that led to the message, or `None` if a caller's prompt did.
        /// People read it in the store; the history is read back without it.
        #[serde(default, skip_serializing_if = "Option::is_none", skip_deserializing)]
        note: Option<Box<FollowUpNote>>,
        /// The author: the model, or callpark in place of a model that said nothing about follow-ups.
        /// Then the text is empty, and readers show one of callpark's.
        #[serde(default = "Origin::model", skip_serializing_if = "Origin::is_model")]
        origin: Origin,
    },
    /// The result of a call.
    Tool {
        /// The model's id for the call.
        id: String,
        /// The text for the model, which names the images, too.
        text: String,
        /// The images that are sent to the model with it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pictures: Vec<Image>,
        /// The author of the text.
        #[serde(default = "Origin::tool", skip_serializing_if = "Origin::is_tool")]
        origin: Origin,
    },
}

impl Message {
    /// Returns the approximate size in a request, in bytes, with images of this size.
    pub fn size_bytes(&self, image_size: impl Fn(&[u8]) -> usize) -> usize {
        match self {
            Self::User { text, attachments, origin: _ } => {
                let attached = attachments.iter().map(|content| match &content.kind {
                    ContentKind::Image { data, .. } => image_size(data),
                    ContentKind::Text(text) => text.len(),
                    ContentKind::Resource { body: Some(ResourceBody::Text(text)), .. } => {
                        text.len()
                    }
                    _ => 100,
                });
                text.len() + attached.sum::<usize>()
            }
            Self::Assistant { text, calls, provider_data, note: _, origin: _ } => {
                let calls = calls.iter().map(|call| {
                    let data = ProviderData::size_bytes(call.provider_data.as_deref());
                    call.tool.len() + call.arguments.len() + data + 100
                });
                let data = ProviderData::size_bytes(provider_data.as_deref());
                text.len() + data + calls.sum::<usize>()
            }
            Self::Tool { text, pictures: images, .. } => {
                let images = images.iter().map(|image| image_size(&image.data) + 100);
                text.len() + RESULT_OVERHEAD_BYTES + images.sum::<usize>()
            }
        }
    }
}

/// The occasion of a compaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompactionReason {
    /// The next request would exceed a limit that is known.
    Limit,
    /// The endpoint refused a request.
    Refused,
}

/// The parts of a history that are left out of a turn's requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compaction {
    /// The occasion.
    pub reason: CompactionReason,
    /// The number of messages that requests omit now.
    pub messages_omitted: u64,
    /// The number of results that this compaction shortened.
    pub results_shortened: usize,
    /// The approximate size of a request before it, in bytes.
    pub request_bytes_before: usize,
    /// The approximate size of a request after it.
    pub request_bytes_after: usize,
}

/// A report of a turn while it runs.
#[derive(Debug, Clone, PartialEq)]
pub enum TurnReport {
    /// The turn began.
    Started {
        /// The prompt.
        prompt: String,
        /// The attachments of the prompt.
        attachments: Vec<Content>,
        /// The author of the prompt.
        origin: Origin,
    },
    /// The model added text to its answer.
    Text(String),
    /// The model added text to its reasoning.
    Reasoning(String),
    /// The model finished a message.
    Message {
        /// The text.
        text: String,
        /// The calls that it asks for.
        calls: Vec<ModelCall>,
        /// The calls among them that the token limit of the answer has cut.
        incomplete_call_ids: Vec<CallId>,
        /// Data that goes back with the message.
        provider_data: Option<Box<ProviderData>>,
        /// The reason for which the turn ends with the message, or `None` if it goes on.
        stop: Option<StopReason>,
    },
    /// The result of a call goes back to the model.
    Answered {
        /// The model's id for the call.
        id: String,
        /// The text for the model.
        text: String,
        /// The images for the model.
        pictures: Vec<Image>,
        /// The author of the text.
        origin: Origin,
    },
    /// A request to the model failed, and another follows.
    Retrying {
        /// The number of the attempt that follows.
        attempt: u32,
        /// The pause before it.
        delay: std::time::Duration,
        /// The error of the attempt that failed.
        error: TurnError,
    },
    /// Older parts of the history are left out of the requests that follow.
    Compacted(Compaction),
    /// The turn ends by itself, and its result follows.
    Ended(TurnEnd),
    /// A request to the model was counted.
    Used {
        /// The usage of that request.
        usage: Usage,
        /// The name of the model.
        model: String,
    },
}
