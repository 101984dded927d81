//! Appends to a store in memory.

use std::collections::VecDeque;

use super::{MemoryState, SessionLog, StoredCall, StoredOutput, StoredRequest, follow_ups};
use crate::model::{Call, CallId, Session, SessionId};
use crate::store::rules::{self, OutputCounts, is_forgotten};
use crate::store::{Append, RequestEffect, RequestRecord, StoreError, StoredEvent, StoredMessage};

pub(super) fn append(state: &mut MemoryState, append: Append) -> Result<(), StoreError> {
    check(state, &append)?;
    let session_id = append.session_id;
    put_outputs(state, session_id, &append.events);
    put_log(state, append.session, append.events);
    for call in append.calls {
        put_call(state, call);
    }
    for id in append.deleted_calls {
        delete_call(state, session_id, id);
    }
    put_messages(state, session_id, append.messages);
    for put in append.follow_ups {
        follow_ups::put_follow_up(state, put);
    }
    for request in append.requests {
        put_request(state, request);
    }
    count_live(state, session_id);
    Ok(())
}

fn check(state: &MemoryState, append: &Append) -> Result<(), StoreError> {
    let head = state.sessions.get(&append.session_id).map(|log| log.session.head_sequence);
    rules::check_append(append, head)?;
    let foreign = |call: &Call| {
        let known = state.calls.get(&call.id);
        known.is_some_and(|entry| entry.call.session_id != append.session_id)
    };
    if append.calls.iter().any(foreign) {
        return Err(StoreError::Conflict { head });
    }
    let owner = |id: CallId| {
        Ok::<_, StoreError>(
            state.follow_ups.get(&id).map(|known| known.follow_up.record.session_id),
        )
    };
    rules::check_follow_ups(append, head, owner)?;
    rules::check_requests(append)?;
    for request in &append.requests {
        let key = (request.tenant.clone(), request.request_id.clone());
        if state.requests.contains_key(&key) {
            return Err(StoreError::RequestTaken { request_id: key.1 });
        }
    }
    Ok(())
}

fn put_outputs(state: &mut MemoryState, session_id: SessionId, events: &[StoredEvent]) {
    for event in events {
        let (Some(call_id), Some((position, length))) = (event.call_id, event.output) else {
            continue;
        };
        let output = state.outputs.entry(call_id).or_insert_with(|| StoredOutput {
            session_id,
            counts: OutputCounts::default(),
            sequences: VecDeque::new(),
        });
        output.counts.add(&position, length);
        output.sequences.push_back(event.sequence);
    }
}

/// Stores a session and its events. The store, not the caller, sets the ends of the log.
fn put_log(state: &mut MemoryState, session: Session, events: Vec<StoredEvent>) {
    let log = state.sessions.entry(session.id).or_insert_with(|| SessionLog {
        session: Session { head_sequence: 0, first_sequence: 1, ..session.clone() },
        events: VecDeque::new(),
        messages: VecDeque::new(),
    });
    let head_sequence = log.session.head_sequence.saturating_add(events.len() as u64);
    let first_sequence = log.session.first_sequence;
    log.session = Session { head_sequence, first_sequence, ..session };
    log.events.extend(events);
}

fn put_messages(state: &mut MemoryState, session_id: SessionId, messages: Vec<StoredMessage>) {
    let Some(log) = state.sessions.get_mut(&session_id) else { return };
    log.messages.extend(messages);
    let newest = log.messages.back().map_or(0, |message| message.number);
    while log.messages.front().is_some_and(|oldest| is_forgotten(oldest.number, newest)) {
        log.messages.pop_front();
    }
}

fn put_call(state: &mut MemoryState, call: Call) {
    state.change = state.change.saturating_add(1);
    state.calls.insert(call.id, StoredCall { call, change: state.change });
}

/// Deletes a call. Requests about it stay until they are old, so that a retry gets the same answer.
fn delete_call(state: &mut MemoryState, session_id: SessionId, id: CallId) {
    if state.calls.get(&id).is_none_or(|entry| entry.call.session_id != session_id) {
        return;
    }
    forget_call(state, id);
    for kept in state.requests.values_mut().filter(|kept| kept.call_id == Some(id)) {
        kept.call_id = None;
    }
}

/// Removes a call and the positions of its output. Its requests and events stay.
pub(super) fn forget_call(state: &mut MemoryState, id: CallId) {
    state.calls.remove(&id);
    state.outputs.remove(&id);
}

fn put_request(state: &mut MemoryState, record: RequestRecord) {
    let key = (record.tenant.clone(), record.request_id.clone());
    let call_id = record.effect.call_id().filter(|id| state.calls.contains_key(id));
    let session_id = match record.effect {
        RequestEffect::SessionCreated(id) => Some(id),
        _ => None,
    };
    let session_id = session_id.filter(|id| state.sessions.contains_key(id));
    state.requests.insert(key, StoredRequest { record, call_id, session_id });
}

/// Updates the number of live calls of a session.
pub(super) fn count_live(state: &mut MemoryState, session_id: SessionId) {
    let own = state.calls.values().filter(|entry| entry.call.session_id == session_id);
    let live = own.filter(|entry| !entry.call.state.is_terminal()).count();
    if let Some(log) = state.sessions.get_mut(&session_id) {
        log.session.live_tasks = u32::try_from(live).unwrap_or(u32::MAX);
    }
}
