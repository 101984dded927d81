//! An agent's turn: a prompt, the rounds with its model, and how it ends.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{CallId, Content, FollowUp, FollowUpNote, Usage};

/// What happens to a prompt when its session runs a turn already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BusyPolicy {
    /// The prompt is refused.
    #[default]
    Reject,
    /// The turn begins after those before it.
    Enqueue,
    /// Those before it are stopped, and it begins after them.
    Interrupt,
}

/// Why a turn ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The model had said all that it had to say.
    EndTurn,
    /// The turn had made as many rounds as it may.
    MaxRounds,
    /// The model's answer reached its limit of tokens.
    MaxTokens,
    /// The model refused to answer.
    Refusal,
    /// Somebody stopped it.
    Cancelled,
}

/// Why a turn failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnError {
    /// A stable name.
    pub code: String,
    /// What went wrong, and what to do, for a person.
    pub message: String,
    /// The same prompt may succeed when it is sent again.
    pub retryable: bool,
}

/// What the record of a turn's call holds beside that of any call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    /// The model asked.
    pub model: String,
    /// How it ended; none until then, and of one that ended otherwise than by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<TurnEnd>,
    /// It was started to deliver follow-ups: only its last message goes into the history.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub delivers: bool,
    /// The follow-ups that it delivers, as they were stored when it took them. Nobody else changes
    /// them before it has ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub follow_ups: Vec<FollowUp>,
}

/// How a turn ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnEnd {
    /// Well, for this reason; or not.
    pub stop: Result<StopReason, TurnError>,
    /// Messages of the session's history that its last request left out.
    #[serde(default)]
    pub history_omitted: u64,
    /// Of a turn that was started to deliver follow-ups: what it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<Box<FollowUpNote>>,
}

/// A call of a tool that a model asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelCall {
    /// The model's own name for it.
    pub id: String,
    /// The tool.
    pub tool: String,
    /// The arguments as the model wrote them: JSON, if it kept to the rules.
    pub arguments: String,
    /// Our name for it.
    pub call_id: CallId,
}

/// A picture in the result of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Its media type, such as `image/png`.
    pub media_type: String,
    /// Its bytes.
    #[serde(with = "super::base64")]
    pub data: Bytes,
}

/// One message of a session's history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// What a caller said.
    User {
        /// The text.
        text: String,
        /// What came with it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        attachments: Vec<Content>,
    },
    /// What the model said.
    Assistant {
        /// The text.
        text: String,
        /// The calls that it asks for.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        calls: Vec<ModelCall>,
        /// Why it said so, if nobody had asked: tasks had ended. It is kept for people, and isn't read
        /// back with the history.
        #[serde(default, skip_serializing_if = "Option::is_none", skip_deserializing)]
        note: Option<Box<FollowUpNote>>,
    },
    /// What a call came to.
    Tool {
        /// The model's own name for the call.
        id: String,
        /// What the model is told. It names the pictures, too.
        text: String,
        /// The pictures that the model is shown beside it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pictures: Vec<Image>,
    },
}

/// What a turn reports while it runs.
#[derive(Debug, Clone, PartialEq)]
pub enum TurnReport {
    /// It begins.
    Started {
        /// What was asked.
        prompt: String,
        /// What came with it.
        attachments: Vec<Content>,
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
    },
    /// The model is told what a call came to.
    Answered {
        /// The model's own name for the call.
        id: String,
        /// What it is told.
        text: String,
        /// What it is shown.
        pictures: Vec<Image>,
    },
    /// A request to the model failed, and another follows.
    Retrying {
        /// The attempt that follows.
        attempt: u32,
        /// When.
        delay: std::time::Duration,
        /// Why.
        error: TurnError,
    },
    /// It is about to end by itself: its result follows.
    Ended(TurnEnd),
    /// A request to the model was counted.
    Used {
        /// What it used.
        usage: Usage,
        /// The model.
        model: String,
    },
}
