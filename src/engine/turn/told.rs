//! What a turn hears of background tasks that ended while it ran, and what is kept of a turn that was
//! started to tell of some.

use super::play::{Play, Turn, failure};
use super::redact::redacted;
use crate::engine::actor::ActorMessage;
use crate::engine::follow_up::words::message;
use crate::machine::Reply;
use crate::model::limits::{
    FOLLOW_UP_NOTE_CHARACTERS_MAX, FOLLOW_UP_NOTE_TOOL_CHARACTERS_MAX, FOLLOW_UP_NOTE_TOOLS_MAX,
    FOLLOW_UPS_OF_TURN_MAX,
};
use crate::model::{FollowUpNote, Message, ToolNote, TurnError};
use crate::sync::{Mutex, MutexGuard, PoisonError};

/// What an agent is told when nobody reads along.
pub(super) const BACKGROUND_NOTES: &str = "\
You work in the background: nobody reads along, and nobody answers questions. Decide for yourself \
where something is unclear, and say in your last message what you have decided and what came of the \
work: that message is all that is read.";

impl Turn {
    /// Tells the model of tasks that have ended and that nobody was told of. The log knows it; the
    /// history doesn't: it keeps what the model makes of it.
    pub(super) async fn hear_follow_ups(&mut self) -> Result<(), TurnError> {
        // Its record names them all, and is written again with every change of the turn.
        let room = FOLLOW_UPS_OF_TURN_MAX.saturating_sub(self.heard);
        if room == 0 {
            return Ok(());
        }
        let Play { engine, handle, call_id, session_id, .. } = &self.play;
        let mut tasks =
            engine.follow_ups().untold(*session_id).await.map_err(|error| failure(&error))?;
        tasks.truncate(room);
        if tasks.is_empty() {
            return Ok(());
        }
        let call_ids = tasks.iter().map(|task| task.id).collect();
        let take = |answer| ActorMessage::TakeFollowUps { turn: *call_id, call_ids, answer };
        let taken = match handle.ask(take).await {
            Ok(Reply::Claimed(taken)) => taken,
            // The turn is being stopped.
            Ok(_) => return Ok(()),
            Err(error) => return Err(failure(&error)),
        };
        tasks.retain(|task| taken.contains(&task.id));
        if !tasks.is_empty() {
            self.heard += tasks.len();
            let (text, attachments) = (message(&tasks), Vec::new());
            self.history.push(Message::User { text, attachments });
        }
        Ok(())
    }
}

/// What is kept of a turn that was started to deliver follow-ups; of another one nothing. Calls that
/// run beside each other note what came of them.
pub(super) struct Notes(Mutex<Option<FollowUpNote>>);

impl Notes {
    pub(super) fn of(play: &Play) -> Self {
        Self(Mutex::new(play.delivers.then(|| FollowUpNote {
            model: String::new(),
            tasks: Vec::new(),
            tools: Vec::new(),
            tools_omitted: 0,
            prompt: cut(&play.prompt, FOLLOW_UP_NOTE_CHARACTERS_MAX),
        })))
    }

    /// A call has come to this. The round is 0 where an agent runs its own.
    pub(super) fn add(
        &self,
        round: u32,
        tool: &str,
        arguments: &str,
        output: &str,
        exit_code: Option<i32>,
    ) {
        let mut note = self.lock();
        let Some(note) = note.as_mut() else { return };
        if note.tools.len() == FOLLOW_UP_NOTE_TOOLS_MAX {
            note.tools_omitted += 1;
            return;
        }
        note.tools.push(ToolNote {
            round,
            tool: tool.to_owned(),
            arguments: cut(&redacted(arguments), FOLLOW_UP_NOTE_TOOL_CHARACTERS_MAX),
            output: cut(output, FOLLOW_UP_NOTE_TOOL_CHARACTERS_MAX),
            exit_code,
        });
    }

    pub(super) fn take(&self, model: &str) -> Option<Box<FollowUpNote>> {
        let note = self.lock().take();
        note.map(|note| Box::new(FollowUpNote { model: model.to_owned(), ..note }))
    }

    fn lock(&self) -> MutexGuard<'_, Option<FollowUpNote>> {
        // A note that a panic left behind is whole: every change to it is one call.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
