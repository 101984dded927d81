//! All that can be read from a store.

use std::fmt::Debug;

use callpark::model::{
    CallId, FollowUpState, Labels, PayloadKind, SessionId, SessionState, State, Tenant, Timestamp,
    ToolKind,
};
use callpark::store::{
    CallQuery, ChangeQuery, DueQuery, DueScope, EventQuery, FollowUpQuery, OutputFrom, OutputQuery,
    OutputSelection, SessionQuery, Store,
};
use rusqlite::Connection;

use super::Source;

/// The ids in a store.
pub(crate) struct Ids {
    tenants: Vec<Tenant>,
    sessions: Vec<SessionId>,
    calls: Vec<CallId>,
    requests: Vec<(Tenant, String)>,
}

impl Ids {
    /// Reads the ids in a store that is not open.
    pub(crate) fn of(source: &Source) -> Self {
        let database = Connection::open(source.database()).expect("a database");
        let ids = |sql: &str| {
            let mut statement = database.prepare(sql).expect(sql);
            let ids = statement.query_map([], |row| row.get::<_, [u8; 16]>(0)).expect(sql);
            ids.map(|id| id.expect("an id")).collect::<Vec<_>>()
        };
        // Calls that are deleted are in events and follow-ups.
        let calls = "SELECT id FROM calls UNION SELECT call_id FROM follow_ups
            UNION SELECT call_id FROM events WHERE call_id IS NOT NULL";
        let mut requests =
            database.prepare("SELECT tenant, request_id FROM requests").expect("SQL");
        let requests = requests
            .query_map([], |row| Ok((Tenant::new(row.get::<_, String>(0)?.as_str()), row.get(1)?)));
        let mut tenants = database.prepare("SELECT DISTINCT tenant FROM sessions").expect("SQL");
        let tenants =
            tenants.query_map([], |row| Ok(Tenant::new(row.get::<_, String>(0)?.as_str())));
        Self {
            tenants: tenants.expect("tenants").map(|tenant| tenant.expect("a tenant")).collect(),
            sessions: ids("SELECT id FROM sessions")
                .into_iter()
                .map(SessionId::from_bytes)
                .collect(),
            calls: ids(calls).into_iter().map(CallId::from_bytes).collect(),
            requests: requests
                .expect("requests")
                .map(|request| request.expect("a request"))
                .collect(),
        }
    }
}

/// The answers of a store, each with a name.
pub(crate) struct Dump(Vec<(String, String)>);

impl Dump {
    fn add(&mut self, name: impl Into<String>, value: impl Debug) {
        self.0.push((name.into(), format!("{value:?}")));
    }

    /// Checks that another store answers the same.
    pub(crate) fn check(&self, other: &Self) {
        assert_eq!(self.0.len(), other.0.len());
        for ((name, value), (other_name, other_value)) in self.0.iter().zip(&other.0) {
            assert_eq!((name, value), (other_name, other_value));
        }
    }
}

/// Reads everything that a store has about the ids.
pub(crate) async fn dump(store: &dyn Store, ids: &Ids) -> Dump {
    let mut dump = Dump(Vec::new());
    dump.add("key", store.page_token_key().authenticate(&[7; 32], b"token"));
    dump.add("newest time", store.newest_time().await);
    dump.add("live sessions", store.sessions_with_live_calls(None, 1_000).await);
    for tenant in &ids.tenants {
        dump.add("leased", store.leased_follow_ups(tenant, "lease").await);
        sessions(store, tenant, &mut dump).await;
        let scopes = ids.sessions.iter().map(|id| Some(*id));
        for scope in scopes.chain([None]) {
            tasks(store, tenant, scope, &mut dump).await;
            follow_ups(store, tenant, scope, &mut dump).await;
        }
    }
    for id in &ids.sessions {
        session(store, *id, &mut dump).await;
    }
    for id in &ids.calls {
        call(store, *id, &mut dump).await;
    }
    for (tenant, id) in &ids.requests {
        dump.add(format!("request {id}"), store.request(tenant, id).await);
    }
    for now in [0, 1_000_045, 1_000_050, 2_000_000].map(Timestamp::from_micros) {
        dump.add("due sessions", store.sessions_with_due_follow_ups(now, 100).await);
        let query = DueQuery { scope: DueScope::Leased, now, limit: 100 };
        dump.add("due leases", store.due_follow_ups(query).await);
    }
    dump
}

