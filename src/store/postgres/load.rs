//! The rows that a group of appends is checked against, read under the locks of its sessions.

use std::collections::{HashMap, HashSet};

use tokio_postgres::Row;
use uuid::Uuid;

use super::columns::{call_id, call_uuid, count, get, session_id, session_uuid};
use super::error::PostgresError;
use super::output::{COUNTS_COLUMNS, counts};
use super::pipeline::{Pipeline, Statements};
use crate::model::{CallId, SessionId};
use crate::store::prepared::Prepared;
use crate::store::rules::OutputCounts;
use crate::store::session_row::SessionRow;

/// The row of a call before an append.
#[derive(Debug, Clone, Copy)]
pub(super) struct CallRow {
    pub(super) session_key: i64,
    pub(super) live: bool,
}

/// The rows that the appends of a group name, as they are stored.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) sessions: HashMap<SessionId, SessionRow>,
    pub(super) calls: HashMap<CallId, CallRow>,
    pub(super) outputs: HashMap<CallId, OutputCounts>,
    /// The sessions of stored follow-ups, by their tasks.
    pub(super) follow_ups: HashMap<CallId, SessionId>,
    /// The request ids that are taken, with their tenants.
    pub(super) requests: HashSet<(String, String)>,
    /// The newest change number.
    pub(super) change: u64,
    /// Keys for new sessions.
    pub(super) new_keys: Vec<i64>,
    /// The sessions that belong to other replicas, or to none.
    pub(super) foreign: HashSet<SessionId>,
    /// This replica was declared dead: it creates no sessions.
    pub(super) is_dead: bool,
}

/// The ids that the appends of a group name.
#[derive(Debug, Default)]
struct Names {
    sessions: Vec<Uuid>,
    calls: Vec<Uuid>,
    outputs: Vec<Uuid>,
    follow_ups: Vec<Uuid>,
    tenants: Vec<String>,
    request_ids: Vec<String>,
    new_sessions: i64,
    has_changes: bool,
}

impl Names {
    fn of<'a>(group: impl Iterator<Item = &'a Prepared>) -> Self {
        let mut names = Self::default();
        for Prepared { append, .. } in group {
            names.sessions.push(session_uuid(append.session_id));
            names.new_sessions += i64::from(append.expected_head.is_none());
            names.has_changes |= !append.calls.is_empty();
            names.calls.extend(append.calls.iter().map(|call| call_uuid(call.id)));
            names.calls.extend(append.deleted_calls.iter().copied().map(call_uuid));
            let pieces = append.events.iter().filter(|event| event.output.is_some());
            names.outputs.extend(pieces.filter_map(|event| event.call_id).map(call_uuid));
            names
                .follow_ups
                .extend(append.follow_ups.iter().map(|put| call_uuid(put.record.call_id)));
            for request in &append.requests {
                names.tenants.push(request.tenant.as_str().to_owned());
                names.request_ids.push(request.request_id.clone());
                names.calls.extend(request.effect.call_id().map(call_uuid));
                names.sessions.extend(request.effect.created_session().map(session_uuid));
            }
        }
        for ids in [&mut names.sessions, &mut names.calls, &mut names.outputs] {
            ids.sort_unstable();
            ids.dedup();
        }
        names
    }
}

/// The sessions are locked in the order of their ids, so that two writers never wait for each other.
const SESSIONS: &str = "SELECT id, key, head, first, live, calls, owner FROM sessions
     WHERE id = ANY($1) ORDER BY id FOR UPDATE";
const CALLS: &str = "SELECT id, session_key, live FROM calls WHERE id = ANY($1)";
const FOLLOW_UPS: &str = "SELECT call_id, session_id FROM follow_ups WHERE call_id = ANY($1)";
const REQUESTS: &str = "SELECT tenant, request_id FROM requests
     JOIN unnest($1::text[], $2::text[]) AS wanted (t, r) ON tenant = t AND request_id = r";
