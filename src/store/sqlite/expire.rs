//! One round of expiry, inside the writer's transaction: what is too old is removed, and logs that are too
//! long are trimmed.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::calls;
use super::columns::{
    SqlTime, SqlU64, call_id, count, optional_call_id, stream_from_number, unreadable,
};
use super::follow_ups;
use super::messages;
use super::output::{load_counts, save_counts};
use super::session_cache::session_row;
use crate::model::{CallId, OutputStream};
use crate::store::rules::OutputCounts;
use crate::store::session_row::SessionRow;
use crate::store::{Expired, ExpiryPolicy};

/// Removes expired rows, at most `rows_max` of them.
pub(super) fn expire(connection: &Connection, policy: &ExpiryPolicy) -> rusqlite::Result<Expired> {
    let budget = u64::from(policy.rows_max.max(1));
    let mut round = Round { connection, policy, budget, removed: Expired::default() };
    round.expire_calls()?;
    round.expire_follow_ups()?;
    round.expire_sessions()?;
    round.expire_requests()?;
    round.trim_logs()?;
    round.removed.more = round.expired_call()?.is_some()
        || round.expired_follow_up()?.is_some()
        || round.expired_session()?.is_some()
        || round.expired_request()?
        || round.long_log()?.is_some();
    Ok(round.removed)
}

struct Round<'a> {
    connection: &'a Connection,
    policy: &'a ExpiryPolicy,
    /// The number of rows that this round may still remove.
    budget: u64,
    removed: Expired,
}

