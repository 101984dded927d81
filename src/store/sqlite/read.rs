//! Reads of single records and of logs. Each runs in one read transaction.

use bytes::BytesMut;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::error::{Error, corrupt};
use super::heads::{self, SESSION_COLUMNS};
use super::row::{
    Count, LOG_BYTES_COLUMN, LOG_COLUMNS, count, log_event, optional_call_id, payload_kind,
    session_id, session_state_number, time,
};
use crate::model::{Call, CallId, Session, SessionId, SessionState, Tenant};
use crate::store::{EventPage, EventQuery, RequestRecord};

/// One session.
pub(super) fn session(connection: &Connection, id: SessionId) -> Result<Option<Session>, Error> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {SESSION_COLUMNS}
         FROM sessions s JOIN session_bodies b ON b.session_key = s.key WHERE s.id = ?1"
    ))?;
    let mut rows = statement.query([id.as_bytes()])?;
    rows.next()?.map(heads::session).transpose()
}

/// One call.
pub(super) fn call(connection: &Connection, id: CallId) -> Result<Option<Call>, Error> {
    let mut statement = connection.prepare_cached("SELECT body FROM calls WHERE id = ?1")?;
    let mut rows = statement.query([id.as_bytes()])?;
    rows.next()?.map(|row| call_in(row, 0)).transpose()
}

/// A call whose JSON stands in this column.
pub(super) fn call_in(row: &Row<'_>, column: usize) -> Result<Call, Error> {
    let body = row.get_ref(column)?.as_str().map_err(rusqlite::Error::from)?;
    serde_json::from_str(body).map_err(|cause| corrupt("a call", &cause))
}

/// Calls of one session that haven't ended, oldest first.
pub(super) fn live_calls(connection: &Connection, id: SessionId) -> Result<Vec<Call>, Error> {
    let mut statement = connection.prepare_cached(
        "SELECT body FROM calls
         WHERE live = 1 AND session_key = (SELECT key FROM sessions WHERE id = ?1)
         ORDER BY create_time, id",
    )?;
    let mut rows = statement.query([id.as_bytes()])?;
    let mut calls = Vec::new();
    while let Some(row) = rows.next()? {
        calls.push(call_in(row, 0)?);
    }
    Ok(calls)
}

/// What a request id did.
pub(super) fn request(
    connection: &Connection,
    tenant: &Tenant,
    request_id: &str,
) -> Result<Option<RequestRecord>, Error> {
    let mut statement = connection.prepare_cached(
        "SELECT fingerprint, effect, create_time FROM requests
         WHERE tenant = ?1 AND request_id = ?2",
    )?;
    let mut rows = statement.query(params![tenant.as_str(), request_id])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let effect = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
    Ok(Some(RequestRecord {
        tenant: tenant.clone(),
        request_id: request_id.to_owned(),
        fingerprint: row.get(0)?,
        effect: serde_json::from_str(effect).map_err(|cause| corrupt("a request", &cause))?,
        create_time: time(row, 2)?,
    }))
}

/// Sessions that hold a call that hasn't ended, in the order of their ids.
pub(super) fn sessions_with_live_calls(
    connection: &Connection,
    after: Option<SessionId>,
    limit: u32,
) -> Result<Vec<SessionId>, Error> {
    let mut statement = connection.prepare_cached(
        "SELECT id FROM sessions
         WHERE key IN (SELECT session_key FROM calls WHERE live = 1) AND id > ?1
         ORDER BY id LIMIT ?2",
    )?;
    let after = after.as_ref().map_or(&[][..], |id| id.as_bytes());
    let ids = statement.query_map(params![after, limit], |row| session_id(row, 0))?;
    Ok(ids.collect::<rusqlite::Result<_>>()?)
}

