//! The rows of each table as a copy holds them.

use rusqlite::Row;
use rusqlite::types::ValueRef;

use super::error::SqliteError;
use super::event_row::EVENT_COLUMNS;
use crate::model::{CallId, OutputPosition};
use crate::store::event_row::EventRow;
use crate::store::migrate::{
    CALLS, ColumnType, EVENTS, FOLLOW_UP_TASKS, FOLLOW_UPS, MESSAGES, OUTPUTS, REQUESTS,
    SESSION_BODIES, SESSIONS, Table, Value,
};
use crate::store::{StoreError, record};

type Read = fn(&Table, &Row<'_>) -> Result<Vec<Value>, SqliteError>;

/// The reading of a table.
pub(super) struct Export {
    pub(super) table: &'static Table,
    /// The columns that are copied, and the tables that they come from.
    columns: &'static str,
    from: &'static str,
    /// The key by which [`Export::name`] finds a row, and columns before it that `read` needs.
    keys: &'static str,
    pub(super) read: Read,
    /// A query for the ids of a session and of a call, and for another name, of the row with a key.
    pub(super) name: &'static str,
}

impl Export {
    /// Returns the query for all rows.
    pub(super) fn sql(&self) -> String {
        format!("SELECT {}, {} AS row_key FROM {}", self.columns, self.keys, self.from)
    }
}

/// The sequence up to which a session's events were written under an earlier epoch. The keys of events
/// grow in each log. Most stores have no such events.
const SESSION_COLUMNS: &str = "s.key, s.id, s.tenant, s.state, s.implicit, s.create_time, \
     s.update_time, s.head, s.first, s.live, s.calls, s.log_digits, \
     CASE WHEN s.calls = 0 AND (s.state = 3 OR s.implicit = 1) THEN s.update_time END, \
     CASE WHEN (SELECT value FROM counters WHERE name = 'former_epoch_events') = 0 THEN 0 \
     ELSE coalesce((SELECT e.sequence FROM events e WHERE e.session_key = s.key AND e.key <= \
         (SELECT value FROM counters WHERE name = 'former_epoch_events') \
         ORDER BY e.sequence DESC LIMIT 1), 0) END, \
     b.body";

/// The tables in the order in which they are copied.
pub(super) const EXPORTS: &[Export] = &[
    Export {
        table: &SESSION_BODIES,
        columns: "session_key, body",
        from: "session_bodies",
        keys: "session_key",
        read: row,
        name: "SELECT id, NULL, NULL FROM sessions WHERE key = ?1",
    },
    Export {
        table: &SESSIONS,
        columns: SESSION_COLUMNS,
        from: "sessions s LEFT JOIN session_bodies b ON b.session_key = s.key",
        keys: "s.key",
        read: row,
        name: "SELECT id, NULL, NULL FROM sessions WHERE key = ?1",
    },
    Export {
        table: &EVENTS,
        columns: EVENT_COLUMNS,
        from: "events",
        keys: "session_key, key",
        read: event,
        name: "SELECT (SELECT id FROM sessions WHERE key = session_key), NULL, 'event ' || sequence
             FROM events WHERE key = ?1",
    },
    Export {
        table: &OUTPUTS,
        columns: "call_id, stdout_total, stdout_kept, stdout_cut, stderr_total, stderr_kept, \
             stderr_cut, combined_total, combined_kept, combined_cut",
        from: "outputs",
        keys: "key",
        read: row,
        name: "SELECT NULL, call_id, NULL FROM outputs WHERE key = ?1",
    },
    Export {
        table: &CALLS,
        columns: "id, session_key, tenant, is_task, live, state, kind, create_time, expire_time, \
             change_number, body, body",
        from: "calls",
        keys: "key",
        read: row,
        name: "SELECT NULL, id, NULL FROM calls WHERE key = ?1",
    },
    Export {
        table: &REQUESTS,
        columns: "tenant, request_id, fingerprint, effect, create_time, call_id, session_id",
        from: "requests",
        keys: "key",
        read: row,
        name: "SELECT NULL, NULL, 'request ' || request_id || ' of tenant ' || tenant
             FROM requests WHERE key = ?1",
    },
    Export {
        table: &MESSAGES,
        columns: "session_key, number, body",
        from: "messages",
        keys: "key",
        read: row,
        name: "SELECT (SELECT id FROM sessions WHERE key = session_key), NULL, 'message ' || number
             FROM messages WHERE key = ?1",
    },
    Export {
        table: &FOLLOW_UPS,
        columns: "call_id, key, session_key, session_id, tenant, state, create_time, due_kind, \
             due_time, expire_time, lease_request, body",
        from: "follow_ups",
        keys: "key",
        read: row,
        name: "SELECT NULL, call_id, NULL FROM follow_ups WHERE key = ?1",
    },
    Export {
        table: &FOLLOW_UP_TASKS,
        columns: "f.call_id, t.body",
        from: "follow_up_tasks t LEFT JOIN follow_ups f ON f.key = t.key",
        keys: "t.key",
        read: task,
        name: "SELECT NULL, call_id, NULL FROM follow_ups WHERE key = ?1",
    },
];

/// Reads a row whose columns are those of the table.
fn row(table: &Table, row: &Row<'_>) -> Result<Vec<Value>, SqliteError> {
    let columns = table.columns.iter().enumerate();
    let values = columns.map(|(index, (name, kind))| {
        let value = value(*kind, row.get_ref(index)?);
        let name = match kind {
            // Labels are read from the record.
            ColumnType::Record(_) | ColumnType::Labels => "the record".to_owned(),
            _ => format!("column {name}"),
        };
        Ok(value.map_err(|cause| record::corrupt(&name, &cause))?)
    });
    values.collect()
}

/// Reads the task of a follow-up, which is found by the key of the follow-up.
fn task(table: &Table, found: &Row<'_>) -> Result<Vec<Value>, SqliteError> {
    let values = row(table, found)?;
    if values.first() == Some(&Value::Null) {
        return Err(StoreError::Corrupt("its follow-up is missing".to_owned()).into());
    }
    Ok(values)
}

/// Reads an event, and verifies its checksum. One of a version that wrote no checksums gets one.
fn event(_: &Table, row: &Row<'_>) -> Result<Vec<Value>, SqliteError> {
    const SESSION_KEY: usize = 11;
    let event = EventRow::read(row)?;
    let position = |value: fn(&OutputPosition) -> Value| {
        event.output.as_ref().map_or(Value::Null, |(position, _)| value(position))
    };
    Ok(vec![
        Value::Integer(row.get(SESSION_KEY)?),
        count(event.sequence),
        Value::Integer(event.checksum().cast_signed().into()),
        Value::Integer(event.kind.number().into()),
        position(|position| Value::Integer(position.stream.number().into())),
        event.call_id.map_or(Value::Null, |id: CallId| Value::Id(*id.as_bytes())),
        position(|position| count(position.offset)),
        position(|position| count(position.combined_offset)),
        position(|position| count(position.dropped_bytes_before)),
        event.output.map_or(Value::Null, |(_, length)| count(length)),
        Value::Bytes(event.bytes.to_vec()),
    ])
}

fn count(number: u64) -> Value {
    Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

fn value(kind: ColumnType, value: ValueRef<'_>) -> Result<Value, String> {
    use ColumnType::{Boolean, Bytes, Checksum, Id, Integer, Labels, Record, Small, Text};
    Ok(match (kind, value) {
        (Record(_) | Labels, ValueRef::Null) => return Err("it is missing".to_owned()),
        (_, ValueRef::Null) => Value::Null,
        (Integer, ValueRef::Integer(number)) => Value::Integer(number),
        (Small, ValueRef::Integer(number)) if i16::try_from(number).is_ok() => {
            Value::Integer(number)
        }
        (Boolean, ValueRef::Integer(number @ (0 | 1))) => Value::Boolean(number == 1),
        (Id, ValueRef::Blob(bytes)) => {
            Value::Id(bytes.try_into().map_err(|_| format!("it has {} bytes", bytes.len()))?)
        }
        (Bytes, ValueRef::Blob(bytes)) => Value::Bytes(bytes.to_vec()),
        (Text | Record(_) | Labels, ValueRef::Text(text)) => {
            kind.value_of(std::str::from_utf8(text).map_err(|cause| cause.to_string())?)?
        }
        (Small | Boolean, ValueRef::Integer(number)) => {
            return Err(format!("the number {number} is out of range"));
        }
        (Integer | Small | Boolean | Id | Bytes | Text | Record(_) | Labels | Checksum, other) => {
            return Err(format!("it is of the type {}", other.data_type()));
        }
    })
}
