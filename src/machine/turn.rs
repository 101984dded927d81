//! The reports of turns: they become events, messages of the history, and sums of usage.

use super::{Projection, Written};
use crate::model::limits::TRANSCRIPT_BYTES_MAX;
use crate::model::{
    AssistantMessage, Call, CallId, ContentKind, Message, ModelCall, Origin, Outcome, Payload,
    State, StopCause, StopReason, Timestamp, Turn, TurnEnd, TurnEnded, TurnError, TurnLoss,
    TurnReport, Unresolved,
};

/// The limit of a message's text in an event, in bytes. The rest is left out and counted.
const MESSAGE_EVENT_BYTES_MAX: usize = 128 * 1024;

impl Projection {
    pub(super) fn report_turn(
        &mut self,
        id: CallId,
        report: TurnReport,
        now: Timestamp,
        written: &mut Written,
    ) {
        match report {
            TurnReport::Started { prompt, attachments, origin } => {
                let model = self.model_of(id);
                let follow_ups = self.follow_ups_claimed_by(id);
                let payload = Payload::TurnStarted {
                    prompt: prompt.clone(),
                    attachments: attachments.len(),
                    model,
                    follow_ups,
                    origin,
                };
                let message = Message::User { text: prompt, attachments, origin };
                self.remember(id, message, now, written, begin);
                self.emit_live(id, payload, now, written);
            }
            TurnReport::Text(text) => {
                self.emit_live(id, Payload::AssistantDelta(text), now, written);
            }
            TurnReport::Reasoning(text) => {
                self.emit_live(id, Payload::ReasoningDelta(text), now, written);
            }
            TurnReport::Message { text, calls, incomplete_call_ids, provider_data, stop } => {
                let payload = message_payload(&text, &calls, incomplete_call_ids);
                let (note, origin) = (None, Origin::Model);
                let message = Message::Assistant { text, calls, provider_data, note, origin };
                self.remember(id, message, now, written, |turn| end_round(turn, stop));
                self.emit_live(id, payload, now, written);
            }
            TurnReport::Answered { id: model_id, text, pictures, origin } => {
                let message = Message::Tool { id: model_id, text, pictures, origin };
                self.remember(id, message, now, written, |_| {});
            }
            TurnReport::Retrying { attempt, delay, error } => {
                let payload = Payload::TurnRetrying { attempt, delay, error };
                self.emit_live(id, payload, now, written);
                self.edit(id, now, written, |call| call.attempt = attempt);
            }
            TurnReport::Compacted(compaction) => {
                self.emit_live(id, Payload::HistoryCompacted(compaction), now, written);
            }
            TurnReport::Ended(end) => self.edit(id, now, written, |call| {
                if let Some(turn) = &mut call.turn {
                    turn.end = Some(end);
                }
            }),
            TurnReport::Used { usage, model } => {
                *self.session.usage.get_or_insert_default() += usage;
                // The usage of an agent that works for a turn counts for its call and for the turn.
                for id in [Some(id), self.turn_above(id)].into_iter().flatten() {
                    self.edit(id, now, written, |call| {
                        *call.usage.get_or_insert_default() += usage;
                    });
                }
                self.emit_live(id, Payload::UsageReported { usage, model }, now, written);
            }
        }
    }

    /// Returns the live turn that started this call.
    fn turn_above(&self, id: CallId) -> Option<CallId> {
        let turn_id = self.call(id)?.turn_id;
        let turn = self.live_calls().find(|call| call.turn.is_some() && call.turn_id == turn_id);
        turn.map(|turn| turn.id).filter(|turn| *turn != id)
    }

    fn follow_ups_claimed_by(&self, id: CallId) -> Vec<CallId> {
        let turn = self.call(id).and_then(|call| call.turn.as_ref());
        turn.map(|turn| turn.follow_ups.iter().map(|record| record.call_id).collect())
            .unwrap_or_default()
    }

    fn model_of(&self, id: CallId) -> String {
        let turn = self.call(id).and_then(|call| call.turn.as_ref());
        turn.map(|turn| turn.model.clone()).unwrap_or_default()
    }

    /// Adds a message to the history, or to the record of a turn that delivers follow-ups, whose end
    /// adds one to the history. Counts it as progress of the turn, and changes the turn with it.
    fn remember(
        &mut self,
        id: CallId,
        message: Message,
        now: Timestamp,
        written: &mut Written,
        change: impl FnOnce(&mut Turn),
    ) {
        let turn = self.call(id).and_then(|call| call.turn.as_ref());
        let in_record = turn.is_some_and(|turn| turn.delivers);
        let kept = if in_record {
            Some(message)
        } else {
            self.push_message(message, written);
            None
        };
        self.edit(id, now, written, |call| {
            let Some(turn) = &mut call.turn else { return };
            turn.messages += 1;
            turn.resumptions_without_progress = 0;
            if turn.setup.is_some() {
                turn.transcript.extend(kept);
                limit_transcript(turn);
            }
            change(turn);
        });
    }

    /// Records that a server goes on with a call. A turn that runs has an event of it.
    pub(super) fn resume(&mut self, id: CallId, now: Timestamp, written: &mut Written) {
        let Some(call) = self.call(id) else { return };
        let goes_on = call.state == State::Running && call.stopping.is_none();
        let (attempt, turn) = (call.attempt + 1, call.turn.as_ref().filter(|_| goes_on));
        let Some(resumption) = turn.map(|turn| turn.resumptions + 1) else {
            let settings = self.settings;
            return self.edit(id, now, written, |call| call.run_owner = settings.owner_of(call));
        };
        self.emit_live(id, Payload::TurnResumed { resumption, attempt }, now, written);
        self.edit(id, now, written, |call| {
            call.attempt = attempt;
            if let Some(turn) = &mut call.turn {
                turn.resumptions = resumption;
                turn.resumptions_without_progress += 1;
            }
        });
    }

