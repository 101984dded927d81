//! What one append of an actor is made of.

use super::inbox::Answer;
use super::requests::Claim;
use super::session::Actor;
use super::{CallVersion, Error};
use crate::machine::{Command, Effect, Projection, Reply, Written, decide};
use crate::model::{
    Call, CallId, Delivery, Event, FollowUpPut, FollowUpState, Message, Payload, Timestamp,
};
use crate::store::{Append, RequestRecord, StoredEvent, StoredMessage};

/// What readers hear of a batch once it is durable. It is noted when the batch is decided: by the
/// time when it is told, the session may have been decided further.
#[derive(Default)]
pub(super) struct News {
    /// The head that the batch leaves, if there is anything to tell.
    pub(super) head: Option<u64>,
    /// Calls that it changes.
    pub(super) calls: Vec<(CallId, CallVersion)>,
    /// Background tasks are among them.
    pub(super) tasks_changed: bool,
    /// A turn has ended among them.
    pub(super) turn_ended: bool,
    /// What has become of follow-ups.
    pub(super) follow_ups: Vec<FollowUpNews>,
}

/// What has become of a follow-up.
pub(super) struct FollowUpNews {
    pub(super) delivery: Delivery,
    pub(super) state: FollowUpState,
    pub(super) due_time: Option<Timestamp>,
    /// It was made just now.
    pub(super) is_new: bool,
    /// An attempt has failed.
    pub(super) failed: bool,
}

impl News {
    fn add(&mut self, call: &Call) {
        let ended = call.state.is_terminal();
        let settled = ended || call.is_task();
        self.tasks_changed |= call.is_task();
        self.turn_ended |= ended && call.turn.is_some();
        self.calls.push((call.id, CallVersion { revision: call.revision, settled, ended }));
    }

    fn add_follow_up(&mut self, put: &FollowUpPut) {
        let FollowUpPut { record, task } = put;
        self.follow_ups.push(FollowUpNews {
            delivery: record.delivery,
            state: record.state,
            due_time: record.due_time,
            is_new: task.is_some(),
            failed: record.state != FollowUpState::Leased && record.last_error.is_some(),
        });
    }
}

/// Commands that were decided together, and what follows from them.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) commands: usize,
    pub(super) written: Written,
    pub(super) effects: Vec<Effect>,
    pub(super) answers: Vec<(Answer, Result<Reply, Error>)>,
    pub(super) requests: Vec<RequestRecord>,
    /// Given back when the batch is done with, whatever came of it.
    pub(super) claims: Vec<Claim>,
    /// The commands that nobody would repeat, to be made again if the append fails.
    pub(super) reports: Vec<Command>,
    pub(super) news: News,
    /// Events among what is appended.
    event_count: usize,
}

impl Batch {
    /// Decides a command and applies what follows. False: it was refused.
    pub(super) fn decide(
        &mut self,
        projection: &mut Projection,
        command: Command,
        now: Timestamp,
        asked: Option<(Answer, Option<RequestRecord>)>,
    ) -> bool {
        self.commands += 1;
        let decision = decide(projection, command, now);
        for change in decision.changes {
            projection.apply(change, now, &mut self.written);
        }
        self.effects.extend(decision.effects);
        let accepted = decision.reply.is_ok();
        if let Some((answer, request)) = asked {
            if accepted {
                self.requests.extend(request);
            }
            self.answers.push((answer, decision.reply.map_err(Error::from)));
        }
        accepted
    }

    /// A request to stop a call is made again, too, if its append fails: whoever asked is told of
    /// the failure, and the call is stopped all the same.
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

    /// There is something to append.
    pub(super) fn is_written(&self) -> bool {
        self.written.any || !self.requests.is_empty()
    }

    /// Its append adds events to the log.
    pub(super) fn moves_head(&self) -> bool {
        self.event_count > 0
    }

    /// The append for all of it. Settled calls stay in the batch, for those who wait for them.
    pub(super) fn append(&mut self, actor: &Actor) -> Append {
        let session = actor.projection.session.clone();
        let codec = actor.shared.codec.as_ref();
        let events = std::mem::take(&mut self.written.events);
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
        let changed = self.written.changed.iter().filter_map(|id| actor.projection.call(*id));
        let calls: Vec<Call> = changed.chain(&self.written.settled).cloned().collect();
        if self.written.any {
            self.news.head = Some(session.head_sequence);
            calls.iter().for_each(|call| self.news.add(call));
        }
        let messages = std::mem::take(&mut self.written.messages);
        let follow_ups = std::mem::take(&mut self.written.follow_ups);
        follow_ups.iter().for_each(|put| self.news.add_follow_up(put));
        self.event_count = events.len();
        Append {
            session_id: session.id,
            expected_head: actor.decided_head,
            events: events.into_iter().map(stored).collect(),
            calls,
            deleted_calls: std::mem::take(&mut self.written.deleted),
            messages: messages.into_iter().filter_map(stored_message).collect(),
            follow_ups,
            requests: std::mem::take(&mut self.requests),
            session,
        }
    }
}

fn stored_message((number, message): (u64, Message)) -> Option<StoredMessage> {
    // Strings, numbers and bytes always become JSON.
    let body = serde_json::to_string(&message).ok()?;
    Some(StoredMessage { number, body })
}
