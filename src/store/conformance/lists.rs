//! Lists of tasks and sessions.

use super::world::{SessionWriter, at, labels, tenant};
use crate::model::{Call, CallId, Session, SessionId, SessionState, State, Tenant, ToolKind};
use crate::store::{
    Append, CallCursor, CallPage, CallQuery, SessionCursor, SessionPage, SessionQuery, Store,
};
use std::cmp::Reverse;

fn tasks(limit: u32) -> CallQuery {
    CallQuery::newest(tenant(), limit)
}

fn ids(calls: &[Call]) -> Vec<CallId> {
    calls.iter().map(|call| call.id).collect()
}

/// Every page of a list, one after the other.
async fn all_pages(store: &dyn Store, mut query: CallQuery) -> Vec<CallPage> {
    let mut pages = Vec::new();
    loop {
        let page = store.calls(query.clone()).await.unwrap();
        query.cursor = page.next;
        pages.push(page);
        if query.cursor.is_none() {
            return pages;
        }
    }
}

pub(super) async fn tasks_come_newest_first(store: &dyn Store) {
    let mut log = SessionWriter::stored(store, 0).await;
    // Several of each moment: then the id decides.
    let mut calls: Vec<Call> = (0..20).map(|n| log.task(n / 3)).collect();
    log.put(store, &calls).await;
    calls.sort_by_key(|call| Reverse((call.create_time, call.id)));
    assert_eq!(store.calls(tasks(100)).await.unwrap().calls, calls);

    let pages = all_pages(store, tasks(7)).await;
    let sizes: Vec<usize> = pages.iter().map(|page| page.calls.len()).collect();
    assert_eq!(sizes, [7, 7, 6]);
    let paged: Vec<Call> = pages.into_iter().flat_map(|page| page.calls).collect();
    assert_eq!(paged, calls);
}

pub(super) async fn calls_in_the_foreground_are_not_listed(store: &dyn Store) {
    let mut log = SessionWriter::stored(store, 0).await;
    let call = log.call(1);
    log.put_one(store, &call).await;
    assert_eq!(store.calls(tasks(9)).await.unwrap().calls, []);
    let parked = Call { park_time: Some(at(5)), ..call };
    log.put_one(store, &parked).await;
    assert_eq!(store.calls(tasks(9)).await.unwrap().calls, [parked]);
}

/// Tasks of two sessions and two tenants with every mix of state, kind and label.
async fn many_tasks(store: &dyn Store) -> (SessionWriter, Vec<Call>) {
    let mut one = SessionWriter::stored(store, 0).await;
    let mut two = SessionWriter::stored(store, 0).await;
    let mut foreign = SessionWriter::new(0);
    foreign.session.tenant = Tenant::new("other");
    let mut all = Vec::new();
    for n in 0..180_usize {
        let log = match n % 3 {
            0 => &mut one,
            1 => &mut two,
            _ => &mut foreign,
        };
        let mut call = log.task(n as i64 / 4);
        call.state = State::ALL[n / 3 % State::ALL.len()];
        call.kind = ToolKind::ALL[n / 7 % ToolKind::ALL.len()];
        call.labels = labels(&[("a", ["x", "y"][n / 2 % 2]), ("b", ["x", "y", "z"][n / 5 % 3])]);
        log.put_one(store, &call).await;
        all.push(call);
    }
    all.sort_by_key(|call| Reverse((call.create_time, call.id)));
    (one, all)
}

pub(super) async fn tasks_are_filtered(store: &dyn Store) {
    let (log, all) = many_tasks(store).await;
    let middle = all.iter().filter(|call| call.tenant == tenant()).nth(60).unwrap();
    let base = tasks(7);
    let mut queries = vec![
        base.clone(),
        CallQuery { tenant: Tenant::new("other"), ..base.clone() },
        CallQuery { tenant: Tenant::new("stranger"), ..base.clone() },
        CallQuery { session_id: Some(SessionWriter::new(0).id()), ..base.clone() },
        CallQuery { tenant: Tenant::new("other"), session_id: Some(log.id()), ..base.clone() },
    ];
    let states = [
        vec![],
        vec![State::Running],
        vec![State::Failed, State::Lost, State::Failed],
        State::ALL.to_vec(),
    ];
    let kinds = [vec![], vec![ToolKind::Agent], vec![ToolKind::Mcp, ToolKind::BuiltIn]];
    let marks = [labels(&[]), labels(&[("a", "x")]), labels(&[("a", "y"), ("b", "z")])];
    let times = [None, Some(middle.create_time)];
    for session_id in [None, Some(log.id())] {
        for created_after in times {
            for states in &states {
                for kinds in &kinds {
                    for labels in &marks {
                        let (states, kinds) = (states.clone(), kinds.clone());
                        let labels = labels.clone();
                        let base = CallQuery { session_id, created_after, ..base.clone() };
                        queries.push(CallQuery { states, kinds, labels, ..base });
                    }
                }
            }
        }
    }
    queries.push(CallQuery { labels: labels(&[("a", "z")]), ..base.clone() });
    queries.push(CallQuery { labels: labels(&[("c", "x")]), ..base.clone() });
    for digits in [1, 2, 32] {
        let id = middle.id.background();
        let ids = CallId::parse_background_beginning(&id[..3 + digits]).unwrap();
        queries.push(CallQuery { ids, ..base.clone() });
        queries.push(CallQuery { ids, states: vec![State::Failed], ..base.clone() });
        queries.push(CallQuery { ids, session_id: Some(log.id()), ..base.clone() });
    }
    for query in queries {
        let expected: Vec<CallId> =
            all.iter().filter(|call| matches(&query, call)).map(|call| call.id).collect();
        let pages = all_pages(store, query.clone()).await;
        let found: Vec<CallId> = pages.iter().flat_map(|page| ids(&page.calls)).collect();
        assert_eq!(found, expected, "{query:?}");
    }
}

