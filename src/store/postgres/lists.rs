//! Lists of sessions, tasks and follow-ups. The cost of a page depends on its length only: a query
//! follows an index in the order of the list, and several states are as many queries that the database
//! merges.

use deadpool_postgres::Transaction;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::columns::{
    call_id, call_uuid, count, get, label_values, limit, number, readable, session_id,
    session_uuid, time,
};
use super::error::PostgresError;
use super::follow_ups::with_task_in;
use super::read::{SESSION_COLUMNS, SESSION_COLUMNS_COUNT, call_in, session_in};
use crate::model::{SessionId, Timestamp};
use crate::store::rules::split;
use crate::store::{
    CallCursor, CallPage, CallQuery, ChangePage, ChangeQuery, FollowUpPage, FollowUpQuery,
    SessionCursor, SessionPage, SessionQuery,
};

/// Collects the conditions of a list and their parameters.
#[derive(Default)]
struct Conditions {
    sql: Vec<String>,
    params: Vec<Box<dyn ToSql + Sync + Send>>,
}

impl Conditions {
    /// Adds a condition, in which `?` stands for the parameter.
    fn add(&mut self, condition: &str, param: impl ToSql + Sync + Send + 'static) {
        self.params.push(Box::new(param));
        self.sql.push(condition.replace('?', &format!("${}", self.params.len())));
    }

    /// Adds the position after which the page begins.
    fn after(&mut self, id: &str, cursor: Option<(Timestamp, Uuid)>) {
        let Some((time, uuid)) = cursor else { return };
        self.params.push(Box::new(time.as_micros()));
        self.params.push(Box::new(uuid));
        let last = self.params.len();
        self.sql.push(format!("(create_time, {id}) < (${}, ${last})", last - 1));
    }

    /// Adds the scope: the tenant, or one of its sessions.
    fn scope(&mut self, tenant: &str, session_key: Option<i64>) {
        self.add("tenant = ?", tenant.to_owned());
        if let Some(key) = session_key {
            self.add("session_key = ?", key);
        }
    }

    fn all(&self) -> String {
        self.sql.join(" AND ")
    }
}

/// Runs a list: the newest `most` rows, and one more by which it is known that more follow.
async fn newest(
    snapshot: &Transaction<'_>,
    (columns, from, id): (&str, &str, &str),
    mut conditions: Conditions,
    mut states: Vec<u8>,
    most: u32,
) -> Result<(Vec<Row>, bool), PostgresError> {
    // Otherwise a state that is named twice would list its rows twice.
    states.sort_unstable();
    states.dedup();
    conditions.params.push(Box::new(limit(u64::from(most) + 1)));
    let (all, last) = (conditions.all(), conditions.params.len());
    let end = format!("ORDER BY create_time DESC, {id} DESC LIMIT ${last}");
    // The states are parameters: there are as many statements as numbers of states.
    let one = |(place, _): (usize, &u8)| {
        let state = last + 1 + place;
        format!("(SELECT * FROM {from} WHERE {all} AND state = ${state} {end})")
    };
    let rows = match states.is_empty() {
        true => format!("(SELECT * FROM {from} WHERE {all} {end})"),
        false => states.iter().enumerate().map(one).collect::<Vec<_>>().join(" UNION ALL "),
    };
    for state in states {
        conditions.params.push(Box::new(i16::from(state)));
    }
    let sql = format!("SELECT {columns} ORDER BY s.create_time DESC, s.{id} DESC LIMIT ${last}");
    let sql = sql.replace("{rows}", &rows);
    let statement = snapshot.prepare_cached(&sql).await?;
    let params: Vec<&(dyn ToSql + Sync)> =
        conditions.params.iter().map(|param| &**param as _).collect();
    let mut rows = snapshot.query(&statement, &params).await?;
    let more = rows.len() > most as usize;
    rows.truncate(most as usize);
    Ok((rows, more))
}

