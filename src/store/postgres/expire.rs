//! One round of expiry, inside a transaction of the writer: what is too old is removed, and logs that are too
//! long are trimmed. The rows of a table are removed together.

use std::collections::{BTreeMap, HashMap};

use deadpool_postgres::ClientWrapper;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::columns::{call_id, count, get, number, optional_call_id, stream_of};
use super::error::PostgresError;
use super::load::session_row;
use super::output::{COUNTS_COLUMNS, counts, save_counts};
use crate::model::{CallId, OutputStream};
use crate::store::rules::OutputCounts;
use crate::store::session_row::SessionRow;
use crate::store::{Expired, ExpiryPolicy};

/// The key of the lock of a round. One replica at a time removes rows.
const LOCK_KEY: i64 = i64::from_be_bytes(*b"callpare");

/// Begins a transaction, and removes expired rows, at most `rows_max` of them. Removes none if another
/// replica is doing that.
pub(super) async fn expire(
    client: &ClientWrapper,
    policy: &ExpiryPolicy,
) -> Result<Expired, PostgresError> {
    client.batch_execute("BEGIN").await?;
    let locked = client.query_one("SELECT pg_try_advisory_xact_lock($1)", &[&LOCK_KEY]).await?;
    if !get::<bool>(&locked, 0)? {
        return Ok(Expired::default());
    }
    let budget = u64::from(policy.rows_max.max(1));
    let mut round = Round { client, policy, budget, removed: Expired::default() };
    round.expire_calls().await?;
    round.expire_follow_ups().await?;
    round.expire_sessions().await?;
    round.expire_requests().await?;
    round.trim_logs().await?;
    round.removed.more = round.has_more().await?;
    Ok(round.removed)
}

struct Round<'a> {
    client: &'a ClientWrapper,
    policy: &'a ExpiryPolicy,
    /// The number of rows that this round may still remove.
    budget: u64,
    removed: Expired,
}

/// The expired rows of each kind, with the current time as $1 and that of old rows as $1 as well.
const CALLS: &str = "calls WHERE NOT live AND expire_time <= $1";
const FOLLOW_UPS: &str = "follow_ups WHERE expire_time <= $1";
const SESSIONS: &str = "sessions WHERE done_time < $1";
const REQUESTS: &str = "requests
     WHERE call_id IS NULL AND session_id IS NULL AND create_time < $1";
/// Only logs whose length has enough binary digits, $1, are read. The bound is $2.
const LOGS: &str = "sessions WHERE log_digits >= $1 AND head - first + 1 > $2";