    /// Records that the server stops in good order while a call runs. The turn had no part in that, so
    /// its resumption doesn't count against it.
    pub(super) fn interrupt(
        &mut self,
        id: CallId,
        loss: Option<TurnLoss>,
        now: Timestamp,
        written: &mut Written,
    ) {
        self.edit(id, now, written, |call| {
            if loss.is_some() {
                call.forget_run();
            }
            let Some(turn) = &mut call.turn else { return };
            turn.resumptions_without_progress = 0;
            if loss.is_some() {
                forget(turn, loss);
            }
        });
    }

    pub(super) fn push_message(&mut self, message: Message, written: &mut Written) {
        self.session.messages += 1;
        written.messages.push((self.session.messages, message));
    }

    /// Returns the event of the end of a turn, whose call is no longer live.
    pub(super) fn turn_ended(
        &self,
        call: &Call,
        turn: &Turn,
        stop: Result<StopReason, TurnError>,
    ) -> Payload {
        let own = self.live_calls().filter(|other| other.turn_id == call.turn_id);
        match stop {
            Ok(stop_reason) => {
                let running = own.filter(|call| call.is_task()).map(|call| call.id).collect();
                let (final_text, omitted_bytes) = truncate(final_text(call));
                Payload::SessionIdle(Box::new(TurnEnded {
                    final_text,
                    omitted_bytes,
                    stop_reason,
                    usage: call.usage.unwrap_or_default(),
                    running,
                    history_omitted: turn
                        .end
                        .as_ref()
                        .map(|end| end.history_omitted)
                        .unwrap_or_default(),
                }))
            }
            Err(error) => {
                let unresolved = |call: &Call| Unresolved {
                    call_id: call.id,
                    tool: call.tool.clone(),
                    is_task: call.is_task(),
                };
                Payload::SessionError { error, unresolved: own.map(unresolved).collect() }
            }
        }
    }
}

/// Drops the prompt, which is the turn's first message now.
fn begin(turn: &mut Turn) {
    if let Some(setup) = &mut turn.setup {
        setup.prompt = None;
    }
}

/// Counts a message of the model, with which the turn ends if it has a reason.
fn end_round(turn: &mut Turn, stop: Option<StopReason>) {
    turn.rounds += 1;
    turn.end = stop.map(|stop| TurnEnd { stop: Ok(stop), history_omitted: 0, note: None });
}

/// Removes what only a server that goes on with the turn needs.
pub(super) fn forget(turn: &mut Turn, loss: Option<TurnLoss>) {
    turn.loss = loss;
    turn.setup = None;
    turn.transcript = Vec::new();
    turn.injected = Vec::new();
}

/// Returns the approximate size of a message in a record, in bytes.
fn size_bytes(message: &Message) -> usize {
    message.size_bytes(|data| data.len().div_ceil(3) * 4)
}

/// Gives up a transcript that is too large for the record of its turn.
fn limit_transcript(turn: &mut Turn) {
    let bytes: usize = turn.transcript.iter().map(size_bytes).sum();
    if bytes > TRANSCRIPT_BYTES_MAX {
        forget(turn, Some(TurnLoss::TranscriptTooLarge));
    }
}

/// Returns the reason of the end of a turn, or its error.
pub fn turn_stop(call: &Call) -> Result<StopReason, TurnError> {
    stop_of(call, call.turn.as_deref())
}

/// Returns the reason of the end of `turn`, which is the turn of `call`, or its error.
pub(super) fn stop_of(call: &Call, turn: Option<&Turn>) -> Result<StopReason, TurnError> {
    let end = turn.and_then(|turn| turn.end.as_ref());
    match (call.state, end.map(|end| &end.stop)) {
        (State::Cancelled, _) => Ok(StopReason::Cancelled),
        (State::Succeeded | State::Failed, Some(stop)) => stop.clone(),
        _ => Err(error_of(call)),
    }
}

/// Returns the text of the last message of a turn that has ended, or an empty text if it has none.
pub fn final_text(call: &Call) -> &str {
    let Some(Outcome::Result(result)) = &call.outcome else { return "" };
    let texts = result.content.iter().find_map(|content| match &content.kind {
        ContentKind::Text(text) => Some(text.as_str()),
        _ => None,
    });
    texts.unwrap_or_default()
}

/// Returns the event of a message of a model.
fn message_payload(text: &str, calls: &[ModelCall], incomplete_call_ids: Vec<CallId>) -> Payload {
    let call_ids = calls.iter().map(|call| call.call_id).collect();
    let (text, omitted_bytes) = truncate(text);
    let message = AssistantMessage { text, call_ids, incomplete_call_ids, omitted_bytes };
    Payload::AssistantMessage(message)
}

/// Returns the error of a turn that the server ended.
fn error_of(call: &Call) -> TurnError {
    let limit = call.stopping.map(|stopping| stopping.cause);
    let code = match (call.state, limit) {
        (State::TimedOut, Some(StopCause::IdleTimeout)) => "idle_timeout",
        (State::TimedOut, _) => "execution_timeout",
        (State::Lost, _) => "host_lost",
        _ => "internal",
    };
    let message = match &call.outcome {
        Some(Outcome::Failure(failure)) => failure.message.clone(),
        _ => call.reason.clone(),
    };
    let retryable = matches!(call.state, State::TimedOut | State::Lost);
    TurnError { code: code.into(), message, retryable }
}

/// Returns `text` truncated to the limit of an event, and the size of the rest.
fn truncate(text: &str) -> (String, usize) {
    let end = text.floor_char_boundary(MESSAGE_EVENT_BYTES_MAX);
    (text[..end].to_owned(), text.len() - end)
}