/// Reads the rows of a page. A record that cannot be read leaves its position.
fn entries<P, T>(
    rows: &[Row],
    position: impl Fn(&Row) -> Result<P, PostgresError>,
    read: impl Fn(&Row) -> Result<T, PostgresError>,
) -> Result<Vec<(P, Option<T>)>, PostgresError> {
    rows.iter().map(|row| Ok((position(row)?, readable(read(row))?))).collect()
}

/// Lists sessions, newest first.
pub(super) async fn sessions(
    snapshot: &Transaction<'_>,
    query: &SessionQuery,
) -> Result<SessionPage, PostgresError> {
    let mut conditions = Conditions::default();
    conditions.scope(query.tenant.as_str(), None);
    conditions.after("id", query.cursor.map(|c| (c.create_time, session_uuid(c.id))));
    filter(&mut conditions, query.created_after, query.ids.bounds(), &query.labels);
    let columns = format!(
        "{SESSION_COLUMNS}, s.create_time, s.id FROM ({{rows}}) s
         LEFT JOIN session_bodies b ON b.session_key = s.key"
    );
    let states = query.states.iter().map(|state| state.number()).collect();
    let list = (columns.as_str(), "sessions", "id");
    let (rows, more) = newest(snapshot, list, conditions, states, query.limit).await?;
    let position = |row: &Row| {
        let create_time = time(row, SESSION_COLUMNS_COUNT)?;
        Ok(SessionCursor { create_time, id: session_id(row, SESSION_COLUMNS_COUNT + 1)? })
    };
    let found = entries(&rows, position, session_in)?;
    let next = found.last().filter(|_| more).map(|(position, _)| *position);
    let (sessions, unreadable) = split(found);
    let unreadable = unreadable.into_iter().map(|position| position.id).collect();
    Ok(SessionPage { sessions, unreadable, next })
}

fn filter(
    conditions: &mut Conditions,
    created_after: Option<Timestamp>,
    [first, last]: [&[u8; 16]; 2],
    labels: &crate::model::Labels,
) {
    if let Some(time) = created_after {
        conditions.add("create_time > ?", time.as_micros());
    }
    if (*first, *last) != ([0; 16], [u8::MAX; 16]) {
        conditions.add("id >= ?", Uuid::from_bytes(*first));
        conditions.add("id <= ?", Uuid::from_bytes(*last));
    }
    if let Some(labels) = label_values(labels) {
        conditions.add("labels @> ?", labels);
    }
}

/// Lists background tasks, newest first.
pub(super) async fn calls(
    snapshot: &Transaction<'_>,
    query: &CallQuery,
) -> Result<CallPage, PostgresError> {
    let change = newest_change(snapshot).await?;
    let none = CallPage { calls: Vec::new(), unreadable: Vec::new(), next: None, change };
    let Some(session_key) = scope(snapshot, query.session_id).await? else { return Ok(none) };
    let mut conditions = Conditions::default();
    conditions.sql.push("is_task".to_owned());
    conditions.scope(query.tenant.as_str(), session_key);
    conditions.after("id", query.cursor.map(|c| (c.create_time, call_uuid(c.id))));
    filter(&mut conditions, query.created_after, query.ids.bounds(), &query.labels);
    if !query.kinds.is_empty() {
        let kinds: Vec<i16> = query.kinds.iter().map(|kind| i16::from(kind.number())).collect();
        conditions.add("kind = ANY(?)", kinds);
    }
    let states = query.states.iter().map(|state| state.number()).collect();
    let list = ("s.body, s.create_time, s.id FROM ({rows}) s", "calls", "id");
    let (rows, more) = newest(snapshot, list, conditions, states, query.limit).await?;
    let found = entries(&rows, call_position, |row| call_in(row, 0))?;
    let next = found.last().filter(|_| more).map(|(position, _)| *position);
    let (calls, unreadable) = split(found);
    let unreadable = unreadable.into_iter().map(|position| position.id).collect();
    Ok(CallPage { calls, unreadable, next, change })
}

fn call_position(row: &Row) -> Result<CallCursor, PostgresError> {
    Ok(CallCursor { create_time: time(row, 1)?, id: call_id(row, 2)? })
}