impl Round<'_> {
    /// Removes calls. The requests of a call are removed first: if the budget ends among them, the
    /// next round finds the call again.
    async fn expire_calls(&mut self) -> Result<(), PostgresError> {
        let sql = format!(
            "SELECT id, session_key,
                 (SELECT count(*) FROM requests WHERE requests.call_id = expired.id)
             FROM (SELECT id, session_key FROM {CALLS} ORDER BY expire_time LIMIT $2) expired"
        );
        let now = self.policy.now.as_micros();
        let rows = self.query(&sql, &[&now, &number(self.budget)]).await?;
        let (mut whole, mut keys): (Vec<Uuid>, Vec<i64>) = (Vec::new(), Vec::new());
        let mut requests = 0;
        for row in &rows {
            let (id, of_call): (Uuid, _) = (get(row, 0)?, count(row, 2)?);
            if self.budget == 0 {
                break;
            }
            if of_call >= self.budget {
                // The call itself does not fit.
                let part = "DELETE FROM requests WHERE (tenant, request_id) IN
                     (SELECT tenant, request_id FROM requests WHERE call_id = $1 LIMIT $2)";
                requests += self.run(part, &[&id, &number(self.budget)]).await?;
                self.budget = 0;
                break;
            }
            self.budget -= of_call + 1;
            whole.push(id);
            keys.push(get(row, 1)?);
        }
        requests += self.run("DELETE FROM requests WHERE call_id = ANY($1)", &[&whole]).await?;
        self.run("DELETE FROM calls WHERE id = ANY($1)", &[&whole]).await?;
        self.run("DELETE FROM outputs WHERE call_id = ANY($1)", &[&whole]).await?;
        self.release(&keys).await?;
        self.removed.requests += requests;
        self.removed.calls += whole.len() as u64;
        Ok(())
    }

    async fn expire_follow_ups(&mut self) -> Result<(), PostgresError> {
        let sql = format!(
            "DELETE FROM follow_ups WHERE call_id IN
                 (SELECT call_id FROM {FOLLOW_UPS} ORDER BY expire_time LIMIT $2)
             RETURNING call_id, session_key"
        );
        let now = self.policy.now.as_micros();
        let rows = self.query(&sql, &[&now, &number(self.budget)]).await?;
        let ids = rows.iter().map(|row| get(row, 0)).collect::<Result<Vec<Uuid>, _>>()?;
        let keys = rows.iter().map(|row| get(row, 1)).collect::<Result<Vec<i64>, _>>()?;
        self.run("DELETE FROM follow_up_tasks WHERE call_id = ANY($1)", &[&ids]).await?;
        self.release(&keys).await?;
        self.removed.follow_ups += ids.len() as u64;
        self.budget -= ids.len() as u64;
        Ok(())
    }

    /// Counts a call or follow-up less for each of these keys of sessions.
    async fn release(&self, keys: &[i64]) -> Result<(), PostgresError> {
        let sql = "UPDATE sessions AS s SET calls = s.calls - gone.count,
                 done_time = CASE WHEN s.calls = gone.count AND (s.state = 3 OR s.implicit)
                     THEN s.update_time END
             FROM (SELECT key, count(*) AS count FROM unnest($1::bigint[]) AS k (key) GROUP BY key)
                 gone
             WHERE s.key = gone.key";
        self.run(sql, &[&keys]).await.map(|_| ())
    }

    /// Removes sessions with their logs and histories. One that does not fit into the budget loses
    /// its front, and the next round finds it again. Such a session has no calls, and so no counts of
    /// output.
    async fn expire_sessions(&mut self) -> Result<(), PostgresError> {
        let sql = format!(
            "SELECT key, head, first, live, calls, id,
                 (SELECT count(*) FROM messages WHERE session_key = expired.key)
             FROM (SELECT * FROM {SESSIONS} ORDER BY done_time LIMIT $2 FOR UPDATE SKIP LOCKED)
                 expired"
        );
        let older_than = self.policy.older_than.as_micros();
        let rows = self.query(&sql, &[&older_than, &number(self.budget)]).await?;
        let (mut keys, mut ids): (Vec<i64>, Vec<Uuid>) = (Vec::new(), Vec::new());
        for row in &rows {
            let log = session_row(row, 0)?;
            let length = log.length().saturating_add(count(row, 6)?);
            if self.budget == 0 {
                break;
            }
            if length >= self.budget {
                let trimmed = self.trim(log, self.budget).await?;
                self.budget -= trimmed;
                let part = "DELETE FROM messages WHERE session_key = $1 AND number IN
                     (SELECT number FROM messages WHERE session_key = $1 ORDER BY number LIMIT $2)";
                self.run(part, &[&log.key, &number(self.budget)]).await?;
                self.budget = 0;
                break;
            }
            self.budget -= length + 1;
            keys.push(log.key);
            ids.push(get(row, 5)?);
        }
        self.remove_sessions(&keys, &ids).await?;
        self.removed.sessions += keys.len() as u64;
        Ok(())
    }

    /// Removes whole sessions. The requests that created them expire by their age from now on.
    async fn remove_sessions(&self, keys: &[i64], ids: &[Uuid]) -> Result<(), PostgresError> {
        let unlink = "UPDATE requests SET session_id = NULL WHERE session_id = ANY($1)";
        self.run(unlink, &[&ids]).await?;
        for sql in [
            "DELETE FROM events WHERE session_key = ANY($1)",
            "DELETE FROM messages WHERE session_key = ANY($1)",
            "DELETE FROM session_bodies WHERE session_key = ANY($1)",
            "DELETE FROM sessions WHERE key = ANY($1)",
        ] {
            self.run(sql, &[&keys]).await?;
        }
        Ok(())
    }

    async fn expire_requests(&mut self) -> Result<(), PostgresError> {
        let sql = format!(
            "DELETE FROM requests WHERE (tenant, request_id) IN
                 (SELECT tenant, request_id FROM {REQUESTS} LIMIT $2)"
        );
        let older_than = self.policy.older_than.as_micros();
        let requests = self.run(&sql, &[&older_than, &number(self.budget)]).await?;
        self.removed.requests += requests;
        self.budget -= requests;
        Ok(())
    }

    async fn trim_logs(&mut self) -> Result<(), PostgresError> {
        while self.budget > 0
            && let Some(log) = self.long_log().await?
        {
            let excess = log.length().saturating_sub(self.policy.session_events_max);
            let trimmed = self.trim(log, excess.min(self.budget)).await?;
            self.removed.events += trimmed;
            self.budget -= trimmed;
        }
        Ok(())
    }

    /// Returns a log with too many events.
    async fn long_log(&self) -> Result<Option<SessionRow>, PostgresError> {
        let sql = format!(
            "SELECT key, head, first, live, calls FROM {LOGS} ORDER BY log_digits DESC LIMIT 1
             FOR UPDATE SKIP LOCKED"
        );
        let (digits, max) = self.log_bounds();
        let rows = self.query(&sql, &[&digits, &max]).await?;
        rows.first().map(|row| session_row(row, 0)).transpose()
    }

    fn log_bounds(&self) -> (i16, i64) {
        let max = self.policy.session_events_max;
        let digits = u64::BITS - max.leading_zeros();
        (i16::try_from(digits).unwrap_or(i16::MAX), number(max))
    }

    /// Removes the oldest `events` events, or all, and updates the counts of output.
    async fn trim(&self, log: SessionRow, events: u64) -> Result<u64, PostgresError> {
        let events = events.min(log.length());
        let log = SessionRow { first: log.first.saturating_add(events), ..log };
        let sql = "DELETE FROM events WHERE session_key = $1 AND sequence < $2
             RETURNING sequence, call_id, stream, length";
        let removed = self.query(sql, &[&log.key, &number(log.first)]).await?;
        let mut pieces = BTreeMap::new();
        for row in &removed {
            if let Some((id, stream, length)) = output_of(row)? {
                pieces.insert(count(row, 0)?, (id, stream, length));
            }
        }
        self.trim_counts(pieces.into_values().collect()).await?;
        let digits = i16::try_from(log.log_digits()).unwrap_or(i16::MAX);
        let sql = "UPDATE sessions SET first = $2, log_digits = $3 WHERE key = $1";
        self.run(sql, &[&log.key, &number(log.first), &digits]).await?;
        Ok(events)
    }

    async fn trim_counts(
        &self,
        pieces: Vec<(CallId, OutputStream, u64)>,
    ) -> Result<(), PostgresError> {
        let ids: Vec<CallId> = pieces.iter().map(|(id, ..)| *id).collect();
        let ids = super::follow_ups::uuids(&ids);
        let sql = format!("SELECT {COUNTS_COLUMNS}, call_id FROM outputs WHERE call_id = ANY($1)");
        let mut known: HashMap<CallId, OutputCounts> = HashMap::new();
        for row in self.query(&sql, &[&ids]).await? {
            known.insert(call_id(&row, 9)?, counts(&row)?);
        }
        for (id, stream, length) in pieces {
            // A deleted call has no counts.
            if let Some(counts) = known.get_mut(&id) {
                counts.trim(stream, length);
            }
        }
        let rows: Vec<_> = known.into_iter().collect();
        let (sql, params) = save_counts(&rows);
        let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(|param| &**param as _).collect();
        self.run(&sql, &params).await.map(|_| ())
    }

    async fn has_more(&self) -> Result<bool, PostgresError> {
        let (digits, max) = self.log_bounds();
        let (now, old) = (self.policy.now.as_micros(), self.policy.older_than.as_micros());
        // In the order of an index, so that it is read, and not the table from its beginning.
        let first = |rows: &str, order: &str| {
            format!("(SELECT true FROM {rows} ORDER BY {order} LIMIT 1) IS NOT NULL")
        };
        let (calls, follow_ups) = (first(CALLS, "expire_time"), first(FOLLOW_UPS, "expire_time"));
        let (sessions, requests) = (first(SESSIONS, "done_time"), first(REQUESTS, "create_time"));
        let is_expired = format!("SELECT {calls} OR {follow_ups}");
        let is_old = format!("SELECT {sessions} OR {requests}");
        let is_long = format!("SELECT {}", first(LOGS, "log_digits"));
        Ok(self.is(&is_expired, &[&now]).await?
            || self.is(&is_old, &[&old]).await?
            || self.is(&is_long, &[&digits, &max]).await?)
    }

    async fn is(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<bool, PostgresError> {
        let rows = self.query(sql, params).await?;
        rows.first().map_or(Ok(false), |row| get(row, 0))
    }

    async fn query(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, PostgresError> {
        let statement = self.client.prepare_cached(sql).await?;
        Ok(self.client.query(&statement, params).await?)
    }

    async fn run(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<u64, PostgresError> {
        let statement = self.client.prepare_cached(sql).await?;
        Ok(self.client.execute(&statement, params).await?)
    }
}

/// Returns the piece of output that a removed event was, or `None` if it was another event.
fn output_of(row: &Row) -> Result<Option<(CallId, OutputStream, u64)>, PostgresError> {
    let (Some(id), Some(stream)) = (optional_call_id(row, 1)?, get::<Option<i16>>(row, 2)?) else {
        return Ok(None);
    };
    Ok(Some((id, stream_of(stream)?, count(row, 3)?)))
}
