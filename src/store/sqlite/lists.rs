//! Lists of sessions and tasks. The cost of a page depends on its length only: a query follows an
//! index in the order of the list, several states are as many queries that SQLite merges, and
//! reading stops as soon as the page is full. Labels and kinds are checked row by row on the way.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Deserialize;

use super::columns::{SqlTime, SqlU64, call_id, count, kind_mask, session_id, time};
use super::error::{SqliteError, readable};
use super::read::call_in;
use super::record;
use super::session_cache::{self, SESSION_COLUMNS, SESSION_COLUMNS_COUNT};
use crate::model::{Labels, SessionId, SessionState, Tenant, Timestamp};
use crate::store::rules::{has_labels, split};
use crate::store::{
    CallCursor, CallPage, CallQuery, ChangePage, ChangeQuery, SessionCursor, SessionPage,
    SessionQuery,
};

/// Lists sessions, newest first.
pub(super) fn sessions(
    connection: &Connection,
    query: &SessionQuery,
) -> Result<SessionPage, SqliteError> {
    let cursor = query.cursor.map(|cursor| (cursor.create_time, *cursor.id.as_bytes()));
    let (before, id) = behind(cursor);
    let since = since(query.created_after);
    let states = query.states.iter().map(|state| state.number()).collect();
    let mut statement = connection.prepare_cached(&sessions_sql(states))?;
    let [first, last] = query.ids.bounds();
    let tenant = query.tenant.as_str();
    let mut rows = statement.query(params![tenant, before, id, since, first, last])?;
    let (found, more) = fill(&mut rows, query.limit, |row| {
        let create_time = time(row, SESSION_COLUMNS_COUNT)?;
        let id = session_id(row, SESSION_COLUMNS_COUNT + 1)?;
        entry(row, &query.labels, SessionCursor { create_time, id }, session_cache::session)
    })?;
    let next = found.last().filter(|_| more).map(|(position, _)| *position);
    let (sessions, unreadable) = split(found);
    let unreadable = unreadable.into_iter().map(|position| position.id).collect();
    Ok(SessionPage { sessions, unreadable, next })
}

/// Counts the open sessions of a tenant that are not implicit, up to `count_max`.
pub(super) fn open_sessions(
    connection: &Connection,
    tenant: &Tenant,
    count_max: u32,
) -> Result<u32, SqliteError> {
    let sql = "SELECT count(*) FROM (SELECT 1 FROM sessions
        WHERE tenant = ?1 AND state = ?2 AND implicit = 0 LIMIT ?3)";
    let open = SessionState::Open.number();
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_row(params![tenant.as_str(), open, count_max], |row| row.get(0))?)
}

/// Lists background tasks, newest first.
pub(super) fn calls(connection: &Connection, query: &CallQuery) -> Result<CallPage, SqliteError> {
    let change = newest_change(connection)?;
    let Some(scope) = scope(connection, query.session_id)? else {
        return Ok(CallPage { calls: Vec::new(), unreadable: Vec::new(), next: None, change });
    };
    let cursor = query.cursor.map(|cursor| (cursor.create_time, *cursor.id.as_bytes()));
    let (before, id) = behind(cursor);
    let since = since(query.created_after);
    let kinds = kind_mask(&query.kinds);
    let states = query.states.iter().map(|state| state.number()).collect();
    let mut statement = connection.prepare_cached(&calls_sql(scope, states))?;
    let [first, last] = query.ids.bounds();
    let tenant = query.tenant.as_str();
    let values = params![tenant, before, id, since, scope.key(), kinds, first, last];
    let mut rows = statement.query(values)?;
    let (found, more) = fill(&mut rows, query.limit, |row| {
        let position = CallCursor { create_time: time(row, 1)?, id: call_id(row, 2)? };
        entry(row, &query.labels, position, |row| call_in(row, 0))
    })?;
    let next = found.last().filter(|_| more).map(|(position, _)| *position);
    let (calls, unreadable) = split(found);
    let unreadable = unreadable.into_iter().map(|position| position.id).collect();
    Ok(CallPage { calls, unreadable, next, change })
}

