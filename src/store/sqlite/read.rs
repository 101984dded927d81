//! Reads of single records and of logs, each in one read transaction.

use bytes::{Bytes, BytesMut};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::columns::{SqlU64, call_id, count, optional_call_id, payload_kind, session_id, time};
use super::error::{SqliteError, corrupt, readable};
use super::session_cache::{self, SESSION_COLUMNS};
use crate::model::{Call, CallId, PayloadKind, Session, SessionId, SessionState, Tenant};
use crate::store::{EventPage, EventQuery, LogEvent, RequestRecord};

/// Reads a session.
pub(super) fn session(
    connection: &Connection,
    id: SessionId,
) -> Result<Option<Session>, SqliteError> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {SESSION_COLUMNS}
         FROM sessions s JOIN session_bodies b ON b.session_key = s.key WHERE s.id = ?1"
    ))?;
    let mut rows = statement.query([id.as_bytes()])?;
    rows.next()?.map(session_cache::session).transpose()
}

/// Reads a call.
pub(super) fn call(connection: &Connection, id: CallId) -> Result<Option<Call>, SqliteError> {
    let mut statement = connection.prepare_cached("SELECT body FROM calls WHERE id = ?1")?;
    let mut rows = statement.query([id.as_bytes()])?;
    rows.next()?.map(|row| call_in(row, 0)).transpose()
}

/// Reads a call from the JSON in a column.
pub(super) fn call_in(row: &Row<'_>, column: usize) -> Result<Call, SqliteError> {
    let body = row.get_ref(column)?.as_str().map_err(rusqlite::Error::from)?;
    serde_json::from_str(body).map_err(|cause| corrupt("a call", &cause))
}

/// Reads the calls of a session that have not ended, oldest first, and the ids of those that cannot
/// be read.
pub(super) fn live_calls(
    connection: &Connection,
    id: SessionId,
) -> Result<(Vec<Call>, Vec<CallId>), SqliteError> {
    let mut statement = connection.prepare_cached(
        "SELECT body, id FROM calls
         WHERE live = 1 AND session_key = (SELECT key FROM sessions WHERE id = ?1)
         ORDER BY create_time, id",
    )?;
    let mut rows = statement.query([id.as_bytes()])?;
    let (mut calls, mut unreadable) = (Vec::new(), Vec::new());
    while let Some(row) = rows.next()? {
        match readable(call_in(row, 0))? {
            Some(call) => calls.push(call),
            None => unreadable.push(call_id(row, 1)?),
        }
    }
    Ok((calls, unreadable))
}

