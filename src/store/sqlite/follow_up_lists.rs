//! Pages of follow-ups: lists, and those that are due. One that cannot be read back is named, and
//! does not withhold the others.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension, params};

use super::columns::{SqlTime, call_id, session_id, time};
use super::error::{SqliteError, readable};
use super::follow_ups::{record_in, with_task_in};
use super::lists::{Scope, behind, fill, merged, scope};
use crate::model::{FollowUp, SessionId, Tenant, Timestamp};
use crate::store::rules::Due;
use crate::store::{
    CallCursor, DueFollowUps, DueQuery, DueScope, DueSessions, FollowUpPage, FollowUpQuery,
};

/// Lists follow-ups with their tasks, newest first. Those that cannot be read back count as a part
/// of the page.
pub(super) fn list(
    connection: &Connection,
    query: &FollowUpQuery,
) -> Result<FollowUpPage, SqliteError> {
    let mut page = FollowUpPage { follow_ups: Vec::new(), unreadable: Vec::new(), next: None };
    let Some(scope) = scope(connection, query.session_id)? else { return Ok(page) };
    let cursor = query.cursor.map(|cursor| (cursor.create_time, *cursor.id.as_bytes()));
    let (before, id) = behind(cursor);
    let states = query.states.iter().map(|state| state.number()).collect();
    let mut statement = connection.prepare_cached(&list_sql(scope, states))?;
    let tenant = query.tenant.as_str();
    let mut rows = statement.query(params![tenant, scope.key(), before, id])?;
    let (found, more) = fill(&mut rows, query.limit, |row| {
        // The columns give the position, even if the body cannot be read.
        let position = CallCursor { create_time: time(row, 2)?, id: call_id(row, 3)? };
        Ok(Some((position, readable(with_task_in(row))?)))
    })?;
    page.next = found.last().filter(|_| more).map(|(position, _)| *position);
    for (position, follow_up) in found {
        match follow_up {
            Some(follow_up) => page.follow_ups.push(follow_up),
            None => page.unreadable.push(position.id),
        }
    }
    Ok(page)
}

/// Returns the follow-ups that are due, in the order of their times. Those that cannot be read back
/// do not count: they stay due, and would fill the page forever.
pub(super) fn due(connection: &Connection, query: &DueQuery) -> Result<DueFollowUps, SqliteError> {
    let (tenant, session_id) = match &query.scope {
        DueScope::Session(id) => (None, Some(id)),
        DueScope::Lease(tenant, id) => (Some(tenant.as_str()), id.as_ref()),
        DueScope::Leased => (None, None),
    };
    let session_id = session_id.map(SessionId::as_bytes);
    let params = params![tenant, session_id, SqlTime(query.now)];
    let mut page = DueFollowUps::default();
    let mut statement = connection.prepare_cached(&due_sql(&query.scope))?;
    let mut rows = statement.query(params)?;
    while page.records.len() < query.limit as usize
        && let Some(row) = rows.next()?
    {
        match readable(record_in(row))? {
            Some(record) => page.records.push(record),
            None => page.unreadable.push(call_id(row, 1)?),
        }
    }
    page.next = first_time(connection, &next_sql(&query.scope), params)?;
    Ok(page)
}

/// Returns the sessions with a follow-up that is due for delivery by the engine.
pub(super) fn sessions(
    connection: &Connection,
    now: Timestamp,
    limit: u32,
) -> Result<DueSessions, SqliteError> {
    let mut page = DueSessions::default();
    let mut seen = HashSet::new();
    let mut statement = connection.prepare_cached(&sessions_sql())?;
    let mut rows = statement.query([SqlTime(now)])?;
    while page.sessions.len() < limit as usize
        && let Some(row) = rows.next()?
    {
        let id = session_id(row, 1)?;
        if seen.insert(id) {
            let tenant = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
            page.sessions.push((Tenant::new(tenant), id));
        }
    }
    page.next = first_time(connection, &next_session_sql(), [SqlTime(now)])?;
    Ok(page)
}

/// Returns the follow-ups that are leased for a request, oldest first. There are no more than one
/// request may lease, so they are sorted here.
pub(super) fn leased(
    connection: &Connection,
    tenant: &Tenant,
    request_id: &str,
) -> Result<Vec<FollowUp>, SqliteError> {
    let mut statement = connection.prepare_cached(LEASED_SQL)?;
    let mut rows = statement.query(params![tenant.as_str(), request_id])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.extend(readable(record_in(row))?);
    }
    found.sort_by_key(|record| (record.create_time, record.call_id));
    Ok(found)
}

