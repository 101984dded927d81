//! The conversion between types of the model and columns. The numbers are stored in files: never
//! reuse one.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Result, Row};

use crate::model::{
    CallId, OutputPosition, OutputStream, PayloadKind, SessionId, Timestamp, ToolKind,
};
use crate::store::StoredEvent;
use crate::store::rules::Due;

/// A count or an offset. Integers of SQLite have a sign: larger values are stored as the largest
/// one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SqlU64(pub(super) u64);

impl ToSql for SqlU64 {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>> {
        Ok(i64::try_from(self.0).unwrap_or(i64::MAX).into())
    }
}

impl FromSql for SqlU64 {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let number = value.as_i64()?;
        u64::try_from(number).map(Self).map_err(|_| FromSqlError::OutOfRange(number))
    }
}

/// A time, stored in microseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct SqlTime(pub(super) Timestamp);

impl ToSql for SqlTime {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>> {
        Ok(self.0.as_micros().into())
    }
}

impl FromSql for SqlTime {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_i64().map(Timestamp::from_micros).map(Self)
    }
}

pub(super) fn due_number(what: Due) -> u8 {
    match what {
        Due::Delivery => 1,
        Due::Lease => 2,
        Due::LeaseExpiry => 3,
    }
}

/// Returns a mask with a bit for each of `kinds`, whose numbers must be at most 62, or with all bits if there are none.
pub(super) fn kind_mask(kinds: &[ToolKind]) -> i64 {
    match kinds {
        [] => -1,
        some => some.iter().fold(0, |mask, kind| mask | (1 << kind.number())),
    }
}

pub(super) fn stream_from_number(number: u8) -> FromSqlResult<OutputStream> {
    OutputStream::from_number(number).ok_or(FromSqlError::OutOfRange(number.into()))
}

pub(super) fn count(row: &Row<'_>, column: usize) -> Result<u64> {
    row.get(column).map(|SqlU64(number)| number)
}

pub(super) fn time(row: &Row<'_>, column: usize) -> Result<Timestamp> {
    row.get(column).map(|SqlTime(time)| time)
}

pub(super) fn session_id(row: &Row<'_>, column: usize) -> Result<SessionId> {
    row.get(column).map(SessionId::from_bytes)
}

pub(super) fn call_id(row: &Row<'_>, column: usize) -> Result<CallId> {
    row.get(column).map(CallId::from_bytes)
}

pub(super) fn optional_call_id(row: &Row<'_>, column: usize) -> Result<Option<CallId>> {
    row.get::<_, Option<_>>(column).map(|bytes| bytes.map(CallId::from_bytes))
}

pub(super) fn payload_kind(row: &Row<'_>, column: usize) -> Result<PayloadKind> {
    let number = row.get_ref(column)?.as_i64()?;
    let unknown = || unreadable(column, FromSqlError::OutOfRange(number));
    u8::try_from(number).ok().and_then(PayloadKind::from_number).ok_or_else(unknown)
}

/// The columns that [`event`] reads, in this order.
pub(super) const EVENT_COLUMNS: &str = "sequence, kind, call_id, stream, stream_offset, \
     combined_offset, dropped_before, length, bytes";

/// Reads an event from a row of [`EVENT_COLUMNS`].
pub(super) fn event(row: &Row<'_>) -> Result<StoredEvent> {
    Ok(StoredEvent {
        sequence: count(row, 0)?,
        kind: payload_kind(row, 1)?,
        call_id: optional_call_id(row, 2)?,
        output: output(row)?,
        bytes: row.get::<_, Vec<u8>>(8)?.into(),
    })
}

fn output(row: &Row<'_>) -> Result<Option<(OutputPosition, u64)>> {
    let Some(stream) = row.get::<_, Option<u8>>(3)? else { return Ok(None) };
    let position = OutputPosition {
        stream: stream_from_number(stream).map_err(|cause| unreadable(3, cause))?,
        offset: count(row, 4)?,
        combined_offset: count(row, 5)?,
        dropped_bytes_before: count(row, 6)?,
    };
    Ok(Some((position, count(row, 7)?)))
}

/// Returns the error for a column with an invalid value.
pub(super) fn unreadable(column: usize, cause: FromSqlError) -> rusqlite::Error {
    let kind = rusqlite::types::Type::Integer;
    rusqlite::Error::FromSqlConversionFailure(column, kind, Box::new(cause))
}
