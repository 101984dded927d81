//! The writer's cache of the sessions that it wrote last.

use std::collections::HashMap;

use rusqlite::{Connection, Row};

use super::columns::{count, time};
use super::error::{SqliteError, corrupt};
use crate::model::{Session, SessionId, Timestamp};

/// The most sessions in the cache. One more clears it: sessions are read again when they are
/// needed.
const SESSIONS_MAX: usize = 4_096;
/// The most bytes of JSON of the sessions in the cache. Beyond it the cache is cleared, too.
const SESSIONS_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A session's row, and its body as it was last written.
#[derive(Debug)]
pub(super) struct CachedSession {
    pub(super) row: SessionRow,
    pub(super) body: Session,
}

/// The columns of a session's row that the writer needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct SessionRow {
    pub(super) key: i64,
    pub(super) head: u64,
    pub(super) first: u64,
    pub(super) live: u64,
    /// The number of stored calls and follow-ups. The session is kept while there are any.
    pub(super) calls: u64,
}

impl SessionRow {
    /// Returns whether only the head differs, and the length of the log has as many binary digits.
    pub(super) fn only_head_differs(self, other: Self) -> bool {
        (self.live, self.calls, self.log_digits()) == (other.live, other.calls, other.log_digits())
    }

    /// Returns the binary digits of the length of the log, by which long logs are found.
    pub(super) fn log_digits(self) -> u32 {
        u64::BITS - self.length().leading_zeros()
    }

    /// Returns the number of events in the log.
    pub(super) fn length(self) -> u64 {
        self.head.saturating_add(1).saturating_sub(self.first)
    }
}

/// The writer's copy of session rows. It must be cleared after a rollback, and after any change of
/// sessions that bypasses it.
#[derive(Debug, Default)]
pub(super) struct SessionCache {
    known: HashMap<SessionId, CachedSession>,
    bytes: usize,
}

impl SessionCache {
    /// Returns the row of a session, from the cache or from the database.
    pub(super) fn load(
        &mut self,
        connection: &Connection,
        id: SessionId,
    ) -> Result<Option<&CachedSession>, SqliteError> {
        if !self.known.contains_key(&id) {
            let Some((head, bytes)) = read(connection, id)? else { return Ok(None) };
            self.insert(id, head, bytes);
        }
        Ok(self.known.get(&id))
    }

    /// Adds a row whose body takes `bytes` bytes of JSON.
    pub(super) fn insert(&mut self, id: SessionId, head: CachedSession, bytes: usize) {
        if self.known.len() >= SESSIONS_MAX || self.bytes.saturating_add(bytes) > SESSIONS_BYTES_MAX
        {
            self.clear();
        }
        self.bytes = self.bytes.saturating_add(bytes);
        self.known.insert(id, head);
    }

    /// Changes the row of a session, but not its body.
    pub(super) fn set_row(&mut self, id: SessionId, row: SessionRow) {
        if let Some(head) = self.known.get_mut(&id) {
            head.row = row;
        }
    }

    pub(super) fn clear(&mut self) {
        self.known.clear();
        self.bytes = 0;
    }
}

/// Returns the session without the fields that have columns. While it is equal, its JSON need not
/// be written.
pub(super) fn body_of(session: Session) -> Session {
    Session {
        update_time: Timestamp::default(),
        live_tasks: 0,
        head_sequence: 0,
        first_sequence: 1,
        ..session
    }
}

/// The columns that [`session`] reads, in this order, of `sessions` as s and `session_bodies` as b.
pub(super) const SESSION_COLUMNS: &str = "b.body, s.update_time, s.live, s.head, s.first";

/// The number of [`SESSION_COLUMNS`].
pub(super) const SESSION_COLUMNS_COUNT: usize = 5;

/// Reads a session from a row of [`SESSION_COLUMNS`].
pub(super) fn session(row: &Row<'_>) -> Result<Session, SqliteError> {
    let body = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
    let body: Session = serde_json::from_str(body).map_err(|cause| corrupt("a session", &cause))?;
    Ok(Session {
        update_time: time(row, 1)?,
        live_tasks: u32::try_from(count(row, 2)?).unwrap_or(u32::MAX),
        head_sequence: count(row, 3)?,
        first_sequence: count(row, 4)?,
        ..body
    })
}

fn read(
    connection: &Connection,
    id: SessionId,
) -> Result<Option<(CachedSession, usize)>, SqliteError> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {SESSION_COLUMNS}, s.key, s.calls
         FROM sessions s JOIN session_bodies b ON b.session_key = s.key WHERE s.id = ?1"
    ))?;
    let mut rows = statement.query([id.as_bytes()])?;
    rows.next()?.map(head).transpose()
}

fn head(row: &Row<'_>) -> Result<(CachedSession, usize), SqliteError> {
    let columns = SessionRow {
        key: row.get(5)?,
        head: count(row, 3)?,
        first: count(row, 4)?,
        live: count(row, 2)?,
        calls: count(row, 6)?,
    };
    let head = CachedSession { row: columns, body: body_of(session(row)?) };
    let bytes = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?.len();
    Ok((head, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::world::SessionWriter;

    #[test]
    fn the_cache_is_bounded() {
        for (count, bytes, most) in [(100, 1024 * 1024, 16), (SESSIONS_MAX + 10, 1, SESSIONS_MAX)] {
            let mut sessions = SessionCache::default();
            for _ in 0..count {
                let row = SessionRow { key: 1, head: 0, first: 1, live: 0, calls: 0 };
                let body = SessionWriter::new(0).session;
                sessions.insert(body.id, CachedSession { row, body }, bytes);
                assert!(sessions.known.len() <= most);
            }
        }
    }
}