fn first_time(
    connection: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
) -> rusqlite::Result<Option<Timestamp>> {
    connection.prepare_cached(sql)?.query_row(params, |row| time(row, 0)).optional()
}

fn list_sql(scope: Scope, states: Vec<u8>) -> String {
    let index = match (scope, states.is_empty()) {
        (Scope::Tenant, true) => "follow_ups_by_tenant",
        (Scope::Tenant, false) => "follow_ups_by_tenant_state",
        (Scope::Session(_), true) => "follow_ups_by_session",
        (Scope::Session(_), false) => "follow_ups_by_session_state",
    };
    let scope = scope.condition("?2");
    let select = format!(
        "SELECT f.body, t.body, f.create_time AS create_time, f.call_id AS id
         FROM follow_ups f INDEXED BY {index} LEFT JOIN follow_up_tasks t ON t.key = f.key
         WHERE {scope} AND (f.create_time, f.call_id) < (?3, ?4)"
    );
    merged(&select, "f.state", states)
}

/// Returns the rows of a scope, through the index in the order of their times. The parameters are
/// the tenant, the session and the time, for all queries.
fn among(scope: &DueScope) -> String {
    let of_session = " AND session_key = (SELECT key FROM sessions WHERE id = ?2)";
    let (index, what, filter) = match scope {
        DueScope::Session(_) => ("follow_ups_due_in_session", Due::Delivery, of_session.to_owned()),
        DueScope::Lease(_, Some(_)) => {
            ("follow_ups_due_in_session", Due::Lease, format!("{of_session} AND tenant = ?1"))
        }
        DueScope::Lease(_, None) => {
            ("follow_ups_to_lease", Due::Lease, " AND tenant = ?1".to_owned())
        }
        DueScope::Leased => ("follow_ups_to_lapse", Due::LeaseExpiry, String::new()),
    };
    let kind = what.number();
    format!("follow_ups INDEXED BY {index} WHERE due_kind = {kind}{filter}")
}

fn due_sql(scope: &DueScope) -> String {
    let among = among(scope);
    format!("SELECT body, call_id FROM {among} AND due_time <= ?3 ORDER BY due_time, key")
}

fn next_sql(scope: &DueScope) -> String {
    let among = among(scope);
    format!("SELECT due_time FROM {among} AND due_time > ?3 ORDER BY due_time LIMIT 1")
}

/// Returns the rows of all sessions that the engine delivers.
fn to_deliver() -> String {
    let kind = Due::Delivery.number();
    format!("follow_ups INDEXED BY follow_ups_to_deliver WHERE due_kind = {kind}")
}

fn sessions_sql() -> String {
    let to_deliver = to_deliver();
    format!("SELECT tenant, session_id FROM {to_deliver} AND due_time <= ?1 ORDER BY due_time, key")
}

fn next_session_sql() -> String {
    let to_deliver = to_deliver();
    format!("SELECT due_time FROM {to_deliver} AND due_time > ?1 ORDER BY due_time LIMIT 1")
}

const LEASED_SQL: &str = "SELECT body FROM follow_ups INDEXED BY follow_ups_of_request
     WHERE tenant = ?1 AND lease_request = ?2";

/// Returns the SQL of every kind of list.
#[cfg(test)]
pub(super) fn every_list_sql() -> Vec<String> {
    let mut all = Vec::new();
    for states in [vec![], vec![3], (1..=5).collect::<Vec<u8>>()] {
        for scope in [Scope::Tenant, Scope::Session(1)] {
            all.push(list_sql(scope, states.clone()));
        }
    }
    all
}

/// Returns the SQL of every other query.
#[cfg(test)]
pub(super) fn every_due_sql() -> Vec<String> {
    let (session, tenant) = (SessionId::random(), Tenant::new("tenant"));
    let scopes = [
        DueScope::Session(session),
        DueScope::Lease(tenant.clone(), None),
        DueScope::Lease(tenant, Some(session)),
        DueScope::Leased,
    ];
    let of_scopes = scopes.iter().flat_map(|scope| [due_sql(scope), next_sql(scope)]);
    let of_all = [sessions_sql(), next_session_sql(), LEASED_SQL.to_owned()];
    of_scopes.chain(of_all).collect()
}