/// Lists background tasks in the order of their last change.
pub(super) fn changes(
    connection: &Connection,
    query: &ChangeQuery,
) -> Result<ChangePage, SqliteError> {
    let newest = newest_change(connection)?;
    let Some(scope) = scope(connection, query.session_id)? else {
        let (calls, unreadable) = (Vec::new(), Vec::new());
        return Ok(ChangePage { calls, unreadable, change: newest, more: false });
    };
    let mut statement = connection.prepare_cached(&changes_sql(scope))?;
    let tenant = query.tenant.as_str();
    let mut rows = statement.query(params![tenant, scope.key(), SqlU64(query.after)])?;
    let (found, more) = fill(&mut rows, query.limit, |row| {
        let position = (count(row, 1)?, call_id(row, 2)?);
        entry(row, &Labels::new(), position, |row| call_in(row, 0))
    })?;
    let change = match found.last() {
        _ if !more => newest,
        Some(((number, _), _)) => *number,
        None => query.after,
    };
    let (calls, unreadable) = split(found);
    let unreadable = unreadable.into_iter().map(|(_, id)| id).collect();
    Ok(ChangePage { calls, unreadable, change, more })
}

/// Returns the newest change number.
pub(super) fn newest_change(connection: &Connection) -> rusqlite::Result<u64> {
    connection
        .prepare_cached("SELECT value FROM counters WHERE name = 'change'")?
        .query_row([], |row| count(row, 0))
}

/// The rows that a list covers.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scope {
    Tenant,
    /// The session with this key.
    Session(i64),
}

impl Scope {
    pub(super) fn key(self) -> Option<i64> {
        match self {
            Self::Tenant => None,
            Self::Session(key) => Some(key),
        }
    }

    /// Returns the condition of the rows. The session of another tenant has none.
    pub(super) fn condition(self, key: &str) -> String {
        match self {
            Self::Tenant => "tenant = ?1".to_owned(),
            Self::Session(_) => format!("session_key = {key} AND tenant = ?1"),
        }
    }
}

/// Returns the scope of a query, or `None` if there is no such session and so nothing to list.
pub(super) fn scope(
    connection: &Connection,
    id: Option<SessionId>,
) -> rusqlite::Result<Option<Scope>> {
    let Some(id) = id else { return Ok(Some(Scope::Tenant)) };
    let key = connection
        .prepare_cached("SELECT key FROM sessions WHERE id = ?1")?
        .query_row([id.as_bytes()], |row| row.get(0))
        .optional()?;
    Ok(key.map(Scope::Session))
}

fn sessions_sql(states: Vec<u8>) -> String {
    let index = if states.is_empty() { "sessions_by_tenant" } else { "sessions_by_state" };
    let select = format!(
        "SELECT {SESSION_COLUMNS}, s.create_time AS create_time, s.id AS id
         FROM sessions s INDEXED BY {index}
             CROSS JOIN session_bodies b ON b.session_key = s.key
         WHERE s.tenant = ?1 AND (s.create_time, s.id) < (?2, ?3) AND s.create_time >= ?4
             AND s.id BETWEEN ?5 AND ?6"
    );
    merged(&select, "s.state", states)
}

fn calls_sql(scope: Scope, states: Vec<u8>) -> String {
    let index = match (scope, states.is_empty()) {
        (Scope::Tenant, true) => "tasks_by_tenant",
        (Scope::Tenant, false) => "tasks_by_tenant_state",
        (Scope::Session(_), true) => "tasks_by_session",
        (Scope::Session(_), false) => "tasks_by_session_state",
    };
    let scope = scope.condition("?5");
    let select = format!(
        "SELECT body, create_time, id FROM calls INDEXED BY {index}
         WHERE is_task = 1 AND {scope} AND (create_time, id) < (?2, ?3) AND create_time >= ?4
             AND ((?6 >> kind) & 1) = 1 AND id BETWEEN ?7 AND ?8"
    );
    merged(&select, "state", states)
}

