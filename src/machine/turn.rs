//! The reports of turns: they become events, messages of the history, and sums of usage.

use super::{Projection, Written};
use crate::model::{
    Call, CallId, ContentKind, Message, Origin, Outcome, Payload, State, StopCause, StopReason,
    Timestamp, Turn, TurnEnded, TurnError, TurnReport, Unresolved,
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
                self.remember(id, Message::User { text: prompt, attachments, origin }, written);
                self.emit_live(id, payload, now, written);
            }
            TurnReport::Text(text) => {
                self.emit_live(id, Payload::AssistantDelta(text), now, written);
            }
            TurnReport::Reasoning(text) => {
                self.emit_live(id, Payload::ReasoningDelta(text), now, written);
            }
            TurnReport::Message { text, calls, provider_data } => {
                let call_ids = calls.iter().map(|call| call.call_id).collect();
                let (shown, omitted_bytes) = truncate(&text);
                let payload = Payload::AssistantMessage { text: shown, call_ids, omitted_bytes };
                let (note, origin) = (None, Origin::Model);
                let message = Message::Assistant { text, calls, provider_data, note, origin };
                self.remember(id, message, written);
                self.emit_live(id, payload, now, written);
            }
            TurnReport::Answered { id: model_id, text, pictures, origin } => {
                let message = Message::Tool { id: model_id, text, pictures, origin };
                self.remember(id, message, written);
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

    /// Adds a message to the history, unless the turn delivers follow-ups: its end adds one.
    fn remember(&mut self, id: CallId, message: Message, written: &mut Written) {
        let turn = self.call(id).and_then(|call| call.turn.as_ref());
        if turn.is_none_or(|turn| !turn.delivers) {
            self.push_message(message, written);
        }
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