impl Round<'_> {
    /// Removes calls. The requests of a call are removed first: if the budget ends among them, the
    /// next round finds the call again.
    fn expire_calls(&mut self) -> rusqlite::Result<()> {
        while self.budget > 0
            && let Some((id, session_key)) = self.expired_call()?
        {
            let requests = self.run(
                "DELETE FROM requests WHERE key IN
                     (SELECT key FROM requests WHERE call_id = ?1 LIMIT ?2)",
                params![id.as_bytes(), SqlU64(self.budget)],
            )?;
            self.removed.requests += requests;
            self.budget -= requests;
            if self.budget > 0 {
                calls::forget(self.connection, id)?;
                self.release(session_key)?;
                self.removed.calls += 1;
                self.budget -= 1;
            }
        }
        Ok(())
    }

    fn expire_follow_ups(&mut self) -> rusqlite::Result<()> {
        while self.budget > 0
            && let Some((key, session_key)) = self.expired_follow_up()?
        {
            follow_ups::forget(self.connection, key)?;
            self.release(session_key)?;
            self.removed.follow_ups += 1;
            self.budget -= 1;
        }
        Ok(())
    }

    /// Counts one call or follow-up of a session less.
    fn release(&self, session_key: i64) -> rusqlite::Result<()> {
        self.run("UPDATE sessions SET calls = calls - 1 WHERE key = ?1", [session_key]).map(|_| ())
    }

    fn expire_sessions(&mut self) -> rusqlite::Result<()> {
        while self.budget > 0
            && let Some(log) = self.expired_session()?
        {
            let trimmed = self.trim(log, self.budget)?;
            self.budget -= trimmed;
            self.budget -= messages::remove(self.connection, log.key, self.budget)?;
            if self.budget > 0 {
                self.remove_session(log.key)?;
                self.removed.sessions += 1;
                self.budget -= 1;
            }
        }
        Ok(())
    }

    /// Removes a session. The request that created it expires by its age from now on.
    fn remove_session(&self, key: i64) -> rusqlite::Result<()> {
        self.run(
            "UPDATE requests SET session_id = NULL
             WHERE session_id = (SELECT id FROM sessions WHERE key = ?1)",
            [key],
        )?;
        self.run("DELETE FROM session_bodies WHERE session_key = ?1", [key])?;
        self.run("DELETE FROM sessions WHERE key = ?1", [key])?;
        Ok(())
    }

    fn expire_requests(&mut self) -> rusqlite::Result<()> {
        let requests = self.run(
            "DELETE FROM requests WHERE key IN
                 (SELECT key FROM requests
                  WHERE call_id IS NULL AND session_id IS NULL AND create_time < ?1 LIMIT ?2)",
            params![SqlTime(self.policy.older_than), SqlU64(self.budget)],
        )?;
        self.removed.requests += requests;
        self.budget -= requests;
        Ok(())
    }

    fn trim_logs(&mut self) -> rusqlite::Result<()> {
        while self.budget > 0
            && let Some(log) = self.long_log()?
        {
            let excess = log.length().saturating_sub(self.policy.session_events_max);
            let trimmed = self.trim(log, excess.min(self.budget))?;
            self.removed.events += trimmed;
            self.budget -= trimmed;
        }
        Ok(())
    }

    /// Removes the oldest `events` events, or all, and updates the counts of output.
    fn trim(&self, log: SessionRow, events: u64) -> rusqlite::Result<u64> {
        let events = events.min(log.length());
        let log = SessionRow { first: log.first.saturating_add(events), ..log };
        let mut counts: BTreeMap<CallId, Option<OutputCounts>> = BTreeMap::new();
        {
            let mut statement = self.connection.prepare_cached(
                "DELETE FROM events WHERE session_key = ?1 AND sequence < ?2
                 RETURNING call_id, stream, length",
            )?;
            let mut rows = statement.query(params![log.key, SqlU64(log.first)])?;
            while let Some(row) = rows.next()? {
                let Some((id, stream, length)) = output_of(row)? else { continue };
                if let Some(counts) = self.counts_of(&mut counts, id)? {
                    counts.trim(stream, length);
                }
            }
        }
        for (id, counts) in counts {
            if let Some(counts) = counts {
                save_counts(self.connection, id, &counts)?;
            }
        }
        self.run(
            "UPDATE sessions SET first = ?2, log_digits = ?3 WHERE key = ?1",
            params![log.key, SqlU64(log.first), log.log_digits()],
        )?;
        Ok(events)
    }

    /// Returns the counts of a call's output, or `None` if the call is deleted.
    fn counts_of<'c>(
        &self,
        counts: &'c mut BTreeMap<CallId, Option<OutputCounts>>,
        id: CallId,
    ) -> rusqlite::Result<Option<&'c mut OutputCounts>> {
        let counts = match counts.entry(id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(load_counts(self.connection, id)?),
        };
        Ok(counts.as_mut())
    }

    fn expired_call(&self) -> rusqlite::Result<Option<(CallId, i64)>> {
        self.connection
            .prepare_cached(
                "SELECT id, session_key FROM calls
                 WHERE live = 0 AND expire_time <= ?1 ORDER BY expire_time LIMIT 1",
            )?
            .query_row([SqlTime(self.policy.now)], |row| Ok((call_id(row, 0)?, row.get(1)?)))
            .optional()
    }

    /// Returns the key of an expired follow-up, and that of its session.
    fn expired_follow_up(&self) -> rusqlite::Result<Option<(i64, i64)>> {
        self.connection
            .prepare_cached(
                "SELECT key, session_key FROM follow_ups
                 WHERE expire_time <= ?1 ORDER BY expire_time LIMIT 1",
            )?
            .query_row([SqlTime(self.policy.now)], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()
    }

    fn expired_session(&self) -> rusqlite::Result<Option<SessionRow>> {
        self.connection
            .prepare_cached(
                "SELECT key, head, first, live, calls FROM sessions
                 WHERE calls = 0 AND (state = 3 OR implicit = 1) AND update_time < ?1
                 ORDER BY update_time LIMIT 1",
            )?
            .query_row([SqlTime(self.policy.older_than)], |row| session_row(row, 0))
            .optional()
    }

    fn expired_request(&self) -> rusqlite::Result<bool> {
        self.connection
            .prepare_cached(
                "SELECT 1 FROM requests
                 WHERE call_id IS NULL AND session_id IS NULL AND create_time < ?1 LIMIT 1",
            )?
            .exists([SqlTime(self.policy.older_than)])
    }

    /// Returns a log with too many events. Only logs whose length has enough binary digits are
    /// read.
    fn long_log(&self) -> rusqlite::Result<Option<SessionRow>> {
        let max = self.policy.session_events_max;
        let digits = u64::BITS - max.leading_zeros();
        self.connection
            .prepare_cached(
                "SELECT key, head, first, live, calls FROM sessions
                 WHERE log_digits >= ?1 AND head - first + 1 > ?2
                 ORDER BY log_digits DESC LIMIT 1",
            )?
            .query_row(params![digits, SqlU64(max)], |row| session_row(row, 0))
            .optional()
    }

    fn run(&self, sql: &str, params: impl rusqlite::Params) -> rusqlite::Result<u64> {
        self.connection.prepare_cached(sql)?.execute(params).map(|rows| rows as u64)
    }
}

/// Returns the piece of output that a removed event was, or `None` if it was another event.
fn output_of(row: &Row<'_>) -> rusqlite::Result<Option<(CallId, OutputStream, u64)>> {
    let (Some(id), Some(stream)) = (optional_call_id(row, 0)?, row.get::<_, Option<u8>>(1)?) else {
        return Ok(None);
    };
    let stream = stream_from_number(stream).map_err(|cause| unreadable(1, cause))?;
    Ok(Some((id, stream, count(row, 2)?)))
}
