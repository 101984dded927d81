//! What a turn hears of background tasks that ended while it ran, and what is kept of a turn that was
//! started to tell of some.

use tokio::sync::oneshot;

use super::calls::Told;
use super::play::{Play, Turn, failure};
use crate::engine::inbox::Message as ActorMessage;
use crate::engine::redact::redacted;
use crate::machine::Reply;
use crate::model::limits::{
    FOLLOW_UP_NOTE_CHARACTERS_MAX, FOLLOW_UP_NOTE_TOOL_CHARACTERS_MAX, FOLLOW_UP_NOTE_TOOLS_MAX,
};
use crate::model::{FollowUpNote, Message, ModelCall, ToolNote, TurnError};

/// What an agent is told when nobody reads along.
pub(super) const BACKGROUND_NOTES: &str = "\
You work in the background: nobody reads along, and nobody answers questions. Decide for yourself \
where something is unclear, and say in your last message what you have decided and what came of the \
work: that message is all that is read.";

impl Turn {
    /// Tells the model of tasks that have ended and that nobody was told of. The log knows it; the
    /// history doesn't: it keeps what the model makes of it.
    pub(super) async fn hear_follow_ups(&mut self) -> Result<(), TurnError> {
        let Play { engine, handle, call_id, session_id, .. } = &self.play;
        let fresh = engine.untold(*session_id).await.map_err(|error| failure(&error))?;
        if fresh.is_empty() {
            return Ok(());
        }
        let (answer, answered) = oneshot::channel();
        let take = ActorMessage::TakeFollowUps { turn: *call_id, call_ids: fresh, answer };
        let taken = match engine.send(handle, take, answered).await {
            Ok(Reply::Taken(taken)) => taken,
            // The turn is being stopped.
            Ok(_) => return Ok(()),
            Err(error) => return Err(failure(&error)),
        };
        if !taken.is_empty() {
            let text = engine.words_for(&taken).await.map_err(|error| failure(&error))?;
            self.history.push(Message::User { text, attachments: Vec::new() });
        }
        Ok(())
    }
}

/// What is kept of a turn that was started to deliver follow-ups; of another one nothing.
pub(super) struct Notes(Option<FollowUpNote>);

impl Notes {
    pub(super) fn of(play: &Play) -> Self {
        Self(play.delivers.then(|| FollowUpNote {
            model: String::new(),
            tasks: Vec::new(),
            tools: Vec::new(),
            told: cut(&play.prompt, FOLLOW_UP_NOTE_CHARACTERS_MAX),
        }))
    }

    /// A call has been answered.
    pub(super) fn add(&mut self, round: u32, call: &ModelCall, told: &Told) {
        let Some(note) = &mut self.0 else { return };
        if note.tools.len() == FOLLOW_UP_NOTE_TOOLS_MAX {
            return;
        }
        note.tools.push(ToolNote {
            round,
            tool: call.tool.clone(),
            arguments: cut(&redacted(&call.arguments), FOLLOW_UP_NOTE_TOOL_CHARACTERS_MAX),
            output: cut(&told.text, FOLLOW_UP_NOTE_TOOL_CHARACTERS_MAX),
            exit_code: told.exit_code,
        });
    }

    pub(super) fn take(&mut self, model: &str) -> Option<Box<FollowUpNote>> {
        self.0.take().map(|note| Box::new(FollowUpNote { model: model.to_owned(), ..note }))
    }
}

fn cut(text: &str, characters_max: usize) -> String {
    match text.char_indices().nth(characters_max) {
        Some((end, _)) => {
            let left_out = text[end..].chars().count();
            format!("{}\n[{left_out} more characters]", &text[..end])
        }
        None => text.to_owned(),
    }
}
