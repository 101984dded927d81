//! Follow-ups in memory.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::list::page;
use super::{MemoryState, StoredFollowUp};
use crate::model::{FollowUp, FollowUpPut, Tenant, Timestamp};
use crate::store::rules::{self, Due};
use crate::store::{
    CallCursor, DueFollowUps, DueQuery, DueScope, DueSessions, FollowUpPage, FollowUpQuery,
    FollowUpWithTask,
};

/// Stores a follow-up. The task of a stored one is not changed.
pub(super) fn put_follow_up(state: &mut MemoryState, put: FollowUpPut) {
    let FollowUpPut { record, task } = put;
    if let Some(known) = state.follow_ups.get_mut(&record.call_id) {
        known.follow_up.record = record;
    } else if let Some(task) = task {
        state.follow_up = state.follow_up.saturating_add(1);
        let (id, number) = (record.call_id, state.follow_up);
        let follow_up = FollowUpWithTask { record, task: *task };
        state.follow_ups.insert(id, StoredFollowUp { follow_up, number });
    }
}

pub(super) fn list_follow_ups(state: &MemoryState, query: &FollowUpQuery) -> FollowUpPage {
    let sort_key = |record: &FollowUp| (record.create_time, record.call_id);
    let behind = query.cursor.map(|cursor| (cursor.create_time, cursor.id));
    let matches = |follow_up: &&FollowUpWithTask| {
        let record = &follow_up.record;
        record.tenant == query.tenant
            && query.session_id.is_none_or(|id| record.session_id == id)
            && (query.states.is_empty() || query.states.contains(&record.state))
            && behind.is_none_or(|behind| sort_key(record) < behind)
    };
    let all = state.follow_ups.values().map(|stored| &stored.follow_up);
    let mut found: Vec<&FollowUpWithTask> = all.filter(matches).collect();
    found.sort_by_key(|follow_up| Reverse(sort_key(&follow_up.record)));
    let (follow_ups, more) = page(found, query.limit);
    let last = follow_ups.last().filter(|_| more).map(|follow_up| sort_key(&follow_up.record));
    let next = last.map(|(create_time, id)| CallCursor { create_time, id });
    FollowUpPage { follow_ups, unreadable: Vec::new(), next }
}

pub(super) fn due_follow_ups(state: &MemoryState, query: &DueQuery) -> DueFollowUps {
    let all = in_order_of_time(state, |record, due| match &query.scope {
        DueScope::Session(id) => due == Due::Delivery && record.session_id == *id,
        DueScope::Lease(tenant, id) => {
            due == Due::Lease
                && record.tenant == *tenant
                && id.is_none_or(|id| record.session_id == id)
        }
        DueScope::Leased => due == Due::LeaseExpiry,
    });
    let (due, next) = up_to(all, query.now);
    let records = due.into_iter().take(query.limit as usize).cloned().collect();
    DueFollowUps { records, unreadable: Vec::new(), next }
}

pub(super) fn sessions_with_due_follow_ups(
    state: &MemoryState,
    now: Timestamp,
    limit: u32,
) -> DueSessions {
    let all = in_order_of_time(state, |_, due| due == Due::Delivery);
    let (due, next) = up_to(all, now);
    let mut seen = BTreeSet::new();
    let first_of_each = due.into_iter().filter(|record| seen.insert(record.session_id));
    let sessions = first_of_each.map(|record| (record.tenant.clone(), record.session_id));
    DueSessions { sessions: sessions.take(limit as usize).collect(), next }
}

pub(super) fn leased_follow_ups(
    state: &MemoryState,
    tenant: &Tenant,
    request_id: &str,
) -> Vec<FollowUp> {
    let records = state.follow_ups.values().map(|stored| &stored.follow_up.record);
    let taken = records.filter(|record| {
        record.tenant == *tenant && rules::lease_request(record) == Some(request_id)
    });
    let mut found: Vec<FollowUp> = taken.cloned().collect();
    found.sort_by_key(|record| (record.create_time, record.call_id));
    found
}

/// Returns the follow-ups for which `wanted` returns `true`, with the time at which each is due.
fn in_order_of_time(
    state: &MemoryState,
    mut wanted: impl FnMut(&FollowUp, Due) -> bool,
) -> Vec<(Timestamp, &FollowUp)> {
    let mut found = Vec::new();
    for StoredFollowUp { follow_up: FollowUpWithTask { record, .. }, number } in
        state.follow_ups.values()
    {
        if let Some((due, time)) = rules::due(record)
            && wanted(record, due)
        {
            found.push((time, *number, record));
        }
    }
    found.sort_by_key(|(time, number, _)| (*time, *number));
    found.into_iter().map(|(time, _, record)| (time, record)).collect()
}

/// Splits off the follow-ups that are due, and returns them with the time of the next one.
fn up_to(all: Vec<(Timestamp, &FollowUp)>, now: Timestamp) -> (Vec<&FollowUp>, Option<Timestamp>) {
    let end = all.partition_point(|(time, _)| *time <= now);
    let next = all.get(end).map(|(time, _)| *time);
    (all.into_iter().take(end).map(|(_, record)| record).collect(), next)
}