async fn sessions(store: &dyn Store, tenant: &Tenant, dump: &mut Dump) {
    let closing: Labels = [("state".to_owned(), "closing".to_owned())].into_iter().collect();
    for states in [vec![], SessionState::ALL.to_vec(), vec![SessionState::Closed]] {
        for labels in [Labels::new(), closing.clone()] {
            let newest = SessionQuery::newest(tenant.clone(), 2);
            let mut query = SessionQuery { states: states.clone(), labels, ..newest };
            loop {
                let page = store.sessions(query.clone()).await.expect("a page");
                query.cursor = page.next;
                dump.add(format!("{query:?}"), &page);
                if page.next.is_none() {
                    break;
                }
            }
        }
    }
}

async fn tasks(store: &dyn Store, tenant: &Tenant, session_id: Option<SessionId>, dump: &mut Dump) {
    let live: Vec<_> = State::ALL.iter().copied().filter(|state| !state.is_terminal()).collect();
    let labelled: Labels = [("kind".to_owned(), "ü".to_owned())].into_iter().collect();
    for (states, kinds) in [(vec![], vec![]), (live, vec![ToolKind::Command])] {
        for labels in [Labels::new(), labelled.clone()] {
            let newest = CallQuery::newest(tenant.clone(), 7);
            let (kinds, states) = (kinds.clone(), states.clone());
            let mut query = CallQuery { session_id, states, kinds, labels, ..newest };
            loop {
                let page = store.calls(query.clone()).await.expect("a page");
                query.cursor = page.next;
                dump.add(format!("{query:?}"), &page);
                if page.next.is_none() {
                    break;
                }
            }
        }
    }
    let mut query = ChangeQuery { tenant: tenant.clone(), session_id, after: 0, limit: 9 };
    loop {
        let page = store.changes(query.clone()).await.expect("a page");
        query.after = page.change;
        dump.add(format!("{query:?}"), &page);
        if !page.more {
            break;
        }
    }
}

async fn follow_ups(
    store: &dyn Store,
    tenant: &Tenant,
    session_id: Option<SessionId>,
    dump: &mut Dump,
) {
    for states in [vec![], FollowUpState::ALL.to_vec(), vec![FollowUpState::DeadLettered]] {
        let (tenant, cursor) = (tenant.clone(), None);
        let mut query = FollowUpQuery { tenant, session_id, states, cursor, limit: 3 };
        loop {
            let page = store.follow_ups(query.clone()).await.expect("a page");
            query.cursor = page.next;
            dump.add(format!("{query:?}"), &page);
            if page.next.is_none() {
                break;
            }
        }
    }
    for now in [0, 1_000_050].map(Timestamp::from_micros) {
        let mut scopes = vec![DueScope::Lease(tenant.clone(), session_id)];
        scopes.extend(session_id.map(DueScope::Session));
        for scope in scopes {
            let query = DueQuery { scope, now, limit: 4 };
            dump.add(format!("{query:?}"), store.due_follow_ups(query).await);
        }
    }
}

async fn session(store: &dyn Store, id: SessionId, dump: &mut Dump) {
    dump.add(format!("session {id}"), store.session(id).await);
    dump.add("live calls", store.live_calls(id).await);
    dump.add("messages", store.messages(id, 1_000_000).await);
    dump.add("newest messages", store.messages(id, 40).await);
    dump.add("messages after", store.messages_after(id, 3, 5, 1_000).await);
    for kinds in [vec![], vec![PayloadKind::ToolOutput]] {
        let mut after = 0;
        loop {
            let (scan_max, bytes_max, kinds) = (13, 5_000_000, kinds.clone());
            let query =
                EventQuery { session_id: id, after, kinds, call_id: None, scan_max, bytes_max };
            let page = store.events(query).await;
            dump.add(format!("events of {id} after {after}"), &page);
            let Ok(page) = page else { break };
            if page.scanned_to >= page.head {
                break;
            }
            after = page.scanned_to;
        }
    }
}

async fn call(store: &dyn Store, call_id: CallId, dump: &mut Dump) {
    dump.add(format!("call {call_id}"), store.call(call_id).await);
    dump.add("follow-up", store.follow_up(call_id).await);
    dump.add("follow-up with task", store.follow_up_with_task(call_id).await);
    for selection in [OutputSelection::Stdout, OutputSelection::Stderr, OutputSelection::Combined] {
        for from in [OutputFrom::Offset(0), OutputFrom::Offset(7), OutputFrom::Tail(6)] {
            let query = OutputQuery { call_id, selection, from, bytes_max: 1_000 };
            dump.add(format!("output {query:?}"), store.output(query).await);
        }
    }
}
