//! The history of a session.

use rusqlite::{Connection, Row, params};

use super::columns::{SqlU64, count};
use super::error::SqliteError;
use crate::model::SessionId;
use crate::model::limits::HISTORY_MESSAGES_MAX;
use crate::store::{MessagePage, MessageSlice, StoreError, StoredMessage, record, rules};

/// Adds messages, and deletes those that have become too old.
pub(super) fn put(
    connection: &Connection,
    session_key: i64,
    messages: &[StoredMessage],
) -> rusqlite::Result<()> {
    let Some(newest) = messages.last() else { return Ok(()) };
    let mut insert = connection
        .prepare_cached("INSERT INTO messages (session_key, number, body) VALUES (?1, ?2, ?3)")?;
    for message in messages {
        let body = record::encode_json(&message.body);
        insert.execute(params![session_key, SqlU64(message.number), body])?;
    }
    let forgotten = newest.number.saturating_sub(HISTORY_MESSAGES_MAX);
    connection
        .prepare_cached("DELETE FROM messages WHERE session_key = ?1 AND number <= ?2")?
        .execute(params![session_key, SqlU64(forgotten)])?;
    Ok(())
}

/// Deletes up to `rows_max` messages of a session.
pub(super) fn remove(
    connection: &Connection,
    session_key: i64,
    rows_max: u64,
) -> rusqlite::Result<u64> {
    let removed = connection
        .prepare_cached(
            "DELETE FROM messages WHERE key IN
                 (SELECT key FROM messages WHERE session_key = ?1 LIMIT ?2)",
        )?
        .execute(params![session_key, SqlU64(rows_max)])?;
    Ok(removed as u64)
}

/// Reads the newest messages that together take at most `bytes_max`.
pub(super) fn newest(
    connection: &Connection,
    session_id: SessionId,
    bytes_max: u64,
) -> Result<MessagePage, SqliteError> {
    let mut statement = connection.prepare_cached(
        "SELECT number, body FROM messages
         WHERE session_key = (SELECT key FROM sessions WHERE id = ?1) ORDER BY number DESC",
    )?;
    collect(statement.query([session_id.as_bytes()])?, |messages| {
        rules::newest_that_fit(messages, bytes_max)
    })
}

/// Returns messages after the number `after`, oldest first.
pub(super) fn after(
    connection: &Connection,
    session_id: SessionId,
    after: u64,
    limit: u32,
    bytes_max: usize,
) -> Result<MessageSlice, SqliteError> {
    let mut statement = connection.prepare_cached(
        "SELECT number, body FROM messages
         WHERE session_key = (SELECT key FROM sessions WHERE id = ?1) AND number > ?2
         ORDER BY number",
    )?;
    collect(statement.query(params![session_id.as_bytes(), SqlU64(after)])?, |messages| {
        rules::first_that_fit(messages, limit, bytes_max)
    })
}

/// Passes the messages of the rows to `take`, which may stop early. The first row that cannot be read
/// ends them with its error.
fn collect<T>(
    mut rows: rusqlite::Rows<'_>,
    take: impl FnOnce(&mut dyn Iterator<Item = StoredMessage>) -> T,
) -> Result<T, SqliteError> {
    let mut failed = None;
    let mut messages = std::iter::from_fn(|| {
        let row = rows.next().transpose()?;
        let message = row.map_err(SqliteError::from).and_then(message_in);
        message.map_err(|error| failed = Some(error)).ok()
    });
    let taken = take(&mut messages);
    match failed {
        Some(error) => Err(error),
        None => Ok(taken),
    }
}

fn message_in(row: &Row<'_>) -> Result<StoredMessage, SqliteError> {
    let number = count(row, 0)?;
    let corrupt = |cause| StoreError::Corrupt(format!("message {number}: {cause}"));
    let text = row.get_ref(1)?.as_str().map_err(|cause| corrupt(cause.to_string()))?;
    let body = record::json(text).map_err(corrupt)?.to_owned();
    Ok(StoredMessage { number, body })
}