/// Reads the record of a request.
pub(super) fn request(
    connection: &Connection,
    tenant: &Tenant,
    request_id: &str,
) -> Result<Option<RequestRecord>, SqliteError> {
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

/// Returns the sessions with a call that has not ended, in the order of their ids.
pub(super) fn sessions_with_live_calls(
    connection: &Connection,
    after: Option<SessionId>,
    limit: u32,
) -> Result<Vec<SessionId>, SqliteError> {
    let mut statement = connection.prepare_cached(
        "SELECT id FROM sessions
         WHERE key IN (SELECT session_key FROM calls WHERE live = 1) AND id > ?1
         ORDER BY id LIMIT ?2",
    )?;
    let after = after.as_ref().map_or(&[][..], |id| id.as_bytes());
    let ids = statement.query_map(params![after, limit], |row| session_id(row, 0))?;
    Ok(ids.collect::<rusqlite::Result<_>>()?)
}

/// Reads events of a session.
pub(super) fn events(
    connection: &Connection,
    query: &EventQuery,
) -> Result<EventPage, SqliteError> {
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
    let closed = state == SessionState::Closed.number();
    let mut page = EventPage { events: Vec::new(), scanned_to: after, head, first, closed };
    if after < head && query.scan_max > 0 {
        scan(connection, key, query, &mut page)?;
    }
    Ok(page)
}

/// The most rows of other logs, in multiples of its own rows, among which a page is read in the
/// order of the keys. To skip a row costs a third of finding one through the index.
const FOREIGN_ROWS_MAX: i64 = 2;

/// The rows that a page may come from: those of consecutive sequences.
#[derive(Clone, Copy)]
enum Rows {
    /// All rows between these keys. Keys grow as rows are written, so the rows of a log that was
    /// written at once are together.
    All { first: i64, last: i64 },
    /// The rows of the log between these keys.
    Among { first: i64, last: i64 },
    /// The next `count` rows after a sequence, through the index.
    Indexed { after: u64, count: u64 },
}

impl Rows {
    /// Chooses how to read the page.
    fn of(
        connection: &Connection,
        session_key: i64,
        query: &EventQuery,
        page: &EventPage,
    ) -> Result<Self, SqliteError> {
        let count = (page.head - page.scanned_to).min(query.scan_max as u64);
        let mut find = connection
            .prepare_cached("SELECT key FROM events WHERE session_key = ?1 AND sequence = ?2")?;
        let mut key = |sequence: u64| {
            find.query_row(params![session_key, SqlU64(sequence)], |row| row.get::<_, i64>(0))
        };
        let (first, last) = (key(page.scanned_to + 1)?, key(page.scanned_to + count)?);
        let rows = i64::try_from(count).unwrap_or(i64::MAX);
        let span = last.saturating_sub(first).saturating_add(1);
        Ok(match span {
            _ if span == rows => Self::All { first, last },
            _ if span <= rows.saturating_mul(1 + FOREIGN_ROWS_MAX) => Self::Among { first, last },
            _ => Self::Indexed { after: page.scanned_to, count },
        })
    }

    fn condition(self) -> &'static str {
        match self {
            Self::All { .. } => "key BETWEEN ?1 AND ?2 ORDER BY key",
            // The plus sign keeps SQLite from using the index of sessions.
            Self::Among { .. } => "key BETWEEN ?1 AND ?2 AND +session_key = ?3 ORDER BY key",
            Self::Indexed { .. } => "sequence > ?1 AND session_key = ?3 ORDER BY sequence LIMIT ?2",
        }
    }
}

fn scan(
    connection: &Connection,
    session_key: i64,
    query: &EventQuery,
    page: &mut EventPage,
) -> Result<(), SqliteError> {
    let rows = Rows::of(connection, session_key, query, page)?;
    let condition = rows.condition();
    // The column is read only if the query filters by it.
    let call_id = if query.call_id.is_some() { "call_id" } else { "NULL" };
    let mut statement = connection
        .prepare_cached(&format!("SELECT kind, {call_id}, bytes FROM events WHERE {condition}"))?;
    let mut rows = match rows {
        Rows::All { first, last } => statement.query([first, last])?,
        Rows::Among { first, last } => statement.query([first, last, session_key])?,
        Rows::Indexed { after, count } => {
            statement.query(params![SqlU64(after), SqlU64(count), session_key])?
        }
    };
    // One allocation holds the bytes of all events of the page.
    let mut bytes = BytesMut::new();
    let mut lengths = Vec::new();
    while let Some(row) = rows.next()? {
        // Sequences have no gap, so the column need not be read.
        let sequence = page.scanned_to + 1;
        let kind = payload_kind(row, 0)?;
        if matches(query, kind, row)? {
            let event = row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?;
            if bytes.len() + event.len() > query.bytes_max && !page.events.is_empty() {
                break;
            }
            if page.events.is_empty() {
                // The events of a log have about the same size.
                let count = (page.head - page.scanned_to).min(query.scan_max as u64);
                let count = usize::try_from(count).unwrap_or(usize::MAX);
                bytes.reserve(event.len().saturating_mul(count).min(query.bytes_max));
            }
            bytes.extend_from_slice(event);
            lengths.push(event.len());
            page.events.push(LogEvent { sequence, kind, bytes: Bytes::new() });
        }
        page.scanned_to = sequence;
    }
    let mut bytes = bytes.freeze();
    for (event, length) in page.events.iter_mut().zip(lengths) {
        event.bytes = bytes.split_to(length);
    }
    Ok(())
}

fn matches(query: &EventQuery, kind: PayloadKind, row: &Row<'_>) -> rusqlite::Result<bool> {
    let is_kind = query.kinds.is_empty() || query.kinds.contains(&kind);
    Ok(is_kind && (query.call_id.is_none() || query.call_id == optional_call_id(row, 1)?))
}
