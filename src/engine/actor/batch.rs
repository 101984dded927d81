//! A batch: the commands that an actor decides together and appends at once.

use super::inbox::Answer;
use super::notify::Notification;
use crate::engine::Error;
use crate::engine::idempotency::Claim;
use crate::machine::{Command, Effect, Projection, Reply, Written, decide};
use crate::model::{Call, CallId, Event, EventCodec, Message, Payload, Timestamp, Unresolved};
use crate::store::{Append, RequestRecord, StoredEvent, StoredMessage};

/// Commands that were decided together, and what follows from them.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) commands: usize,
    pub(super) written: Written,
    pub(super) effects: Vec<Effect>,
    pub(super) answers: Vec<(Answer, Result<Reply, Error>)>,
    pub(super) requests: Vec<RequestRecord>,
    /// The claims on request ids, released when the batch is dropped.
    pub(super) claims: Vec<Claim>,
    /// The commands that no caller would repeat. They are decided again if the append fails.
    pub(super) reports: Vec<Command>,
    pub(super) notification: Notification,
    /// The ends of the output that the append adds, one entry for each piece.
    pub(super) outputs: Box<[(CallId, u64)]>,
    /// The number of events in the append.
    event_count: usize,
}

impl Batch {
    /// Decides a command and applies its changes. Returns `false` if the command was refused.
    pub(super) fn decide(
        &mut self,
        projection: &mut Projection,
        command: Command,
        now: Timestamp,
        answer: Option<(Answer, Option<RequestRecord>)>,
    ) -> bool {
        self.commands += 1;
        let decision = decide(projection, command, now);
        for change in decision.changes {
            projection.apply(change, now, &mut self.written);
        }
        self.effects.extend(decision.effects);
        let accepted = decision.reply.is_ok();
        if let Some((answer, request)) = answer {
            if accepted {
                self.requests.extend(request);
            }
            self.answers.push((answer, decision.reply.map_err(Error::from)));
        }
        accepted
    }

    /// Adds a request to stop a call to the reports: if the append fails, the caller gets the
    /// error, but the call is stopped all the same.
    pub(super) fn keep_stop(&mut self, command: &Command) {
        let Command::Cancel(cancel) = command else { return };
        let is_new = |report: &Command| match report {
            Command::Cancel(other) => {
                other.call_id != cancel.call_id || (!other.force && cancel.force)
            }
            _ => true,
        };
        if self.reports.iter().all(is_new) {
            self.reports.push(command.clone());
        }
    }

    /// Returns whether there is anything to append.
    pub(super) fn is_written(&self) -> bool {
        self.written.any || !self.requests.is_empty()
    }

    /// Returns whether the append adds events to the log.
    pub(super) fn moves_head(&self) -> bool {
        self.event_count > 0
    }

    /// Returns the append for the batch, for a store whose log ends with `expected_head`, and fills
    /// the notification. Settled calls stay in the batch until it is committed.
    pub(super) fn append(
        &mut self,
        projection: &Projection,
        codec: &dyn EventCodec,
        expected_head: Option<u64>,
    ) -> Append {
        let session = projection.session.clone();
        let events = std::mem::take(&mut self.written.events);
        self.note_operations(&events, projection);
        self.outputs = events.iter().filter_map(output_end).collect();
        let stored = |event: Event| StoredEvent {
            sequence: event.sequence,
            kind: event.payload.kind(),
            call_id: event.call_id,
            output: match &event.payload {
                Payload::ToolOutput(output) => Some((output.position, output.data.len() as u64)),
                _ => None,
            },
            bytes: codec.encode(&event, &session.stream_epoch),
        };
        let changed = self.written.changed.iter().filter_map(|id| projection.call(*id));
        let calls: Vec<Call> = changed.chain(&self.written.settled).cloned().collect();
        if self.written.any {
            self.notification.head = Some(session.head_sequence);
            calls.iter().for_each(|call| self.notification.add_call(call));
        }
        let messages = std::mem::take(&mut self.written.messages);
        let follow_ups = std::mem::take(&mut self.written.follow_ups);
        follow_ups.iter().for_each(|put| self.notification.add_follow_up(put));
        self.event_count = events.len();
        Append {
            session_id: session.id,
            expected_head,
            events: events.into_iter().map(stored).collect(),
            calls,
            deleted_calls: std::mem::take(&mut self.written.deleted),
            messages: messages.into_iter().filter_map(stored_message).collect(),
            follow_ups,
            requests: std::mem::take(&mut self.requests),
            session,
        }
    }

    /// Adds the events that operators read in the log to the notification.
    fn note_operations(&mut self, events: &[Event], projection: &Projection) {
        // The calls that a turn has left stand in the event before its end.
        let mut left: &[Unresolved] = &[];
        for event in events {
            match &event.payload {
                Payload::SessionError { unresolved, .. } => left = unresolved,
                Payload::ToolCallParked { .. }
                | Payload::ToolCallCancelling { .. }
                | Payload::ToolCallFinished(_) => {
                    let Some(id) = event.call_id else { continue };
                    let settled = || self.written.settled.iter().find(|call| call.id == id);
                    let Some(call) = projection.call(id).or_else(settled) else { continue };
                    self.notification.add_event(event, call, std::mem::take(&mut left));
                }
                _ => {}
            }
        }
    }
}

/// Returns the call of a piece of output with the offset of its end in both streams together.
fn output_end(event: &Event) -> Option<(CallId, u64)> {
    let Payload::ToolOutput(output) = &event.payload else { return None };
    Some((event.call_id?, output.position.combined_offset + output.data.len() as u64))
}

fn stored_message((number, message): (u64, Message)) -> Option<StoredMessage> {
    // Strings, numbers and bytes can always be written as JSON.
    let body = serde_json::to_string(&message).ok()?;
    Some(StoredMessage { number, body })
}
