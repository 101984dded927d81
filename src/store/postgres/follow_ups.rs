//! Reads of follow-ups: single ones, and those that are due. One that cannot be read back is named,
//! and does not withhold the others.

use std::collections::HashSet;
use std::time::Duration;

use deadpool_postgres::{ClientWrapper, Transaction};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::columns::{
    call_id, call_uuid, decode, get, limit, readable, session_id, session_uuid, time,
};
use super::error::PostgresError;
use super::read::call_in;
use crate::model::{CallId, FollowUp, Tenant, Timestamp};
use crate::store::rules::Due;
use crate::store::{DueFollowUps, DueQuery, DueScope, DueSessions, FollowUpWithTask};

/// The time after which follow-ups are looked for again whose replica was away: its return is not
/// announced.
const ABSENT_RETRY: Duration = Duration::from_secs(2);

/// The rows that are read at a time while a page is filled.
const ROWS_PER_READ: u64 = 256;

/// Reads the record of a task's follow-up.
pub(super) async fn record(
    client: &ClientWrapper,
    id: CallId,
) -> Result<Option<FollowUp>, PostgresError> {
    let sql = "SELECT body FROM follow_ups WHERE call_id = $1";
    let row = client.query_opt(&client.prepare_cached(sql).await?, &[&call_uuid(id)]).await?;
    row.map(|row| record_in(&row)).transpose()
}

/// Reads a follow-up with its task.
pub(super) async fn with_task(
    client: &ClientWrapper,
    id: CallId,
) -> Result<Option<FollowUpWithTask>, PostgresError> {
    let sql = "SELECT f.body, t.body FROM follow_ups f
         LEFT JOIN follow_up_tasks t ON t.call_id = f.call_id WHERE f.call_id = $1";
    let row = client.query_opt(&client.prepare_cached(sql).await?, &[&call_uuid(id)]).await?;
    row.map(|row| with_task_in(&row, 0, 1)).transpose()
}

/// Reads a record from the first column.
fn record_in(row: &Row) -> Result<FollowUp, PostgresError> {
    decode(row, 0, "a follow-up")
}

/// Reads a record and its task from two columns.
pub(super) fn with_task_in(
    row: &Row,
    record: usize,
    task: usize,
) -> Result<FollowUpWithTask, PostgresError> {
    Ok(FollowUpWithTask { record: decode(row, record, "a follow-up")?, task: call_in(row, task)? })
}

/// The rows of a scope, with the parameters from $3 on that name it.
struct Among {
    condition: String,
    params: Vec<Box<dyn ToSql + Sync + Send>>,
}

impl Among {
    fn new(scope: &DueScope) -> Self {
        let of_session = "session_key = (SELECT key FROM sessions WHERE id = $3)";
        let (what, filter, params): (_, _, Vec<Box<dyn ToSql + Sync + Send>>) = match scope {
            DueScope::Session(id) => {
                (Due::Delivery, of_session.to_owned(), vec![Box::new(session_uuid(*id))])
            }
            DueScope::Lease(tenant, Some(id)) => {
                let tenant = Box::new(tenant.as_str().to_owned());
                let params: Vec<Box<dyn ToSql + Sync + Send>> =
                    vec![Box::new(session_uuid(*id)), tenant];
                (Due::Lease, format!("{of_session} AND tenant = $4"), params)
            }
            DueScope::Lease(tenant, None) => {
                let tenant = Box::new(tenant.as_str().to_owned());
                (Due::Lease, "tenant = $3".to_owned(), vec![tenant])
            }
            DueScope::Leased => (Due::LeaseExpiry, "true".to_owned(), Vec::new()),
        };
        // The number is written into the statement, so that the planner finds the partial index.
        Self { condition: format!("due_kind = {} AND {filter}", what.number()), params }
    }

    /// Leaves out the sessions of other replicas than this one.
    fn not_of_others(mut self, owner: Option<Uuid>) -> Self {
        if let Some(owner) = owner {
            self.condition += &format!(
                " AND EXISTS (SELECT FROM sessions s
                     WHERE s.key = session_key AND coalesce(s.owner, '{owner}') = '{owner}')"
            );
        }
        self
    }

    /// Leaves out the sessions that no replica can change now: their replica restarts, or is about to be declared
    /// dead.
    fn not_of_absent(mut self) -> Self {
        self.condition += " AND NOT EXISTS (
                 SELECT FROM sessions s JOIN replicas r ON r.id = s.owner WHERE s.key = session_key
                     AND (r.state = 2 OR r.state = 1 AND r.lease_until < clock_timestamp()))";
        self
    }

    /// Returns `count` rows from `offset` on that are due, in the order of their times.
    async fn due(
        &self,
        snapshot: &Transaction<'_>,
        columns: &str,
        now: Timestamp,
        (offset, count): (u64, u64),
    ) -> Result<Vec<Row>, PostgresError> {
        let sql = format!(
            "SELECT {columns} FROM follow_ups WHERE {} AND due_time <= $1
             ORDER BY due_time, key OFFSET $2 LIMIT {count}",
            self.condition
        );
        self.run(snapshot, &sql, now, offset).await
    }

    /// Returns the time at which the next one is due.
    async fn next(
        &self,
        snapshot: &Transaction<'_>,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, PostgresError> {
        let sql = format!(
            "SELECT due_time FROM follow_ups WHERE {} AND due_time > $1
             ORDER BY due_time OFFSET $2 LIMIT 1",
            self.condition
        );
        let rows = self.run(snapshot, &sql, now, 0).await?;
        rows.first().map(|row| time(row, 0)).transpose()
    }

    async fn run(
        &self,
        snapshot: &Transaction<'_>,
        sql: &str,
        now: Timestamp,
        offset: u64,
    ) -> Result<Vec<Row>, PostgresError> {
        let statement = snapshot.prepare_cached(sql).await?;
        let (now, offset) = (now.as_micros(), limit(offset));
        let mut params: Vec<&(dyn ToSql + Sync)> = vec![&now, &offset];
        params.extend(self.params.iter().map(|param| &**param as &(dyn ToSql + Sync)));
        Ok(snapshot.query(&statement, &params).await?)
    }
}