/// Events of one session.
pub(super) fn events(connection: &Connection, query: &EventQuery) -> Result<EventPage, Error> {
    let log = connection
        .prepare_cached("SELECT key, head, first, state FROM sessions WHERE id = ?1")?
        .query_row([query.session_id.as_bytes()], |row| {
            Ok((row.get::<_, i64>(0)?, count(row, 1)?, count(row, 2)?, row.get::<_, u8>(3)?))
        })
        .optional()?;
    let Some((key, head, first, state)) = log else {
        let (head, first, closed) = (0, 1, false);
        let (events, scanned_to) = (Vec::new(), query.after);
        return Ok(EventPage { events, scanned_to, head, first, closed });
    };
    let after = query.after.max(first.saturating_sub(1));
    let closed = state == session_state_number(SessionState::Closed);
    let mut page = EventPage { events: Vec::new(), scanned_to: after, head, first, closed };
    if after < head && query.scan_max > 0 {
        scan(connection, key, query, &mut page)?;
    }
    Ok(page)
}

/// How many rows of other logs may lie among those of a page for it to be read in the order of the
/// keys, in multiples of its own rows. To pass a row costs a third of what it costs to find one
/// through the index.
const FOREIGN_ROWS_MAX: i64 = 2;

/// The rows that a page may come from.
#[derive(Clone, Copy)]
enum Rows {
    /// All between these keys. Rows get growing keys as they are written: those of a log that was
    /// written at once lie together.
    Between(i64, i64),
    /// So many behind a sequence, through the index.
    Indexed(u64, u64),
}

/// Where the rows of the page are that begins here.
fn locate(
    connection: &Connection,
    session_key: i64,
    query: &EventQuery,
    page: &EventPage,
) -> Result<Rows, Error> {
    let count = (page.head - page.scanned_to).min(query.scan_max as u64);
    let mut find = connection
        .prepare_cached("SELECT key FROM events WHERE session_key = ?1 AND sequence = ?2")?;
    let mut key = |sequence: u64| {
        find.query_row(params![session_key, Count(sequence)], |row| row.get::<_, i64>(0))
    };
    let (first, last) = (key(page.scanned_to + 1)?, key(page.scanned_to + count)?);
    let most = i64::try_from(count).unwrap_or(i64::MAX).saturating_mul(1 + FOREIGN_ROWS_MAX);
    Ok(match last - first < most {
        true => Rows::Between(first, last),
        false => Rows::Indexed(page.scanned_to, count),
    })
}

fn scan(
    connection: &Connection,
    session_key: i64,
    query: &EventQuery,
    page: &mut EventPage,
) -> Result<(), Error> {
    let way = locate(connection, session_key, query, page)?;
    let condition = match way {
        // The sign keeps the index of sessions out of it.
        Rows::Between(..) => "+session_key = ?1 AND key BETWEEN ?2 AND ?3 ORDER BY key",
        Rows::Indexed(..) => "session_key = ?1 AND sequence > ?2 ORDER BY sequence LIMIT ?3",
    };
    let mut statement = connection
        .prepare_cached(&format!("SELECT {LOG_COLUMNS} FROM events WHERE {condition}"))?;
    let mut rows = match way {
        Rows::Between(first, last) => statement.query([session_key, first, last])?,
        Rows::Indexed(after, count) => {
            statement.query(params![session_key, Count(after), Count(count)])?
        }
    };
    // One piece of memory for the bytes of all events of the page.
    let mut bytes = BytesMut::new();
    let mut lengths = Vec::new();
    while let Some(row) = rows.next()? {
        if matches(query, row)? {
            let event = row.get_ref(LOG_BYTES_COLUMN)?.as_blob().map_err(rusqlite::Error::from)?;
            if bytes.len() + event.len() > query.bytes_max && !page.events.is_empty() {
                break;
            }
            bytes.extend_from_slice(event);
            lengths.push(event.len());
            page.events.push(log_event(row)?);
        }
        page.scanned_to = count(row, 0)?;
    }
    let mut bytes = bytes.freeze();
    for (event, length) in page.events.iter_mut().zip(lengths) {
        event.bytes = bytes.split_to(length);
    }
    Ok(())
}

fn matches(query: &EventQuery, row: &Row<'_>) -> rusqlite::Result<bool> {
    let kind = query.kinds.is_empty() || query.kinds.contains(&payload_kind(row, 1)?);
    Ok(kind && (query.call_id.is_none() || query.call_id == optional_call_id(row, 2)?))
}