const NEW_KEYS: &str = "SELECT nextval('session_keys') FROM generate_series(1, $1::bigint)";
const IS_DEAD: &str = "SELECT NOT EXISTS (SELECT FROM replicas WHERE id = $1 AND state = 1)";
const CHANGE: &str = "SELECT value FROM counters WHERE name = 'change' FOR UPDATE";

/// Begins a transaction, and reads what the appends of the group name. `owner` is this replica, or `None`
/// if this server has the database alone.
pub(super) async fn begin(
    statements: &Statements<'_>,
    group: &[&Prepared],
    owner: Option<Uuid>,
) -> Result<Loaded, PostgresError> {
    let names = Names::of(group.iter().copied());
    let outputs = format!("SELECT {COUNTS_COLUMNS}, call_id FROM outputs WHERE call_id = ANY($1)");
    let sessions = statements.prepare(SESSIONS).await?;
    let calls = statements.prepare(CALLS).await?;
    let outputs = statements.prepare(&outputs).await?;
    let follow_ups = statements.prepare(FOLLOW_UPS).await?;
    let requests = statements.prepare(REQUESTS).await?;
    let new_keys = statements.prepare(NEW_KEYS).await?;
    let change = statements.prepare(CHANGE).await?;
    let is_dead = statements.prepare(IS_DEAD).await?;
    let mut pipeline = Pipeline::default();
    let client = statements.client();
    pipeline.batch(client, "BEGIN");
    pipeline.query_if(true, client, &sessions, vec![&names.sessions]);
    pipeline.query_if(!names.calls.is_empty(), client, &calls, vec![&names.calls]);
    pipeline.query_if(!names.outputs.is_empty(), client, &outputs, vec![&names.outputs]);
    pipeline.query_if(!names.follow_ups.is_empty(), client, &follow_ups, vec![&names.follow_ups]);
    let ids: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> =
        vec![&names.tenants, &names.request_ids];
    pipeline.query_if(!names.request_ids.is_empty(), client, &requests, ids);
    pipeline.query_if(names.new_sessions > 0, client, &new_keys, vec![&names.new_sessions]);
    pipeline.query_if(names.has_changes, client, &change, vec![]);
    let creates = owner.is_some() && names.new_sessions > 0;
    pipeline.query_if(creates, client, &is_dead, vec![&owner]);
    let results = pipeline.run().await?;
    loaded(results, owner)
}

fn loaded(results: Vec<Vec<Row>>, owner: Option<Uuid>) -> Result<Loaded, PostgresError> {
    let mut results = results.into_iter().skip(1);
    let mut next = || results.next().unwrap_or_default();
    let mut loaded = Loaded::default();
    for row in next() {
        let id = session_id(&row, 0)?;
        if owner.is_some() && get::<Option<Uuid>>(&row, 6)? != owner {
            loaded.foreign.insert(id);
        }
        loaded.sessions.insert(id, session_row(&row, 1)?);
    }
    for row in next() {
        let call = CallRow { session_key: get(&row, 1)?, live: get(&row, 2)? };
        loaded.calls.insert(call_id(&row, 0)?, call);
    }
    for row in next() {
        loaded.outputs.insert(call_id(&row, 9)?, counts(&row)?);
    }
    for row in next() {
        loaded.follow_ups.insert(call_id(&row, 0)?, session_id(&row, 1)?);
    }
    for row in next() {
        loaded.requests.insert((get(&row, 0)?, get(&row, 1)?));
    }
    for row in next() {
        loaded.new_keys.push(get(&row, 0)?);
    }
    if let Some(row) = next().first() {
        loaded.change = count(row, 0)?;
    }
    if let Some(row) = next().first() {
        loaded.is_dead = get(row, 0)?;
    }
    Ok(loaded)
}

/// Reads the columns key, head, first, live and calls.
pub(super) fn session_row(row: &Row, column: usize) -> Result<SessionRow, PostgresError> {
    Ok(SessionRow {
        key: get(row, column)?,
        head: count(row, column + 1)?,
        first: count(row, column + 2)?,
        live: count(row, column + 3)?,
        calls: count(row, column + 4)?,
    })
}
