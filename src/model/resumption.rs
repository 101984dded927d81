//! The part of a turn's record with which a later server goes on, and the reasons why none can.

use serde::{Deserialize, Serialize};

use super::{CallId, Content, Origin};

/// The settings with which a later server goes on with a turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TurnSetup {
    /// The name of the caller that started the turn.
    pub principal: String,
    /// The system message, without the instructions that callpark adds.
    pub system_message: String,
    /// The largest number of rounds.
    pub rounds_max: u32,
    /// The largest number of attempts at one request.
    pub attempts_max: u32,
    /// The author of the prompt.
    pub origin: Origin,
    /// `true` if the turn was started in the background.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub background: bool,
    /// The prompt, until the turn begins and it is its first message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<Box<Prompt>>,
}

/// The prompt of a turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prompt {
    /// The text.
    pub text: String,
    /// The attachments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Content>,
}

/// A task that was announced to the model between two rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InjectedTask {
    /// The task.
    pub call_id: CallId,
    /// The number of messages of the turn that stand before the one about the task.
    pub after: u64,
}

/// The reason why no later server can go on with a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TurnLoss {
    /// The session says so.
    OnRestart,
    /// The turn is of an agent that runs its own loop.
    ExternalAgent,
    /// The model is not configured.
    ModelUnknown,
    /// An older version recorded the turn.
    RecordOlder,
    /// The turn delivers follow-ups, and its messages are too large for its record.
    TranscriptTooLarge,
    /// Servers took up the turn again and again, without a new message.
    NoProgress,
    /// The server was stopped with everything that ran.
    StoppedWithRuns,
    /// The call that the turn works for has ended.
    ParentEnded,
}

impl TurnLoss {
    /// Returns the reason in a few words.
    pub fn reason(self) -> &'static str {
        match self {
            Self::OnRestart => "the server stopped, and on_restart is LOSE",
            Self::ExternalAgent => "the server stopped, and the agent's own loop with it",
            Self::ModelUnknown => "the server stopped, and the model is no longer configured",
            Self::RecordOlder => "the server stopped, and the record is of an older version",
            Self::TranscriptTooLarge => {
                "the server stopped, and the messages were too large to keep"
            }
            Self::NoProgress => "the turn was resumed several times without a new message",
            Self::StoppedWithRuns => "the server was stopped with its runs",
            Self::ParentEnded => "the call that the turn worked for has ended",
        }
    }
}
