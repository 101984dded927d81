//! The writing of one append inside the writer's transaction.

use rusqlite::{CachedStatement, Connection, params};

use super::calls::{self, CallRow};
use super::columns::{SqlTime, SqlU64};
use super::error::SqliteError;
use super::event_row;
use super::follow_ups;
use super::messages;
use super::output::{load_counts, save_counts};
use super::session_cache::{self, CachedSession};
use crate::model::{Call, CallId, SessionId};
use crate::store::prepared::Prepared;
use crate::store::rules::{self, OutputCounts};
use crate::store::session_cache::SessionCache;
use crate::store::session_row::SessionRow;
use crate::store::{Append, RequestRecord, StoreError, StoredEvent, record};

/// An append that has passed all checks.
struct Checked {
    /// The row of the session before the append, or `None` if the session is new.
    row: Option<SessionRow>,
    /// The rows of the append's calls, or `None` for those that are new.
    known: Vec<Option<CallRow>>,
    /// The session as JSON, or `None` if it has not changed.
    body: Option<String>,
}

/// The counters of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counters {
    /// The newest change number.
    pub(super) change: u64,
    /// The number of commits.
    pub(super) commit: u64,
}

/// A transaction of the writer, with the state and the statements that every append in it needs.
pub(super) struct WriteTransaction<'a> {
    connection: &'a Connection,
    sessions: &'a mut SessionCache<CachedSession>,
    /// The counters, which [`WriteTransaction::finish`] saves.
    counters: &'a mut Counters,
    change_before: u64,
    rows_before: u64,
    put_event: CachedStatement<'a>,
    move_head: CachedStatement<'a>,
}

impl<'a> WriteTransaction<'a> {
    pub(super) fn begin(
        connection: &'a Connection,
        sessions: &'a mut SessionCache<CachedSession>,
        counters: &'a mut Counters,
    ) -> rusqlite::Result<Self> {
        Ok(Self {
            connection,
            sessions,
            change_before: counters.change,
            counters,
            rows_before: connection.total_changes(),
            put_event: connection.prepare_cached(event_row::PUT_EVENT)?,
            move_head: connection.prepare_cached(MOVE_HEAD)?,
        })
    }

    /// Saves the counters, unless nothing has been written.
    pub(super) fn finish(self) -> rusqlite::Result<()> {
        if self.connection.total_changes() == self.rows_before {
            return Ok(());
        }
        self.counters.commit = self.counters.commit.saturating_add(1);
        let Counters { change, commit } = *self.counters;
        if change == self.change_before {
            let save = "UPDATE counters SET value = ?1 WHERE name = 'commit'";
            return self.connection.prepare_cached(save)?.execute([SqlU64(commit)]).map(|_| ());
        }
        self.connection
            .prepare_cached(
                "UPDATE counters SET value = CASE name WHEN 'change' THEN ?1 ELSE ?2 END
                 WHERE name IN ('change', 'commit')",
            )?
            .execute([SqlU64(change), SqlU64(commit)])
            .map(|_| ())
    }