fn matches(query: &CallQuery, call: &Call) -> bool {
    call.tenant == query.tenant
        && query.session_id.is_none_or(|id| id == call.session_id)
        && (query.states.is_empty() || query.states.contains(&call.state))
        && (query.kinds.is_empty() || query.kinds.contains(&call.kind))
        && query.labels.iter().all(|(key, value)| call.labels.get(key) == Some(value))
        && query.created_after.is_none_or(|time| call.create_time > time)
        && query.ids.contains(call.id.as_bytes())
}

pub(super) async fn a_full_page_at_the_end_has_no_next(store: &dyn Store) {
    let mut log = SessionWriter::stored(store, 0).await;
    let calls: Vec<Call> = (0..4).map(|n| log.task(n)).collect();
    log.put(store, &calls).await;
    let page = store.calls(tasks(2)).await.unwrap();
    let last = &calls[2];
    assert_eq!(page.next, Some(CallCursor { create_time: last.create_time, id: last.id }));
    let page = store.calls(CallQuery { cursor: page.next, ..tasks(2) }).await.unwrap();
    assert_eq!((ids(&page.calls), page.next), (vec![calls[1].id, calls[0].id], None));
}

pub(super) async fn pages_stay_stable_while_tasks_come_and_go(store: &dyn Store) {
    let mut log = SessionWriter::stored(store, 0).await;
    let calls: Vec<Call> = (0..30).map(|n| log.task(n / 2)).collect();
    log.put(store, &calls).await;
    let (going, staying) = calls.split_at(10);
    let mut going = going.iter();
    let mut seen = Vec::new();
    let mut query = tasks(3);
    loop {
        let page = store.calls(query.clone()).await.unwrap();
        seen.extend(ids(&page.calls));
        query.cursor = page.next;
        if query.cursor.is_none() {
            break;
        }
        // Between any two pages one comes, one goes, and those that stay change.
        let comes = log.task(seen.len() as i64 / 2);
        let changed = staying.iter().map(|call| Call { revision: 9, ..call.clone() });
        let calls = changed.chain([comes]).collect();
        let deleted_calls = going.next().map(|call| call.id).into_iter().collect();
        log.commit(store, Append { calls, deleted_calls, ..log.append() }).await;
    }
    for call in staying {
        assert_eq!(seen.iter().filter(|id| **id == call.id).count(), 1);
    }
    let distinct: std::collections::BTreeSet<_> = seen.iter().collect();
    assert_eq!(distinct.len(), seen.len(), "nothing is shown twice");
}

fn all_sessions(limit: u32) -> SessionQuery {
    SessionQuery::newest(tenant(), limit)
}

async fn all_session_pages(store: &dyn Store, mut query: SessionQuery) -> Vec<Session> {
    let mut sessions = Vec::new();
    loop {
        let SessionPage { sessions: found, next, .. } =
            store.sessions(query.clone()).await.unwrap();
        assert!(found.len() <= query.limit as usize);
        let last = found.last().filter(|_| next.is_some());
        let end = last.map(|last| SessionCursor { create_time: last.create_time, id: last.id });
        assert_eq!(next, end);
        sessions.extend(found);
        query.cursor = next;
        if next.is_none() {
            return sessions;
        }
    }
}

pub(super) async fn sessions_come_newest_first_and_filtered(store: &dyn Store) {
    let mut all = Vec::new();
    for n in 0..30 {
        let mut log = SessionWriter::new(n as i64 / 3);
        log.session.tenant = Tenant::new(["tenant", "other"][n % 7 / 6]);
        log.session.labels = labels(&[("a", ["x", "y"][n % 2])]);
        log.save(store).await;
        // Filters see the state as it is now.
        log.session.state =
            [SessionState::Open, SessionState::Closing, SessionState::Closed][n % 3];
        log.save(store).await;
        all.push(log.session);
    }
    all.sort_by_key(|session| Reverse((session.create_time, session.id)));
    let base = all_sessions(4);
    for states in
        [vec![], vec![SessionState::Closing], vec![SessionState::Open, SessionState::Closed]]
    {
        for wanted in [labels(&[]), labels(&[("a", "y")])] {
            for created_after in [None, Some(at(4))] {
                let expected: Vec<Session> = all
                    .iter()
                    .filter(|session| {
                        session.tenant == tenant()
                            && (states.is_empty() || states.contains(&session.state))
                            && wanted.iter().all(|(k, v)| session.labels.get(k) == Some(v))
                            && created_after.is_none_or(|time| session.create_time > time)
                    })
                    .cloned()
                    .collect();
                let (states, labels) = (states.clone(), wanted.clone());
                let query = SessionQuery { states, labels, created_after, ..base.clone() };
                let found = all_session_pages(store, query.clone()).await;
                assert_eq!(found, expected, "{query:?}");
            }
        }
    }
    let one = all.iter().find(|session| session.tenant == tenant()).unwrap();
    let ids = SessionId::parse_beginning(&one.id.to_string()).unwrap();
    let found = all_session_pages(store, SessionQuery { ids, ..base }).await;
    assert_eq!(found, std::slice::from_ref(one));
}

pub(super) async fn session_pages_show_current_counts(store: &dyn Store) {
    let mut log = SessionWriter::stored(store, 0).await;
    log.write(store, 3).await;
    log.put(store, &[log.call(0)]).await;
    let page = store.sessions(all_sessions(5)).await.unwrap();
    let session = Session { head_sequence: 3, live_tasks: 1, ..log.session };
    assert_eq!(page.sessions, [session]);
}
