//! The rows of events.

use rusqlite::types::{FromSql, FromSqlError};
use rusqlite::{CachedStatement, Result, Row, params};

use super::columns::{
    SqlU64, count, optional_call_id, payload_kind, stream_from_number, unreadable,
};
use super::error::SqliteError;
use crate::model::{CallId, OutputPosition, PayloadKind};
use crate::store::event_row::EventRow;
use crate::store::{StoreError, StoredEvent};

/// Writes an event: the key of its session, then the columns of [`put`].
pub(super) const PUT_EVENT: &str = "INSERT INTO events (session_key, sequence, kind, call_id,
         stream, stream_offset, combined_offset, dropped_before, length, bytes, checksum)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";

/// The columns that [`EventRow::read`] reads, in this order. The last one is 1 for events that may
/// have no checksum.
pub(super) const EVENT_COLUMNS: &str = "sequence, kind, call_id, stream, stream_offset, \
     combined_offset, dropped_before, length, bytes, checksum, \
     key <= (SELECT value FROM counters WHERE name = 'unchecked_events')";

impl<'a> EventRow<'a> {
    /// Reads the kind of a row of [`EVENT_COLUMNS`].
    pub(super) fn kind(row: &Row<'_>) -> Result<PayloadKind> {
        payload_kind(row, 1)
    }

    /// Reads the call of a row of [`EVENT_COLUMNS`].
    pub(super) fn call_id(row: &Row<'_>) -> Result<Option<CallId>> {
        optional_call_id(row, 2)
    }

    /// Reads a row of [`EVENT_COLUMNS`] and verifies its checksum.
    ///
    /// # Errors
    ///
    /// Fails with [`StoreError::Corrupt`], which names the sequence, if the row is damaged.
    pub(super) fn read(row: &'a Row<'_>) -> std::result::Result<Self, SqliteError> {
        let sequence = count(row, 0)?;
        let damaged = |cause: &str| StoreError::Corrupt(format!("event {sequence}: {cause}"));
        let event = Self {
            sequence,
            kind: payload_kind(row, 1).map_err(|error| damaged(&error.to_string()))?,
            call_id: optional_call_id(row, 2).map_err(|error| damaged(&error.to_string()))?,
            output: output(row).map_err(|error| damaged(&error.to_string()))?,
            bytes: row.get_ref(8)?.as_blob().map_err(|error| damaged(&error.to_string()))?,
        };
        let checksum = Option::<u32>::column_result(row.get_ref(9)?);
        let matches = match checksum.map_err(|error| damaged(&error.to_string()))? {
            Some(checksum) => checksum == event.checksum(),
            None => row.get(10)?,
        };
        if matches { Ok(event) } else { Err(damaged("its checksum is wrong").into()) }
    }
}

/// Writes an event of the session with this key.
pub(super) fn put(
    statement: &mut CachedStatement<'_>,
    session_key: i64,
    event: &StoredEvent,
    checksum: u32,
) -> Result<()> {
    let output = event.output.as_ref();
    let position = output.map(|(position, _)| position);
    statement.execute(params![
        session_key,
        SqlU64(event.sequence),
        event.kind.number(),
        event.call_id.as_ref().map(CallId::as_bytes),
        position.map(|position| position.stream.number()),
        position.map(|position| SqlU64(position.offset)),
        position.map(|position| SqlU64(position.combined_offset)),
        position.map(|position| SqlU64(position.dropped_bytes_before)),
        output.map(|(_, length)| SqlU64(*length)),
        &event.bytes[..],
        checksum,
    ])?;
    Ok(())
}

fn output(row: &Row<'_>) -> Result<Option<(OutputPosition, u64)>> {
    let Some(stream) = row.get::<_, Option<u8>>(3)? else { return Ok(None) };
    let position = OutputPosition {
        stream: stream_from_number(stream).map_err(|cause: FromSqlError| unreadable(3, cause))?,
        offset: count(row, 4)?,
        combined_offset: count(row, 5)?,
        dropped_bytes_before: count(row, 6)?,
    };
    Ok(Some((position, count(row, 7)?)))
}
