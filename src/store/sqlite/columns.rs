//! The conversion between types of the model and columns. The numbers are stored in files: never
//! reuse one.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Result, Row};

use crate::model::{CallId, OutputStream, PayloadKind, SessionId, Timestamp, ToolKind};

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

/// Returns the error for a column with an invalid value.
pub(super) fn unreadable(column: usize, cause: FromSqlError) -> rusqlite::Error {
    let kind = rusqlite::types::Type::Integer;
    rusqlite::Error::FromSqlConversionFailure(column, kind, Box::new(cause))
}
