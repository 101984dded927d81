//! The writes of calls.

use rusqlite::{Connection, OptionalExtension, params};

use super::columns::{SqlTime, SqlU64};
use crate::model::{Call, CallId};

/// The row of a call before an append.
#[derive(Debug, Clone, Copy)]
pub(super) struct CallRow {
    pub(super) key: i64,
    pub(super) session_key: i64,
    pub(super) live: bool,
}

pub(super) fn find(connection: &Connection, id: CallId) -> rusqlite::Result<Option<CallRow>> {
    connection
        .prepare_cached("SELECT key, session_key, live FROM calls WHERE id = ?1")?
        .query_row([id.as_bytes()], |row| {
            Ok(CallRow { key: row.get(0)?, session_key: row.get(1)?, live: row.get(2)? })
        })
        .optional()
}

pub(super) fn insert(
    connection: &Connection,
    session_key: i64,
    call: &Call,
    change: u64,
    body: &str,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO calls (id, session_key, tenant, is_task, live, state, kind,
                 create_time, expire_time, change_number, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(params![
            call.id.as_bytes(),
            session_key,
            call.tenant.as_str(),
            call.is_task(),
            !call.state.is_terminal(),
            call.state.number(),
            call.kind.number(),
            SqlTime(call.create_time),
            call.expire_time.map(SqlTime),
            SqlU64(change),
            body,
        ])
        .map(|_| ())
}

/// Updates a call. Its id, owner, kind and creation time never change.
pub(super) fn update(
    connection: &Connection,
    key: i64,
    call: &Call,
    change: u64,
    body: &str,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE calls SET is_task = ?2, live = ?3, state = ?4, expire_time = ?5,
                 change_number = ?6, body = ?7
             WHERE key = ?1",
        )?
        .execute(params![
            key,
            call.is_task(),
            !call.state.is_terminal(),
            call.state.number(),
            call.expire_time.map(SqlTime),
            SqlU64(change),
            body,
        ])
        .map(|_| ())
}

/// Deletes a call and the counts of its output. Its requests and events stay.
pub(super) fn forget(connection: &Connection, id: CallId) -> rusqlite::Result<()> {
    for sql in ["DELETE FROM calls WHERE id = ?1", "DELETE FROM outputs WHERE call_id = ?1"] {
        connection.prepare_cached(sql)?.execute([id.as_bytes()])?;
    }
    Ok(())
}
