//! Appends to a store in memory.

use std::collections::VecDeque;

use super::{MemoryState, SessionLog, StoredCall, StoredOutput, StoredRequest};
use crate::model::{Call, CallId, Session, SessionId};
use crate::store::rules::{self, OutputCounts, is_forgotten};
use crate::store::{Append, RequestEffect, RequestRecord, StoreError, StoredEvent, StoredMessage};

impl MemoryState {
    pub(super) fn append(&mut self, append: Append) -> Result<(), StoreError> {
        self.check(&append)?;
        let session_id = append.session_id;
        self.put_outputs(session_id, &append.events);
        self.put_log(append.session, append.events);
        for call in append.calls {
            self.put_call(call);
        }
        for id in append.deleted_calls {
            self.delete_call(session_id, id);
        }
        self.put_messages(session_id, append.messages);
        for put in append.follow_ups {
            self.put_follow_up(put);
        }
        for request in append.requests {
            self.put_request(request);
        }
        self.count_live(session_id);
        Ok(())
    }

    fn check(&self, append: &Append) -> Result<(), StoreError> {
        let head = self.sessions.get(&append.session_id).map(|log| log.session.head_sequence);
        rules::check_append(append, head)?;
        let foreign = |call: &Call| {
            let known = self.calls.get(&call.id);
            known.is_some_and(|entry| entry.call.session_id != append.session_id)
        };
        if append.calls.iter().any(foreign) {
            return Err(StoreError::Conflict { head });
        }
        let owner = |id: CallId| {
            Ok::<_, StoreError>(
                self.follow_ups.get(&id).map(|known| known.follow_up.record.session_id),
            )
        };
        rules::check_follow_ups(append, head, owner)?;
        rules::check_requests(append)?;
        for request in &append.requests {
            let key = (request.tenant.clone(), request.request_id.clone());
            if self.requests.contains_key(&key) {
                return Err(StoreError::RequestTaken { request_id: key.1 });
            }
        }
        Ok(())
    }

    fn put_outputs(&mut self, session_id: SessionId, events: &[StoredEvent]) {
        for event in events {
            let (Some(call_id), Some((position, length))) = (event.call_id, event.output) else {
                continue;
            };
            let output = self.outputs.entry(call_id).or_insert_with(|| StoredOutput {
                session_id,
                counts: OutputCounts::default(),
                sequences: VecDeque::new(),
            });
            output.counts.add(&position, length);
            output.sequences.push_back(event.sequence);
        }
    }

    /// The store, not the caller, knows where the log begins and ends.
    fn put_log(&mut self, session: Session, events: Vec<StoredEvent>) {
        let log = self.sessions.entry(session.id).or_insert_with(|| SessionLog {
            session: Session { head_sequence: 0, first_sequence: 1, ..session.clone() },
            events: VecDeque::new(),
            messages: VecDeque::new(),
        });
        let head_sequence = log.session.head_sequence.saturating_add(events.len() as u64);
        let first_sequence = log.session.first_sequence;
        log.session = Session { head_sequence, first_sequence, ..session };
        log.events.extend(events);
    }

    fn put_messages(&mut self, session_id: SessionId, messages: Vec<StoredMessage>) {
        let Some(log) = self.sessions.get_mut(&session_id) else { return };
        log.messages.extend(messages);
        let newest = log.messages.back().map_or(0, |message| message.number);
        while log.messages.front().is_some_and(|oldest| is_forgotten(oldest.number, newest)) {
            log.messages.pop_front();
        }
    }

    fn put_call(&mut self, call: Call) {
        self.change = self.change.saturating_add(1);
        self.calls.insert(call.id, StoredCall { call, change: self.change });
    }

    /// Requests about the call stay, so that repeating one gives the same answer, until they
    /// are old.
    fn delete_call(&mut self, session_id: SessionId, id: CallId) {
        if self.calls.get(&id).is_none_or(|entry| entry.call.session_id != session_id) {
            return;
        }
        self.forget_call(id);
        for kept in self.requests.values_mut().filter(|kept| kept.call_id == Some(id)) {
            kept.call_id = None;
        }
    }

    /// Removes all that is known of a call but its requests and its events.
    pub(super) fn forget_call(&mut self, id: CallId) {
        self.calls.remove(&id);
        self.outputs.remove(&id);
    }

    fn put_request(&mut self, record: RequestRecord) {
        let key = (record.tenant.clone(), record.request_id.clone());
        let call_id = record.effect.call_id().filter(|id| self.calls.contains_key(id));
        let session_id = match record.effect {
            RequestEffect::SessionCreated(id) => Some(id),
            _ => None,
        };
        let session_id = session_id.filter(|id| self.sessions.contains_key(id));
        self.requests.insert(key, StoredRequest { record, call_id, session_id });
    }

    /// Counts the live calls of a session again.
    pub(super) fn count_live(&mut self, session_id: SessionId) {
        let own = self.calls.values().filter(|entry| entry.call.session_id == session_id);
        let live = own.filter(|entry| !entry.call.state.is_terminal()).count();
        if let Some(log) = self.sessions.get_mut(&session_id) {
            log.session.live_tasks = u32::try_from(live).unwrap_or(u32::MAX);
        }
    }
}