/// Lists background tasks in the order of their last change.
pub(super) async fn changes(
    snapshot: &Transaction<'_>,
    query: &ChangeQuery,
) -> Result<ChangePage, PostgresError> {
    let newest = newest_change(snapshot).await?;
    let (calls, unreadable) = (Vec::new(), Vec::new());
    let none = ChangePage { calls, unreadable, change: newest, more: false };
    let Some(session_key) = scope(snapshot, query.session_id).await? else { return Ok(none) };
    let mut conditions = Conditions::default();
    conditions.sql.push("is_task".to_owned());
    conditions.scope(query.tenant.as_str(), session_key);
    conditions.add("change_number > ?", number(query.after));
    conditions.params.push(Box::new(limit(u64::from(query.limit) + 1)));
    let sql = format!(
        "SELECT body, change_number, id FROM calls WHERE {} ORDER BY change_number LIMIT ${}",
        conditions.all(),
        conditions.params.len()
    );
    let statement = snapshot.prepare_cached(&sql).await?;
    let params: Vec<&(dyn ToSql + Sync)> =
        conditions.params.iter().map(|param| &**param as _).collect();
    let mut rows = snapshot.query(&statement, &params).await?;
    let more = rows.len() > query.limit as usize;
    rows.truncate(query.limit as usize);
    let position = |row: &Row| Ok((count(row, 1)?, call_id(row, 2)?));
    let found = entries(&rows, position, |row| call_in(row, 0))?;
    let change = match found.last() {
        _ if !more => newest,
        Some(((number, _), _)) => *number,
        None => query.after,
    };
    let (calls, unreadable) = split(found);
    let unreadable = unreadable.into_iter().map(|(_, id)| id).collect();
    Ok(ChangePage { calls, unreadable, change, more })
}

/// Lists follow-ups with their tasks, newest first. Those that cannot be read back count as a part of
/// the page.
pub(super) async fn follow_ups(
    snapshot: &Transaction<'_>,
    query: &FollowUpQuery,
) -> Result<FollowUpPage, PostgresError> {
    let none = FollowUpPage { follow_ups: Vec::new(), unreadable: Vec::new(), next: None };
    let Some(session_key) = scope(snapshot, query.session_id).await? else { return Ok(none) };
    let mut conditions = Conditions::default();
    conditions.scope(query.tenant.as_str(), session_key);
    conditions.after("call_id", query.cursor.map(|c| (c.create_time, call_uuid(c.id))));
    let columns = "s.body, s.create_time, s.call_id, t.body FROM ({rows}) s
         LEFT JOIN follow_up_tasks t ON t.call_id = s.call_id";
    let states = query.states.iter().map(|state| state.number()).collect();
    let list = (columns, "follow_ups", "call_id");
    let (rows, more) = newest(snapshot, list, conditions, states, query.limit).await?;
    let found = entries(&rows, call_position, |row| with_task_in(row, 0, 3))?;
    let next = found.last().filter(|_| more).map(|(position, _)| *position);
    let (follow_ups, unreadable) = split(found);
    let unreadable = unreadable.into_iter().map(|position| position.id).collect();
    Ok(FollowUpPage { follow_ups, unreadable, next })
}

/// Returns the newest change number.
async fn newest_change(snapshot: &Transaction<'_>) -> Result<u64, PostgresError> {
    let sql = "SELECT value FROM counters WHERE name = 'change'";
    let statement = snapshot.prepare_cached(sql).await?;
    count(&snapshot.query_one(&statement, &[]).await?, 0)
}

/// Returns the key of the session to which a query is limited, if it is. `None` stands for a session
/// that does not exist, so that there is nothing to list.
async fn scope(
    snapshot: &Transaction<'_>,
    id: Option<SessionId>,
) -> Result<Option<Option<i64>>, PostgresError> {
    let Some(id) = id else { return Ok(Some(None)) };
    let statement = snapshot.prepare_cached("SELECT key FROM sessions WHERE id = $1").await?;
    let row = snapshot.query_opt(&statement, &[&session_uuid(id)]).await?;
    row.map(|row| get(&row, 0).map(Some)).transpose()
}
