//! Reads of single records and of logs, each in one read transaction.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::columns::{SqlU64, call_id, count, session_id, time};
use super::error::{SqliteError, readable};
use super::event_row::EVENT_COLUMNS;
use super::record;
use super::session_cache::{self, SESSION_COLUMNS};
use crate::model::{Call, CallId, Session, SessionId, SessionState, Tenant, Timestamp};
use crate::store::event_row::EventRow;
use crate::store::{EventPage, EventQuery, LogEvent, RequestRecord, StoreError};

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
    record::decode(row, column, "a call")
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
    Ok(Some(RequestRecord {
        tenant: tenant.clone(),
        request_id: request_id.to_owned(),
        fingerprint: row.get(0)?,
        effect: record::decode(row, 1, "a request")?,
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

/// The calls that are read to find out whether a time is true.
const CALLS_OF_EVIDENCE: u32 = 64;

/// The time by which the newest change of a session may follow that of the newest calls.
const TIME_WITHOUT_CALLS: Duration = Duration::from_secs(24 * 3_600);

/// Returns the time of the newest change of a session. The column has no checksum, and a time in the
/// far future would end the retention of everything: one that is not supported by the records of the
/// newest calls is replaced by theirs.
pub(super) fn newest_time(connection: &Connection) -> Result<Option<Timestamp>, SqliteError> {
    let newest = "SELECT max(update_time) FROM sessions HAVING max(update_time) IS NOT NULL";
    let Some(newest) = connection.query_row(newest, [], |row| time(row, 0)).optional()? else {
        return Ok(None);
    };
    let mut calls =
        connection.prepare_cached("SELECT body FROM calls ORDER BY key DESC LIMIT ?1")?;
    let mut rows = calls.query([CALLS_OF_EVIDENCE])?;
    let mut evidence = None;
    while let Some(row) = rows.next()? {
        let call = readable(call_in(row, 0))?;
        evidence = evidence.max(call.map(|call| call.update_time));
    }
    let is_true = evidence.is_none_or(|time| newest.since(time) <= TIME_WITHOUT_CALLS);
    Ok(if is_true { Some(newest) } else { evidence })
}

/// A log, as the row of its session describes it.
struct Log {
    session_id: SessionId,
    session_key: i64,
    /// The largest key of an event that was written under an earlier epoch, of whatever log.
    former_epoch_events: i64,
}

/// Reads events of a session. A damaged event ends the page before it, and fails the next one.
pub(super) fn events(
    connection: &Connection,
    query: &EventQuery,
) -> Result<EventPage, SqliteError> {
    let found = connection
        .prepare_cached(
            "SELECT key, head, first, state,
                 (SELECT value FROM counters WHERE name = 'former_epoch_events')
             FROM sessions WHERE id = ?1",
        )?
        .query_row([query.session_id.as_bytes()], |row| {
            let (session_key, former_epoch_events) = (row.get(0)?, row.get(4)?);
            let log = Log { session_id: query.session_id, session_key, former_epoch_events };
            Ok((log, count(row, 1)?, count(row, 2)?, row.get::<_, u8>(3)?))
        })
        .optional()?;
    let mut page = EventPage {
        events: Vec::new(),
        scanned_to: query.after,
        head: 0,
        first: 1,
        closed: false,
        stream_epoch: None,
    };
    let Some((log, head, first, state)) = found else { return Ok(page) };
    page.scanned_to = query.after.max(first.saturating_sub(1));
    (page.head, page.first) = (head, first);
    page.closed = state == SessionState::Closed.number();
    if page.scanned_to < head && query.scan_max > 0 {
        log.scan(connection, query, &mut page)?;
    }
    log.check_ends(connection, query, &page)?;
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
    fn condition(self) -> &'static str {
        match self {
            Self::All { .. } => "key BETWEEN ?1 AND ?2 ORDER BY key",
            // The plus sign keeps SQLite from using the index of sessions.
            Self::Among { .. } => "key BETWEEN ?1 AND ?2 AND +session_key = ?3 ORDER BY key",
            Self::Indexed { .. } => "sequence > ?1 AND session_key = ?3 ORDER BY sequence LIMIT ?2",
        }
    }
}

impl Log {
    /// Chooses how to read the page, and finds out whether it begins with events of an earlier
    /// epoch.
    fn rows(
        &self,
        connection: &Connection,
        query: &EventQuery,
        page: &EventPage,
    ) -> Result<(Rows, bool), SqliteError> {
        let count = (page.head - page.scanned_to).min(query.scan_max as u64);
        let (first, last) = (page.scanned_to + 1, page.scanned_to + count);
        let (first, last) = (self.key(connection, first)?, self.key(connection, last)?);
        let rows = i64::try_from(count).unwrap_or(i64::MAX);
        let span = last.saturating_sub(first).saturating_add(1);
        let rows = match span {
            _ if span == rows => Rows::All { first, last },
            _ if span <= rows.saturating_mul(1 + FOREIGN_ROWS_MAX) => Rows::Among { first, last },
            _ => Rows::Indexed { after: page.scanned_to, count },
        };
        Ok((rows, first <= self.former_epoch_events))
    }

    fn key(&self, connection: &Connection, sequence: u64) -> Result<i64, SqliteError> {
        connection
            .prepare_cached("SELECT key FROM events WHERE session_key = ?1 AND sequence = ?2")?
            .query_row(params![self.session_key, SqlU64(sequence)], |row| row.get(0))
            .optional()?
            .ok_or_else(|| self.damaged(&format!("event {sequence}: it is missing")))
    }

    /// Checks that the ends of the log are those that its row says, where the page meets them: no
    /// event is hidden.
    fn check_ends(
        &self,
        connection: &Connection,
        query: &EventQuery,
        page: &EventPage,
    ) -> Result<(), SqliteError> {
        let mut exists = connection
            .prepare_cached("SELECT 1 FROM events WHERE session_key = ?1 AND sequence = ?2")?;
        let mut is_hidden = |sequence| exists.exists(params![self.session_key, SqlU64(sequence)]);
        if page.scanned_to >= page.head && is_hidden(page.head.saturating_add(1))? {
            return Err(self.damaged(&format!("its newest event is not {}", page.head)));
        }
        let before = page.first.saturating_sub(1);
        if query.after < before && is_hidden(before)? {
            return Err(self.damaged(&format!("its oldest event is not {}", page.first)));
        }
        Ok(())
    }

    fn damaged(&self, cause: &str) -> SqliteError {
        StoreError::Corrupt(format!("session {}: {cause}", self.session_id)).into()
    }

    fn scan(
        &self,
        connection: &Connection,
        query: &EventQuery,
        page: &mut EventPage,
    ) -> Result<(), SqliteError> {
        let (rows, is_former_epoch) = self.rows(connection, query, page)?;
        if is_former_epoch {
            let session = session(connection, self.session_id)?;
            page.stream_epoch = session.map(|session| session.stream_epoch);
        }
        let condition = rows.condition();
        let mut statement = connection
            .prepare_cached(&format!("SELECT {EVENT_COLUMNS} FROM events WHERE {condition}"))?;
        let mut rows = match rows {
            Rows::All { first, last } => statement.query([first, last])?,
            Rows::Among { first, last } => statement.query([first, last, self.session_key])?,
            Rows::Indexed { after, count } => {
                statement.query(params![SqlU64(after), SqlU64(count), self.session_key])?
            }
        };
        let start = page.scanned_to;
        // One allocation holds the bytes of all events of the page.
        let mut bytes = BytesMut::new();
        let mut lengths = Vec::new();
        while let Some(row) = rows.next()? {
            // Sequences have no gap.
            let sequence = page.scanned_to + 1;
            let event = match self.event(row, query, sequence) {
                Ok(event) => event,
                Err(SqliteError::Store(_)) if page.scanned_to > start => break,
                Err(error) => return Err(error),
            };
            if let Some(event) = event {
                if bytes.len() + event.bytes.len() > query.bytes_max && !page.events.is_empty() {
                    break;
                }
                if page.events.is_empty() {
                    // The events of a log have about the same size.
                    let count = (page.head - page.scanned_to).min(query.scan_max as u64);
                    let count = usize::try_from(count).unwrap_or(usize::MAX);
                    bytes.reserve(event.bytes.len().saturating_mul(count).min(query.bytes_max));
                }
                bytes.extend_from_slice(event.bytes);
                lengths.push(event.bytes.len());
                page.events.push(LogEvent { sequence, kind: event.kind, bytes: Bytes::new() });
            }
            page.scanned_to = sequence;
        }
        let mut bytes = bytes.freeze();
        for (event, length) in page.events.iter_mut().zip(lengths) {
            event.bytes = bytes.split_to(length);
        }
        Ok(())
    }

    /// Reads an event, or returns `None` if the query does not ask for it.
    fn event<'a>(
        &self,
        row: &'a Row<'_>,
        query: &EventQuery,
        sequence: u64,
    ) -> Result<Option<EventRow<'a>>, SqliteError> {
        let unreadable =
            |cause: rusqlite::Error| self.damaged(&format!("event {sequence}: {cause}"));
        let kind = EventRow::kind(row).map_err(unreadable)?;
        if !query.kinds.is_empty() && !query.kinds.contains(&kind) {
            return Ok(None);
        }
        let call_id = EventRow::call_id(row).map_err(unreadable)?;
        if query.call_id.is_some() && query.call_id != call_id {
            return Ok(None);
        }
        let event = match EventRow::read(row) {
            Err(SqliteError::Store(StoreError::Corrupt(cause))) => return Err(self.damaged(&cause)),
            read => read?,
        };
        match event.sequence == sequence {
            true => Ok(Some(event)),
            false => Err(self.damaged(&format!("event {sequence}: it is missing"))),
        }
    }
}
