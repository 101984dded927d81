//! The conversion between types of the model and columns. The numbers are stored: never reuse one.

use tokio_postgres::Row;
use tokio_postgres::types::FromSql;
use uuid::Uuid;

use super::error::PostgresError;
use crate::model::{
    CallId, Labels, OutputPosition, OutputStream, PayloadKind, SessionId, Timestamp,
};
use crate::store::event_row::EventRow;
use crate::store::{StoreError, record};

/// Returns a count or an offset as its columns hold it. Integers of PostgreSQL have a sign: larger
/// values are stored as the largest one.
pub(super) fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Returns the bound of a page as its parameter.
pub(super) fn limit(count: u64) -> i64 {
    number(count)
}

pub(super) fn session_uuid(id: SessionId) -> Uuid {
    Uuid::from_bytes(*id.as_bytes())
}

pub(super) fn call_uuid(id: CallId) -> Uuid {
    Uuid::from_bytes(*id.as_bytes())
}

/// Returns labels as their columns hold them, each as one value, so that a filter is a set that the
/// column contains. `None` stands for no labels.
pub(in crate::store) fn label_values(labels: &Labels) -> Option<Vec<Vec<u8>>> {
    let value = |(key, value): (&String, &String)| {
        // The length keeps apart labels whose keys and values have the same letters.
        let mut bytes = u32::try_from(key.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
        bytes.extend(key.as_bytes());
        bytes.extend(value.as_bytes());
        bytes
    };
    (!labels.is_empty()).then(|| labels.iter().map(value).collect())
}

/// Reads a column. A value of another type is corrupt.
pub(super) fn get<'a, T: FromSql<'a>>(row: &'a Row, column: usize) -> Result<T, PostgresError> {
    row.try_get(column).map_err(|error| StoreError::Corrupt(error.to_string()).into())
}

pub(super) fn count(row: &Row, column: usize) -> Result<u64, PostgresError> {
    let stored: i64 = get(row, column)?;
    u64::try_from(stored).map_err(|_| out_of_range(stored))
}

pub(super) fn optional_count(row: &Row, column: usize) -> Result<Option<u64>, PostgresError> {
    let Some(stored) = get::<Option<i64>>(row, column)? else { return Ok(None) };
    u64::try_from(stored).map(Some).map_err(|_| out_of_range(stored))
}

pub(super) fn time(row: &Row, column: usize) -> Result<Timestamp, PostgresError> {
    get(row, column).map(Timestamp::from_micros)
}

pub(super) fn session_id(row: &Row, column: usize) -> Result<SessionId, PostgresError> {
    get(row, column).map(|id: Uuid| SessionId::from_bytes(id.into_bytes()))
}

pub(super) fn call_id(row: &Row, column: usize) -> Result<CallId, PostgresError> {
    get(row, column).map(|id: Uuid| CallId::from_bytes(id.into_bytes()))
}

pub(super) fn optional_call_id(row: &Row, column: usize) -> Result<Option<CallId>, PostgresError> {
    let id: Option<Uuid> = get(row, column)?;
    Ok(id.map(|id| CallId::from_bytes(id.into_bytes())))
}

/// Reads a record. `what` names it in an error.
pub(super) fn decode<T: serde::de::DeserializeOwned>(
    row: &Row,
    column: usize,
    what: &str,
) -> Result<T, PostgresError> {
    let Some(text) = get::<Option<&str>>(row, column)? else {
        return Err(record::corrupt(what, &"it is missing").into());
    };
    Ok(record::decode(text, what)?)
}

/// Returns `None` for a record that cannot be read back.
pub(super) fn readable<T>(read: Result<T, PostgresError>) -> Result<Option<T>, PostgresError> {
    match read {
        Ok(record) => Ok(Some(record)),
        Err(PostgresError::Store(StoreError::Corrupt(_))) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The columns that [`event`] reads, in this order.
pub(super) const EVENT_COLUMNS: &str = "sequence, kind, call_id, stream, stream_offset, \
     combined_offset, dropped_before, length, bytes, checksum";

/// Reads the columns of an event from `first` on, and verifies its checksum.
///
/// # Errors
///
/// Fails with [`StoreError::Corrupt`], which names the sequence, if the row is damaged.
pub(super) fn event(row: &Row, first: usize) -> Result<EventRow<'_>, PostgresError> {
    let sequence = count(row, first)?;
    let damaged = |cause: &str| StoreError::Corrupt(format!("event {sequence}: {cause}"));
    let kind: i16 = get(row, first + 1)?;
    let kind = u8::try_from(kind).ok().and_then(PayloadKind::from_number);
    let event = EventRow {
        sequence,
        kind: kind.ok_or_else(|| damaged("its kind is unknown"))?,
        call_id: optional_call_id(row, first + 2)?,
        output: output(row, first + 3)?,
        bytes: get(row, first + 8)?,
    };
    let checksum: i32 = get(row, first + 9)?;
    match checksum.cast_unsigned() == event.checksum() {
        true => Ok(event),
        false => Err(damaged("its checksum is wrong").into()),
    }
}

fn output(row: &Row, first: usize) -> Result<Option<(OutputPosition, u64)>, PostgresError> {
    let Some(stream) = get::<Option<i16>>(row, first)? else { return Ok(None) };
    let position = OutputPosition {
        stream: stream_of(stream)?,
        offset: count(row, first + 1)?,
        combined_offset: count(row, first + 2)?,
        dropped_bytes_before: count(row, first + 3)?,
    };
    Ok(Some((position, count(row, first + 4)?)))
}

pub(super) fn stream_of(number: i16) -> Result<OutputStream, PostgresError> {
    let stream = u8::try_from(number).ok().and_then(OutputStream::from_number);
    stream.ok_or_else(|| out_of_range(i64::from(number)))
}

fn out_of_range(number: i64) -> PostgresError {
    StoreError::Corrupt(format!("the number {number} is out of range")).into()
}