fn changes_sql(scope: Scope) -> String {
    let index = match scope {
        Scope::Tenant => "changes_by_tenant",
        Scope::Session(_) => "changes_by_session",
    };
    let scope = scope.condition("?2");
    format!(
        "SELECT body, change_number, id FROM calls INDEXED BY {index}
         WHERE is_task = 1 AND {scope} AND change_number > ?3 ORDER BY change_number"
    )
}

/// Merges one query for each state, or one for all, in the order of the list.
pub(super) fn merged(select: &str, column: &str, mut states: Vec<u8>) -> String {
    // Otherwise a state that is named twice would list its rows twice.
    states.sort_unstable();
    states.dedup();
    let walk = |state| format!("{select} AND {column} = {state}");
    let walks: Vec<String> = states.iter().map(walk).collect();
    let walks = if walks.is_empty() { select.to_owned() } else { walks.join(" UNION ALL ") };
    format!("{walks} ORDER BY create_time DESC, id DESC")
}

/// Returns the position after which the page begins: that of the cursor, or one that is later than
/// any row's.
pub(super) fn behind(cursor: Option<(Timestamp, [u8; 16])>) -> (SqlTime, Vec<u8>) {
    let end = || (SqlTime(Timestamp::from_micros(i64::MAX)), vec![u8::MAX; 17]);
    cursor.map_or_else(end, |(time, id)| (SqlTime(time), id.to_vec()))
}

/// Returns the first time that the list may contain.
fn since(created_after: Option<Timestamp>) -> i64 {
    created_after.map_or(i64::MIN, |time| time.as_micros().saturating_add(1))
}

/// The part of a record that label filters read. The rest is not parsed.
#[derive(Deserialize)]
struct Marks {
    #[serde(default)]
    labels: Labels,
}

/// Returns whether the record in the first column has all of these labels.
fn labels_match(row: &Row<'_>, wanted: &Labels) -> Result<bool, SqliteError> {
    if wanted.is_empty() {
        return Ok(true);
    }
    let marks: Marks = record::decode(row, 0, "labels")?;
    Ok(has_labels(&marks.labels, wanted))
}

/// Reads a row that has these labels, or returns `None` for other rows. A record that cannot be read
/// leaves its position, which the columns give.
fn entry<P, T>(
    row: &Row<'_>,
    labels: &Labels,
    position: P,
    read: impl Fn(&Row<'_>) -> Result<T, SqliteError>,
) -> Result<Option<(P, Option<T>)>, SqliteError> {
    let record = match labels_match(row, labels) {
        Ok(false) => return Ok(None),
        Ok(true) => read(row),
        Err(error) => Err(error),
    };
    Ok(Some((position, readable(record)?)))
}

/// Returns the first `limit` rows that `read` accepts, and whether there is one more.
pub(super) fn fill<T>(
    rows: &mut rusqlite::Rows<'_>,
    limit: u32,
    mut read: impl FnMut(&Row<'_>) -> Result<Option<T>, SqliteError>,
) -> Result<(Vec<T>, bool), SqliteError> {
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let Some(item) = read(row)? else { continue };
        if found.len() == limit as usize {
            return Ok((found, true));
        }
        found.push(item);
    }
    Ok((found, false))
}

/// Returns the SQL of every kind of list.
#[cfg(test)]
pub(super) fn every_sql() -> Vec<String> {
    let mut all = Vec::new();
    for states in [vec![], vec![3], (1..=9).collect::<Vec<u8>>()] {
        all.push(sessions_sql(states.clone()));
        for scope in [Scope::Tenant, Scope::Session(1)] {
            all.push(calls_sql(scope, states.clone()));
            all.push(changes_sql(scope));
        }
    }
    all
}