    pub(super) fn connection(&self) -> &'a Connection {
        self.connection
    }

    /// Checks and writes one append. The inner error means that it was refused before anything was
    /// written. After an error of SQLite the transaction must be rolled back.
    pub(super) fn apply(
        &mut self,
        prepared: &Prepared,
    ) -> rusqlite::Result<Result<(), StoreError>> {
        match self.check(prepared) {
            Ok(checked) => self.write(prepared, checked).map(Ok),
            Err(SqliteError::Store(refused)) => Ok(Err(refused)),
            Err(SqliteError::Sql(error)) => Err(error),
        }
    }

    fn check(&mut self, prepared: &Prepared) -> Result<Checked, SqliteError> {
        let append = &prepared.append;
        let head = session_cache::load(self.sessions, self.connection, append.session_id)?;
        let changed = head.as_ref().is_none_or(|head| head.body != append.session);
        let row = head.map(|head| head.row);
        rules::check_append(append, row.map(|row| row.head))?;
        let known = self.find_calls(append, row)?;
        let owner = |id| follow_ups::owner(self.connection, id).map_err(SqliteError::from);
        rules::check_follow_ups(append, row.map(|row| row.head), owner)?;
        self.check_requests(append)?;
        let body = if changed { Some(record::encode(&append.session)?) } else { None };
        Ok(Checked { row, known, body })
    }

    /// Writes a checked append. Only SQLite can fail here.
    fn write(&mut self, prepared: &Prepared, checked: Checked) -> rusqlite::Result<()> {
        let append = &prepared.append;
        let mut row = match checked.row {
            Some(row) => row,
            None => self.create_session(prepared)?,
        };
        self.put_events(row.key, &append.events, &prepared.checksums)?;
        row.head = row.head.saturating_add(append.events.len() as u64);
        let calls = append.calls.iter().zip(&prepared.call_bodies);
        for ((call, body), known) in calls.zip(checked.known) {
            self.put_call(&mut row, call, body, known)?;
        }
        for id in &append.deleted_calls {
            self.delete_call(&mut row, *id)?;
        }
        messages::put(self.connection, row.key, &append.messages)?;
        for (put, bodies) in append.follow_ups.iter().zip(&prepared.follow_ups) {
            let is_new = follow_ups::put(self.connection, row.key, &put.record, bodies)?;
            row.calls = row.calls.saturating_add(u64::from(is_new));
        }
        for (request, effect) in append.requests.iter().zip(&prepared.effects) {
            self.put_request(request, effect)?;
        }
        self.save_session(prepared, checked.row, row, checked.body)
    }

    fn find_calls(
        &self,
        append: &Append,
        session: Option<SessionRow>,
    ) -> Result<Vec<Option<CallRow>>, SqliteError> {
        let mut known = Vec::with_capacity(append.calls.len());
        for call in &append.calls {
            let found = calls::find(self.connection, call.id)?;
            let in_session =
                |known: CallRow| session.is_some_and(|row| row.key == known.session_key);
            let own = found.is_none_or(in_session);
            if !own {
                return Err(StoreError::Conflict { head: session.map(|row| row.head) }.into());
            }
            known.push(found);
        }
        Ok(known)
    }

    fn check_requests(&self, append: &Append) -> Result<(), SqliteError> {
        rules::check_requests(append)?;
        for RequestRecord { tenant, request_id, .. } in &append.requests {
            let taken = self
                .connection
                .prepare_cached("SELECT 1 FROM requests WHERE tenant = ?1 AND request_id = ?2")?
                .exists(params![tenant.as_str(), request_id])?;
            if taken {
                return Err(StoreError::RequestTaken { request_id: request_id.clone() }.into());
            }
        }
        Ok(())
    }

    /// Creates the row of a session. The changes of the append are saved at the end.
    fn create_session(&mut self, prepared: &Prepared) -> rusqlite::Result<SessionRow> {
        let session = &prepared.append.session;
        self.connection
            .prepare_cached(
                "INSERT INTO sessions (id, tenant, state, implicit, create_time, update_time,
                     head, first, live, calls, log_digits)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, 1, 0, 0, 0)",
            )?
            .execute(params![
                session.id.as_bytes(),
                session.tenant.as_str(),
                session.state.number(),
                session.implicit,
                SqlTime(session.create_time),
                SqlTime(prepared.update_time),
            ])?;
        let key = self.connection.last_insert_rowid();
        Ok(SessionRow { key, head: 0, first: 1, live: 0, calls: 0 })
    }

    fn put_events(
        &mut self,
        session_key: i64,
        events: &[StoredEvent],
        checksums: &[u32],
    ) -> rusqlite::Result<()> {
        let mut counts: Vec<(CallId, OutputCounts)> = Vec::new();
        for (event, checksum) in events.iter().zip(checksums) {
            event_row::put(&mut self.put_event, session_key, event, *checksum)?;
            if let (Some(id), Some((position, length))) = (event.call_id, &event.output) {
                self.counts_of(&mut counts, id)?.add(position, *length);
            }
        }
        for (id, counts) in counts {
            save_counts(self.connection, id, &counts)?;
        }
        Ok(())
    }

    /// Returns the counts of a call's output. They are read when the append first touches the call.
    fn counts_of<'c>(
        &self,
        counts: &'c mut Vec<(CallId, OutputCounts)>,
        id: CallId,
    ) -> rusqlite::Result<&'c mut OutputCounts> {
        let index = match counts.iter().position(|(known, _)| *known == id) {
            Some(index) => index,
            None => {
                let stored = load_counts(self.connection, id)?.unwrap_or_default();
                counts.push((id, stored));
                counts.len() - 1
            }
        };
        Ok(&mut counts[index].1)
    }

    fn put_call(
        &mut self,
        session: &mut SessionRow,
        call: &Call,
        body: &str,
        known: Option<CallRow>,
    ) -> rusqlite::Result<()> {
        self.counters.change = self.counters.change.saturating_add(1);
        let change = self.counters.change;
        let live = !call.state.is_terminal();
        match known {
            Some(known) => calls::update(self.connection, known.key, call, change, body)?,
            None => calls::insert(self.connection, session.key, call, change, body)?,
        }
        let was_live = known.is_some_and(|known| known.live);
        session.calls = session.calls.saturating_add(u64::from(known.is_none()));
        session.live = session.live.saturating_add(u64::from(live && !was_live));
        session.live = session.live.saturating_sub(u64::from(was_live && !live));
        Ok(())
    }

    /// Deletes a call. Requests about it stay until they are old, so that a retry gets the same
    /// answer.
    fn delete_call(&self, session: &mut SessionRow, id: CallId) -> rusqlite::Result<()> {
        let Some(known) = calls::find(self.connection, id)? else { return Ok(()) };
        if known.session_key != session.key {
            return Ok(());
        }
        session.calls = session.calls.saturating_sub(1);
        session.live = session.live.saturating_sub(u64::from(known.live));
        self.connection
            .prepare_cached("UPDATE requests SET call_id = NULL WHERE call_id = ?1")?
            .execute([id.as_bytes()])?;
        calls::forget(self.connection, id)
    }

    fn put_request(&self, request: &RequestRecord, effect: &str) -> rusqlite::Result<()> {
        let call_id = request.effect.call_id();
        let session_id = request.effect.created_session();
        self.connection
            .prepare_cached(
                "INSERT INTO requests (tenant, request_id, fingerprint, effect, create_time,
                     call_id, session_id)
                 VALUES (?1, ?2, ?3, ?4, ?5, (SELECT id FROM calls WHERE id = ?6),
                     (SELECT id FROM sessions WHERE id = ?7))",
            )?
            .execute(params![
                request.tenant.as_str(),
                request.request_id,
                request.fingerprint,
                effect,
                SqlTime(request.create_time),
                call_id.as_ref().map(CallId::as_bytes),
                session_id.as_ref().map(SessionId::as_bytes),
            ])?;
        Ok(())
    }

    fn save_session(
        &mut self,
        prepared: &Prepared,
        before: Option<SessionRow>,
        row: SessionRow,
        body: Option<String>,
    ) -> rusqlite::Result<()> {
        let session = &prepared.append.session;
        let Some(body) = body else {
            if before.is_some_and(|before| before.only_head_differs(row)) {
                let update_time = SqlTime(prepared.update_time);
                self.move_head.execute(params![row.key, SqlU64(row.head), update_time])?;
            } else {
                self.update_session(prepared, row)?;
            }
            if let Some(cached) = self.sessions.get_mut(session.id) {
                cached.row = row;
            }
            return Ok(());
        };
        self.update_session(prepared, row)?;
        self.connection
            .prepare_cached(
                "INSERT INTO session_bodies (session_key, body) VALUES (?1, ?2)
                 ON CONFLICT (session_key) DO UPDATE SET body = excluded.body",
            )?
            .execute(params![row.key, body])?;
        self.sessions.insert(session.id, CachedSession { row, body: session.clone() }, body.len());
        Ok(())
    }

    fn update_session(&self, prepared: &Prepared, row: SessionRow) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached(
                "UPDATE sessions SET state = ?2, update_time = ?3, head = ?4, live = ?5,
                     calls = ?6, log_digits = ?7
                 WHERE key = ?1",
            )?
            .execute(params![
                row.key,
                prepared.append.session.state.number(),
                SqlTime(prepared.update_time),
                SqlU64(row.head),
                SqlU64(row.live),
                SqlU64(row.calls),
                row.log_digits(),
            ])?;
        Ok(())
    }
}

/// The change that most appends make to a session. It touches no index of a live one.
const MOVE_HEAD: &str = "UPDATE sessions SET head = ?2, update_time = ?3 WHERE key = ?1";
