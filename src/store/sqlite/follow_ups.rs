//! The writes of follow-ups, and the reads of single ones.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::columns::{SqlTime, session_id};
use super::error::SqliteError;
use super::read::call_in;
use super::record;
use crate::model::{CallId, FollowUp, SessionId};
use crate::store::prepared::FollowUpBodies;
use crate::store::{FollowUpWithTask, rules};

/// Returns the session of a task's follow-up, or `None` if the task has none.
pub(super) fn owner(connection: &Connection, id: CallId) -> rusqlite::Result<Option<SessionId>> {
    connection
        .prepare_cached("SELECT session_id FROM follow_ups WHERE call_id = ?1")?
        .query_row([id.as_bytes()], |row| session_id(row, 0))
        .optional()
}

/// Writes a follow-up, and returns whether it is new. The task of a stored one is not changed.
pub(super) fn put(
    connection: &Connection,
    session_key: i64,
    record: &FollowUp,
    bodies: &FollowUpBodies,
) -> rusqlite::Result<bool> {
    if update(connection, record, &bodies.record)? {
        return Ok(false);
    }
    insert(connection, session_key, record, &bodies.record)?;
    if let Some(task) = &bodies.task {
        connection
            .prepare_cached("INSERT INTO follow_up_tasks (key, body) VALUES (?1, ?2)")?
            .execute(params![connection.last_insert_rowid(), task])?;
    }
    Ok(true)
}

/// Updates a follow-up. Its task, owner and creation time never change. Returns `false` if it is
/// not stored.
fn update(connection: &Connection, record: &FollowUp, body: &str) -> rusqlite::Result<bool> {
    let due = rules::due(record);
    let rows = connection
        .prepare_cached(
            "UPDATE follow_ups SET state = ?2, due_kind = ?3, due_time = ?4, expire_time = ?5,
                 lease_request = ?6, body = ?7
             WHERE call_id = ?1",
        )?
        .execute(params![
            record.call_id.as_bytes(),
            record.state.number(),
            due.map(|(what, _)| what.number()),
            due.map(|(_, time)| SqlTime(time)),
            record.expire_time.map(SqlTime),
            rules::lease_request(record),
            body,
        ])?;
    Ok(rows > 0)
}

fn insert(
    connection: &Connection,
    session_key: i64,
    record: &FollowUp,
    body: &str,
) -> rusqlite::Result<()> {
    let due = rules::due(record);
    connection
        .prepare_cached(
            "INSERT INTO follow_ups (call_id, session_key, session_id, tenant, state, create_time,
                 due_kind, due_time, expire_time, lease_request, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(params![
            record.call_id.as_bytes(),
            session_key,
            record.session_id.as_bytes(),
            record.tenant.as_str(),
            record.state.number(),
            SqlTime(record.create_time),
            due.map(|(what, _)| what.number()),
            due.map(|(_, time)| SqlTime(time)),
            record.expire_time.map(SqlTime),
            rules::lease_request(record),
            body,
        ])
        .map(|_| ())
}

/// Deletes the follow-up with this key, and its task.
pub(super) fn forget(connection: &Connection, key: i64) -> rusqlite::Result<()> {
    for sql in
        ["DELETE FROM follow_ups WHERE key = ?1", "DELETE FROM follow_up_tasks WHERE key = ?1"]
    {
        connection.prepare_cached(sql)?.execute([key])?;
    }
    Ok(())
}

/// Reads the record of a task's follow-up.
pub(super) fn record(connection: &Connection, id: CallId) -> Result<Option<FollowUp>, SqliteError> {
    let mut statement =
        connection.prepare_cached("SELECT body FROM follow_ups WHERE call_id = ?1")?;
    let mut rows = statement.query([id.as_bytes()])?;
    rows.next()?.map(record_in).transpose()
}

/// Reads a follow-up with its task.
pub(super) fn with_task(
    connection: &Connection,
    id: CallId,
) -> Result<Option<FollowUpWithTask>, SqliteError> {
    let mut statement = connection.prepare_cached(
        "SELECT f.body, t.body
         FROM follow_ups f LEFT JOIN follow_up_tasks t ON t.key = f.key WHERE f.call_id = ?1",
    )?;
    let mut rows = statement.query([id.as_bytes()])?;
    rows.next()?.map(with_task_in).transpose()
}

/// Reads a record from the first column.
pub(super) fn record_in(row: &Row<'_>) -> Result<FollowUp, SqliteError> {
    record::decode(row, 0, "a follow-up")
}

/// Reads a record from the first column, and its task from the second.
pub(super) fn with_task_in(row: &Row<'_>) -> Result<FollowUpWithTask, SqliteError> {
    Ok(FollowUpWithTask { record: record_in(row)?, task: call_in(row, 1)? })
}
