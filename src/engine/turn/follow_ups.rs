//! Follow-ups that are injected into a running turn, and the notes about a turn that delivers some.

use super::run::{TurnRun, TurnSpec, turn_error};
use crate::agent::prompts::{follow_up_message, truncate};
use crate::engine::actor::ActorMessage;
use crate::machine::Reply;
use crate::model::limits::{
    FOLLOW_UP_NOTE_CHARACTERS_MAX, FOLLOW_UP_NOTE_TOOL_CHARACTERS_MAX, FOLLOW_UP_NOTE_TOOLS_MAX,
    FOLLOW_UPS_OF_TURN_MAX,
};
use crate::model::{FollowUpNote, Message, Origin, ToolNote, TurnError};
use crate::redact::redacted;
use crate::sync::{Mutex, MutexGuard, PoisonError};

/// Adds a message about tasks that have ended, if there are any whose follow-ups are not delivered.
/// The message is part of this turn only: the stored history keeps the model's answer to it.
pub(super) async fn inject_follow_ups(run: &mut TurnRun) -> Result<(), TurnError> {
    // The turn's record lists all of them, and is rewritten with every change of the turn.
    let room = FOLLOW_UPS_OF_TURN_MAX.saturating_sub(run.injected);
    if room == 0 {
        return Ok(());
    }
    let TurnSpec { engine, handle, call_id, session_id, .. } = &run.spec;
    let tasks = engine.follow_ups().undelivered(*session_id).await;
    let mut tasks = tasks.map_err(|error| turn_error(&error))?;
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
        Err(error) => return Err(turn_error(&error)),
    };
    tasks.retain(|task| taken.contains(&task.id));
    if !tasks.is_empty() {
        run.injected += tasks.len();
        let (text, attachments) = (follow_up_message(&tasks), Vec::new());
        run.history.push(Message::User { text, attachments, origin: Origin::Callpark });
    }
    Ok(())
}

/// The note that is stored with the answer of a turn that delivers follow-ups. Other turns have none.
/// The lock is for calls that run at the same time.
pub(super) struct FollowUpNotes(Mutex<Option<FollowUpNote>>);

impl FollowUpNotes {
    pub(super) fn new(spec: &TurnSpec) -> Self {
        Self(Mutex::new(spec.delivers.then(|| FollowUpNote {
            model: String::new(),
            tasks: Vec::new(),
            tools: Vec::new(),
            tools_omitted: 0,
            prompt: truncate(&spec.prompt, FOLLOW_UP_NOTE_CHARACTERS_MAX, ""),
        })))
    }

    /// Notes a call. The round is 0 for an agent that runs its own loop.
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
            arguments: truncate(&redacted(arguments), FOLLOW_UP_NOTE_TOOL_CHARACTERS_MAX, ""),
            output: truncate(output, FOLLOW_UP_NOTE_TOOL_CHARACTERS_MAX, ""),
            exit_code,
        });
    }

    /// Takes the note, or returns `None` if the turn delivers no follow-ups.
    pub(super) fn take(&self, model: &str) -> Option<Box<FollowUpNote>> {
        let note = self.lock().take();
        note.map(|note| Box::new(FollowUpNote { model: model.to_owned(), ..note }))
    }

    fn lock(&self) -> MutexGuard<'_, Option<FollowUpNote>> {
        // A note is valid even after a panic: every change to it is a single call.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
