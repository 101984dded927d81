//! Lists of sessions and calls in memory.

use std::cmp::Reverse;
use std::ops::Bound;

use super::{MemoryState, StoredCall};
use crate::model::{Call, Session, SessionId, SessionState, Tenant};
use crate::store::rules::has_labels;
use crate::store::{
    CallCursor, CallPage, CallQuery, ChangePage, ChangeQuery, SessionCursor, SessionPage,
    SessionQuery,
};

pub(super) fn list_sessions(state: &MemoryState, query: &SessionQuery) -> SessionPage {
    let sort_key = |session: &Session| (session.create_time, session.id);
    let behind = query.cursor.map(|cursor| (cursor.create_time, cursor.id));
    let matches = |session: &&Session| {
        session.tenant == query.tenant
            && (query.states.is_empty() || query.states.contains(&session.state))
            && has_labels(&session.labels, &query.labels)
            && query.created_after.is_none_or(|time| session.create_time > time)
            && query.ids.contains(session.id.as_bytes())
            && behind.is_none_or(|behind| sort_key(session) < behind)
    };
    let all = state.sessions.values().map(|log| &log.session);
    let mut found: Vec<&Session> = all.filter(matches).collect();
    found.sort_by_key(|session| Reverse(sort_key(session)));
    let (sessions, more) = page(found, query.limit);
    let last = sessions.last().filter(|_| more);
    let next = last.map(|last| SessionCursor { create_time: last.create_time, id: last.id });
    SessionPage { sessions, unreadable: Vec::new(), next }
}

pub(super) fn list_calls(state: &MemoryState, query: &CallQuery) -> CallPage {
    let sort_key = |call: &Call| (call.create_time, call.id);
    let behind = query.cursor.map(|cursor| (cursor.create_time, cursor.id));
    let matches = |call: &&Call| {
        (query.states.is_empty() || query.states.contains(&call.state))
            && (query.kinds.is_empty() || query.kinds.contains(&call.kind))
            && has_labels(&call.labels, &query.labels)
            && query.created_after.is_none_or(|time| call.create_time > time)
            && query.ids.contains(call.id.as_bytes())
            && behind.is_none_or(|behind| sort_key(call) < behind)
    };
    let tasks = tasks(state, &query.tenant, query.session_id).map(|entry| &entry.call);
    let mut found: Vec<&Call> = tasks.filter(matches).collect();
    found.sort_by_key(|call| Reverse(sort_key(call)));
    let (calls, more) = page(found, query.limit);
    let last = calls.last().filter(|_| more);
    let next = last.map(|last| CallCursor { create_time: last.create_time, id: last.id });
    CallPage { calls, unreadable: Vec::new(), next, change: state.change }
}

pub(super) fn changes(state: &MemoryState, query: &ChangeQuery) -> ChangePage {
    let tasks = tasks(state, &query.tenant, query.session_id);
    let mut found: Vec<&StoredCall> = tasks.filter(|entry| entry.change > query.after).collect();
    found.sort_by_key(|entry| entry.change);
    let more = found.len() > query.limit as usize;
    found.truncate(query.limit as usize);
    let change = match found.last() {
        _ if !more => state.change,
        Some(last) => last.change,
        None => query.after,
    };
    let calls = found.iter().map(|entry| entry.call.clone()).collect();
    ChangePage { calls, unreadable: Vec::new(), change, more }
}

pub(super) fn live_calls(state: &MemoryState, session_id: SessionId) -> Vec<Call> {
    let calls = state.calls.values().map(|entry| &entry.call);
    let mut found: Vec<Call> = calls
        .filter(|call| call.session_id == session_id && !call.state.is_terminal())
        .cloned()
        .collect();
    found.sort_by_key(|call| (call.create_time, call.id));
    found
}

pub(super) fn sessions_with_live_calls(
    state: &MemoryState,
    after: Option<SessionId>,
    limit: u32,
) -> Vec<SessionId> {
    let start = after.map_or(Bound::Unbounded, Bound::Excluded);
    let sessions = state.sessions.range((start, Bound::Unbounded));
    let live = sessions.filter(|(_, log)| log.session.live_tasks > 0);
    live.map(|(id, _)| *id).take(limit as usize).collect()
}

/// Counts the open sessions of a tenant that are not implicit.
pub(super) fn open_sessions(state: &MemoryState, tenant: &Tenant, count_max: u32) -> u32 {
    let sessions = state.sessions.values().map(|log| &log.session);
    let is_open = |session: &&Session| {
        session.tenant == *tenant && session.state == SessionState::Open && !session.implicit
    };
    let count = sessions.filter(is_open).take(count_max as usize).count();
    u32::try_from(count).unwrap_or(count_max)
}

fn tasks<'a>(
    state: &'a MemoryState,
    tenant: &'a Tenant,
    session_id: Option<SessionId>,
) -> impl Iterator<Item = &'a StoredCall> {
    state.calls.values().filter(move |StoredCall { call, .. }| {
        call.is_task()
            && call.tenant == *tenant
            && session_id.is_none_or(|id| call.session_id == id)
    })
}

/// The first `limit` of what was found, and whether that leaves some out.
pub(super) fn page<T: Clone>(mut found: Vec<&T>, limit: u32) -> (Vec<T>, bool) {
    let more = found.len() > limit as usize;
    found.truncate(limit as usize);
    (found.into_iter().cloned().collect(), more)
}