/// Returns the follow-ups that are due, in the order of their times. Those that cannot be read back
/// do not count: they stay due, and would fill the page forever.
///
/// A replica ends only the leases in sessions that do not belong to others. Among those of a whole tenant,
/// it passes over the sessions of replicas that are away.
pub(super) async fn due(
    snapshot: &Transaction<'_>,
    owner: Option<Uuid>,
    query: &DueQuery,
) -> Result<DueFollowUps, PostgresError> {
    let mut among = Among::new(&query.scope);
    let mut present = None;
    match query.scope {
        DueScope::Leased => among = among.not_of_others(owner),
        DueScope::Lease(_, None) if owner.is_some() => {
            present = Some(Among::new(&query.scope).not_of_absent());
        }
        DueScope::Session(_) | DueScope::Lease(..) => {}
    }
    let mut page = DueFollowUps::default();
    let mut seen = 0;
    while page.records.len() < query.limit as usize {
        let (from, chunk) = (present.as_ref().unwrap_or(&among), (seen, ROWS_PER_READ));
        let rows = from.due(snapshot, "body, call_id", query.now, chunk).await?;
        for row in &rows {
            if page.records.len() >= query.limit as usize {
                break;
            }
            match readable(record_in(row))? {
                Some(record) => page.records.push(record),
                None => page.unreadable.push(call_id(row, 1)?),
            }
        }
        seen += rows.len() as u64;
        if (rows.len() as u64) < ROWS_PER_READ {
            break;
        }
    }
    page.next = among.next(snapshot, query.now).await?;
    if present.is_some() && page.records.is_empty() {
        let passed_over = among.due(snapshot, "1", query.now, (seen, 1)).await?;
        let again = (!passed_over.is_empty()).then(|| query.now.saturating_add(ABSENT_RETRY));
        page.next = page.next.into_iter().chain(again).min();
    }
    Ok(page)
}

/// Returns the sessions with a follow-up that is due for delivery by the engine, without those of other
/// replicas.
pub(super) async fn sessions(
    snapshot: &Transaction<'_>,
    owner: Option<Uuid>,
    now: Timestamp,
    most: u32,
) -> Result<DueSessions, PostgresError> {
    let condition = format!("due_kind = {}", Due::Delivery.number());
    let among = Among { condition, params: Vec::new() }.not_of_others(owner);
    let mut page = DueSessions::default();
    let mut seen = HashSet::new();
    let mut offset = 0;
    while page.sessions.len() < most as usize {
        let chunk = (offset, ROWS_PER_READ);
        let rows = among.due(snapshot, "tenant, session_id", now, chunk).await?;
        for row in &rows {
            let id = session_id(row, 1)?;
            if page.sessions.len() < most as usize && seen.insert(id) {
                page.sessions.push((Tenant::new(get::<&str>(row, 0)?), id));
            }
        }
        if (rows.len() as u64) < ROWS_PER_READ {
            break;
        }
        offset += ROWS_PER_READ;
    }
    page.next = among.next(snapshot, now).await?;
    Ok(page)
}

/// Returns the follow-ups that are leased for a request, oldest first.
pub(super) async fn leased(
    client: &ClientWrapper,
    tenant: &Tenant,
    request_id: &str,
) -> Result<Vec<FollowUp>, PostgresError> {
    let sql = "SELECT body, call_id FROM follow_ups WHERE tenant = $1 AND lease_request = $2
         ORDER BY create_time, call_id";
    let statement = client.prepare_cached(sql).await?;
    let mut found = Vec::new();
    for row in client.query(&statement, &[&tenant.as_str(), &request_id]).await? {
        found.extend(readable(record_in(&row))?);
    }
    Ok(found)
}

/// Returns the ids as parameters.
pub(super) fn uuids(ids: &[CallId]) -> Vec<Uuid> {
    ids.iter().copied().map(call_uuid).collect()
}
