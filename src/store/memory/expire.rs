//! Expiry in memory: what is too old is removed, and logs that are too long are trimmed.

use super::{MemoryState, SessionLog, append};
use crate::model::{CallId, SessionId, SessionState, Tenant};
use crate::store::{Expired, ExpiryPolicy, rules::OutputCounts};

pub(super) fn expire(state: &mut MemoryState, policy: &ExpiryPolicy) -> Expired {
    let mut budget = policy.rows_max.max(1) as usize;
    let mut removed = Expired::default();
    expire_calls(state, policy, &mut budget, &mut removed);
    expire_follow_ups(state, policy, &mut budget, &mut removed);
    expire_sessions(state, policy, &mut budget, &mut removed);
    expire_requests(state, policy, &mut budget, &mut removed);
    trim_logs(state, policy, &mut budget, &mut removed);
    removed.more = expired_call(state, policy).is_some()
        || expired_follow_up(state, policy).is_some()
        || expired_session(state, policy).is_some()
        || expired_request(state, policy).is_some()
        || long_log(state, policy).is_some();
    removed
}

/// Removes calls. The requests of a call are removed first: if the budget ends among them, the next
/// round finds the call again.
fn expire_calls(
    state: &mut MemoryState,
    policy: &ExpiryPolicy,
    budget: &mut usize,
    removed: &mut Expired,
) {
    while *budget > 0
        && let Some(id) = expired_call(state, policy)
    {
        let about = state.requests.iter().filter(|(_, kept)| kept.call_id == Some(id));
        let keys: Vec<_> = about.map(|(key, _)| key.clone()).take(*budget).collect();
        keys.iter().for_each(|key| drop(state.requests.remove(key)));
        *budget -= keys.len();
        removed.requests += keys.len() as u64;
        if *budget > 0 {
            append::forget_call(state, id);
            *budget -= 1;
            removed.calls += 1;
        }
    }
}

fn expire_follow_ups(
    state: &mut MemoryState,
    policy: &ExpiryPolicy,
    budget: &mut usize,
    removed: &mut Expired,
) {
    while *budget > 0
        && let Some(id) = expired_follow_up(state, policy)
    {
        state.follow_ups.remove(&id);
        *budget -= 1;
        removed.follow_ups += 1;
    }
}

fn expire_sessions(
    state: &mut MemoryState,
    policy: &ExpiryPolicy,
    budget: &mut usize,
    removed: &mut Expired,
) {
    while *budget > 0
        && let Some(id) = expired_session(state, policy)
    {
        *budget -= trim(state, id, *budget);
        let mut empty = true;
        if let Some(log) = state.sessions.get_mut(&id) {
            let count = log.messages.len().min(*budget);
            log.messages.drain(..count);
            *budget -= count;
            empty = log.events.is_empty() && log.messages.is_empty();
        }
        if *budget > 0 && empty {
            state.sessions.remove(&id);
            for kept in state.requests.values_mut().filter(|kept| kept.session_id == Some(id)) {
                kept.session_id = None;
            }
            *budget -= 1;
            removed.sessions += 1;
        }
    }
}

fn expire_requests(
    state: &mut MemoryState,
    policy: &ExpiryPolicy,
    budget: &mut usize,
    removed: &mut Expired,
) {
    while *budget > 0
        && let Some(key) = expired_request(state, policy)
    {
        state.requests.remove(&key);
        *budget -= 1;
        removed.requests += 1;
    }
}

fn trim_logs(
    state: &mut MemoryState,
    policy: &ExpiryPolicy,
    budget: &mut usize,
    removed: &mut Expired,
) {
    while *budget > 0
        && let Some((id, excess)) = long_log(state, policy)
    {
        let trimmed = trim(state, id, excess.min(*budget));
        *budget -= trimmed;
        removed.events += trimmed as u64;
    }
}

/// Removes the oldest `count` events, or all, and updates the counts of output.
fn trim(state: &mut MemoryState, id: SessionId, count: usize) -> usize {
    let Some(SessionLog { session, events, .. }) = state.sessions.get_mut(&id) else { return 0 };
    let count = count.min(events.len());
    session.first_sequence += count as u64;
    for event in events.drain(..count) {
        let output = event.call_id.and_then(|id| state.outputs.get_mut(&id));
        if let (Some(output), Some((position, length))) = (output, event.output) {
            OutputCounts::trim(&mut output.counts, position.stream, length);
            output.sequences.pop_front();
        }
    }
    count
}

fn expired_call(state: &MemoryState, policy: &ExpiryPolicy) -> Option<CallId> {
    let calls = state.calls.values().map(|entry| &entry.call);
    let ended = calls.filter(|call| call.state.is_terminal());
    let due = |time| time <= policy.now;
    ended.filter(|call| call.expire_time.is_some_and(due)).map(|call| call.id).next()
}

fn expired_follow_up(state: &MemoryState, policy: &ExpiryPolicy) -> Option<CallId> {
    let records = state.follow_ups.values().map(|stored| &stored.follow_up.record);
    let due = |time| time <= policy.now;
    let mut expired = records.filter(|record| record.expire_time.is_some_and(due));
    expired.next().map(|record| record.call_id)
}

fn expired_session(state: &MemoryState, policy: &ExpiryPolicy) -> Option<SessionId> {
    let sessions = state.sessions.values().map(|log| &log.session);
    let old = sessions.filter(|session| {
        (session.state == SessionState::Closed || session.implicit)
            && session.update_time < policy.older_than
    });
    let holds_call = |id| state.calls.values().any(|entry| entry.call.session_id == id);
    let holds_follow_up =
        |id| state.follow_ups.values().any(|stored| stored.follow_up.record.session_id == id);
    let mut empty = old.filter(|session| !holds_call(session.id));
    empty.find(|session| !holds_follow_up(session.id)).map(|session| session.id)
}

fn expired_request(state: &MemoryState, policy: &ExpiryPolicy) -> Option<(Tenant, String)> {
    let mut requests = state.requests.iter();
    let old = requests.find(|(_, kept)| {
        kept.call_id.is_none()
            && kept.session_id.is_none()
            && kept.record.create_time < policy.older_than
    });
    old.map(|(key, _)| key.clone())
}

/// Returns a log with too many events, and the number of events beyond the bound.
fn long_log(state: &MemoryState, policy: &ExpiryPolicy) -> Option<(SessionId, usize)> {
    let max = usize::try_from(policy.session_events_max).unwrap_or(usize::MAX);
    let lengths = state.sessions.iter().map(|(id, log)| (*id, log.events.len()));
    lengths.filter(|(_, length)| *length > max).map(|(id, length)| (id, length - max)).next()
}
