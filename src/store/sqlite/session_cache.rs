//! The writer's cache of sessions, and their columns.

use rusqlite::{Connection, Row};

use super::columns::{count, time};
use super::error::SqliteError;
use super::record;
use crate::model::{Session, SessionId};
use crate::store::session_cache::SessionCache;
use crate::store::session_row::{SessionRow, body_of, session_of};

/// A session's row, and its body as it was last written.
#[derive(Debug)]
pub(super) struct CachedSession {
    pub(super) row: SessionRow,
    pub(super) body: Session,
}

/// Returns the row of a session, from the cache or from the database.
pub(super) fn load<'a>(
    cache: &'a mut SessionCache<CachedSession>,
    connection: &Connection,
    id: SessionId,
) -> Result<Option<&'a CachedSession>, SqliteError> {
    if cache.get(id).is_none() {
        let Some((head, bytes)) = read(connection, id)? else { return Ok(None) };
        cache.insert(id, head, bytes);
    }
    Ok(cache.get(id))
}

/// The columns that [`session`] reads, in this order, of `sessions` as s and `session_bodies` as b.
pub(super) const SESSION_COLUMNS: &str =
    "b.body, s.update_time, s.key, s.head, s.first, s.live, s.calls";

/// The number of [`SESSION_COLUMNS`].
pub(super) const SESSION_COLUMNS_COUNT: usize = 7;

/// Reads a session from a row of [`SESSION_COLUMNS`].
pub(super) fn session(row: &Row<'_>) -> Result<Session, SqliteError> {
    Ok(session_of(record::decode(row, 0, "a session")?, session_row(row, 2)?, time(row, 1)?))
}

/// Reads the columns key, head, first, live and calls.
pub(super) fn session_row(row: &Row<'_>, column: usize) -> rusqlite::Result<SessionRow> {
    Ok(SessionRow {
        key: row.get(column)?,
        head: count(row, column + 1)?,
        first: count(row, column + 2)?,
        live: count(row, column + 3)?,
        calls: count(row, column + 4)?,
    })
}

fn read(
    connection: &Connection,
    id: SessionId,
) -> Result<Option<(CachedSession, usize)>, SqliteError> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {SESSION_COLUMNS}
         FROM sessions s JOIN session_bodies b ON b.session_key = s.key WHERE s.id = ?1"
    ))?;
    let mut rows = statement.query([id.as_bytes()])?;
    rows.next()?.map(cached).transpose()
}

fn cached(row: &Row<'_>) -> Result<(CachedSession, usize), SqliteError> {
    let session = CachedSession { row: session_row(row, 2)?, body: body_of(session(row)?) };
    let bytes = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?.len();
    Ok((session, bytes))
}
