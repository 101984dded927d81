//! Reads of single records and of logs.

use bytes::Bytes;
use deadpool_postgres::{ClientWrapper, Transaction};
use tokio_postgres::Row;
use uuid::Uuid;

use super::columns::{
    EVENT_COLUMNS, call_id, call_uuid, count, decode, event, get, limit, number, readable,
    session_id, session_uuid, time,
};
use super::error::PostgresError;
use super::load::session_row;
use crate::model::{Call, CallId, Session, SessionId, SessionState, Tenant, Timestamp};
use crate::store::session_row::session_of;
use crate::store::{
    EventPage, EventQuery, LogEvent, MessagePage, MessageSlice, RequestRecord, StoreError,
    StoredMessage, record, rules,
};

/// The columns that [`session_in`] reads, in this order, of `sessions` as s and `session_bodies` as b.
pub(super) const SESSION_COLUMNS: &str =
    "b.body, s.update_time, s.key, s.head, s.first, s.live, s.calls";

/// The number of [`SESSION_COLUMNS`].
pub(super) const SESSION_COLUMNS_COUNT: usize = 7;

/// The most events that a page scans, whatever its query asks for.
const EVENTS_SCANNED_MAX: u64 = 2_048;

/// Reads a session from a row of [`SESSION_COLUMNS`].
pub(super) fn session_in(row: &Row) -> Result<Session, PostgresError> {
    Ok(session_of(decode(row, 0, "a session")?, session_row(row, 2)?, time(row, 1)?))
}

/// Reads a session.
pub(super) async fn session(
    client: &ClientWrapper,
    id: SessionId,
) -> Result<Option<Session>, PostgresError> {
    let sql = format!(
        "SELECT {SESSION_COLUMNS}
         FROM sessions s LEFT JOIN session_bodies b ON b.session_key = s.key WHERE s.id = $1"
    );
    let statement = client.prepare_cached(&sql).await?;
    let row = client.query_opt(&statement, &[&session_uuid(id)]).await?;
    row.as_ref().map(session_in).transpose()
}

/// Reads a call from the JSON in a column.
pub(super) fn call_in(row: &Row, column: usize) -> Result<Call, PostgresError> {
    decode(row, column, "a call")
}

/// Reads a call.
pub(super) async fn call(
    client: &ClientWrapper,
    id: CallId,
) -> Result<Option<Call>, PostgresError> {
    let statement = client.prepare_cached("SELECT body FROM calls WHERE id = $1").await?;
    let row = client.query_opt(&statement, &[&call_uuid(id)]).await?;
    row.map(|row| call_in(&row, 0)).transpose()
}

/// Reads the calls of a session that have not ended, oldest first, and the ids of those that cannot
/// be read.
pub(super) async fn live_calls(
    client: &ClientWrapper,
    id: SessionId,
) -> Result<(Vec<Call>, Vec<CallId>), PostgresError> {
    let sql = "SELECT body, id FROM calls
         WHERE live AND session_key = (SELECT key FROM sessions WHERE id = $1)
         ORDER BY create_time, id";
    let statement = client.prepare_cached(sql).await?;
    let (mut calls, mut unreadable) = (Vec::new(), Vec::new());
    for row in client.query(&statement, &[&session_uuid(id)]).await? {
        match readable(call_in(&row, 0))? {
            Some(call) => calls.push(call),
            None => unreadable.push(call_id(&row, 1)?),
        }
    }
    Ok((calls, unreadable))
}

/// Reads the record of a request.
pub(super) async fn request(
    client: &ClientWrapper,
    tenant: &Tenant,
    request_id: &str,
) -> Result<Option<RequestRecord>, PostgresError> {
    let sql = "SELECT fingerprint, effect, create_time FROM requests
         WHERE tenant = $1 AND request_id = $2";
    let statement = client.prepare_cached(sql).await?;
    let row = client.query_opt(&statement, &[&tenant.as_str(), &request_id]).await?;
    let Some(row) = row else { return Ok(None) };
    let fingerprint: &[u8] = get(&row, 0)?;
    let fingerprint = fingerprint.try_into();
    Ok(Some(RequestRecord {
        tenant: tenant.clone(),
        request_id: request_id.to_owned(),
        fingerprint: fingerprint
            .map_err(|_| record::corrupt("a request", &"its fingerprint is too short"))?,
        effect: decode(&row, 1, "a request")?,
        create_time: time(&row, 2)?,
    }))
}

/// Returns the sessions with a call that has not ended, in the order of their ids; of a replica, those
/// that it owns.
pub(super) async fn sessions_with_live_calls(
    client: &ClientWrapper,
    owner: Option<Uuid>,
    after: Option<SessionId>,
    most: u32,
) -> Result<Vec<SessionId>, PostgresError> {
    let sql = "SELECT id FROM sessions
         WHERE key IN (SELECT session_key FROM calls WHERE live)
             AND ($1::uuid IS NULL OR id > $1) AND ($3::uuid IS NULL OR owner = $3)
         ORDER BY id LIMIT $2";
    let statement = client.prepare_cached(sql).await?;
    let rows = client
        .query(&statement, &[&after.map(session_uuid), &limit(u64::from(most)), &owner])
        .await?;
    rows.iter().map(|row| session_id(row, 0)).collect()
}

/// Counts the open sessions of a tenant that are not implicit, up to `count_max`.
pub(super) async fn open_sessions(
    client: &ClientWrapper,
    tenant: Tenant,
    count_max: u32,
) -> Result<u32, PostgresError> {
    let sql = "SELECT count(*) FROM (SELECT 1 FROM sessions
         WHERE tenant = $1 AND state = $2 AND NOT implicit LIMIT $3) found";
    let statement = client.prepare_cached(sql).await?;
    let open = i16::from(SessionState::Open.number());
    let most = limit(u64::from(count_max));
    let row = client.query_one(&statement, &[&tenant.as_str(), &open, &most]).await?;
    let count: i64 = get(&row, 0)?;
    Ok(u32::try_from(count).unwrap_or(count_max))
}

/// Returns the time of the newest change of a session.
pub(super) async fn newest_time(
    client: &ClientWrapper,
) -> Result<Option<Timestamp>, PostgresError> {
    let row = client.query_one("SELECT max(update_time) FROM sessions", &[]).await?;
    let newest: Option<i64> = get(&row, 0)?;
    Ok(newest.map(Timestamp::from_micros))
}

/// The events of the page, as far as their bytes fit, beside the row of the session. One statement
/// reads one state of the log.
fn events_sql() -> String {
    format!(
        "SELECT s.head, s.first, s.state, s.former_head, e.*
         FROM sessions s LEFT JOIN LATERAL (
             SELECT {EVENT_COLUMNS}, matching FROM (
                 SELECT *, count(*) OVER () AS matching,
                     sum(octet_length(bytes)) OVER (ORDER BY sequence) AS total
                 FROM events
                 WHERE session_key = s.key AND sequence > greatest($2, s.first - 1)
                     AND sequence - greatest($2, s.first - 1) <= $3 AND sequence <= s.head
                     AND ($5::smallint[] IS NULL OR kind = ANY($5))
                     AND ($6::uuid IS NULL OR call_id = $6)
             ) scanned WHERE total <= $4 OR total = octet_length(bytes)
         ) e ON true
         WHERE s.id = $1 ORDER BY e.sequence"
    )
}

/// Reads events of a session. A damaged event ends the page before it, and fails the next one.
pub(super) async fn events(
    client: &ClientWrapper,
    query: &EventQuery,
) -> Result<EventPage, PostgresError> {
    let statement = client.prepare_cached(&events_sql()).await?;
    let scan_max = EVENTS_SCANNED_MAX.min(query.scan_max as u64);
    let kinds: Vec<i16> = query.kinds.iter().map(|kind| i16::from(kind.number())).collect();
    let kinds = (!kinds.is_empty()).then_some(kinds);
    let (after, bytes_max) = (number(query.after), number(query.bytes_max as u64));
    let id = session_uuid(query.session_id);
    let call = query.call_id.map(call_uuid);
    let scan = number(scan_max);
    let rows = client.query(&statement, &[&id, &after, &scan, &bytes_max, &kinds, &call]).await?;
    let mut page = EventPage {
        events: Vec::new(),
        scanned_to: query.after,
        head: 0,
        first: 1,
        closed: false,
        stream_epoch: None,
    };
    let Some(log) = rows.first() else { return Ok(page) };
    (page.head, page.first) = (count(log, 0)?, count(log, 1)?);
    page.closed = get::<i16>(log, 2)? == i16::from(SessionState::Closed.number());
    page.scanned_to = query.after.max(page.first.saturating_sub(1));
    let former_head = count(log, 3)?;
    if page.scanned_to < former_head.min(page.head) && scan_max > 0 {
        page.stream_epoch = session(client, query.session_id).await?.map(|s| s.stream_epoch);
    }
    let is_filtered = kinds.is_some() || call.is_some();
    fill_page(&mut page, &rows, is_filtered, scan_max, query.session_id)?;
    Ok(page)
}

/// The column with the number of matching events among those that the page scans.
const MATCHING: usize = 14;

/// Adds the events of the rows, as far as they are whole and without a gap.
fn fill_page(
    page: &mut EventPage,
    rows: &[Row],
    is_filtered: bool,
    scan_max: u64,
    session_id: SessionId,
) -> Result<(), PostgresError> {
    let start = page.scanned_to;
    // The last sequence of the page, if its bytes fit.
    let end = start.saturating_add(scan_max).min(page.head).max(start);
    let damaged = |cause: &str| StoreError::Corrupt(format!("session {session_id}: {cause}"));
    let mut matching = 0;
    for row in rows {
        if get::<Option<i64>>(row, 4)?.is_none() {
            break;
        }
        let event = match event(row, 4) {
            Ok(event) => event,
            Err(_) if !page.events.is_empty() => return Ok(()),
            Err(PostgresError::Store(StoreError::Corrupt(cause))) => {
                return Err(damaged(&cause).into());
            }
            Err(error) => return Err(error),
        };
        let expected = page.scanned_to + 1;
        if !is_filtered && event.sequence != expected {
            return match page.events.is_empty() {
                true => Err(damaged(&format!("event {expected}: it is missing")).into()),
                false => Ok(()),
            };
        }
        matching = count(row, MATCHING)?;
        page.events.push(LogEvent {
            sequence: event.sequence,
            kind: event.kind,
            bytes: Bytes::copy_from_slice(event.bytes),
        });
        page.scanned_to = event.sequence;
    }
    if page.events.is_empty() && !is_filtered && start < end {
        return Err(damaged(&format!("event {}: it is missing", start + 1)).into());
    }
    let is_whole = page.events.len() as u64 == matching;
    if is_filtered && is_whole {
        page.scanned_to = end;
    }
    Ok(())
}

/// Reads the newest messages that together take at most `bytes_max`.
pub(super) async fn newest_messages(
    snapshot: &Transaction<'_>,
    id: SessionId,
    bytes_max: u64,
) -> Result<MessagePage, PostgresError> {
    // The bodies have a checksum of 8 characters in front, so that these are enough.
    let sql = "SELECT number, body FROM (
             SELECT number, body, sum(octet_length(body) - 8) OVER (ORDER BY number DESC) AS total
             FROM messages WHERE session_key = (SELECT key FROM sessions WHERE id = $1)
         ) newest WHERE total - (octet_length(body) - 8) <= $2::bigint ORDER BY number DESC";
    let statement = snapshot.prepare_cached(sql).await?;
    let rows = snapshot.query(&statement, &[&session_uuid(id), &number(bytes_max)]).await?;
    collect(&rows, |messages| rules::newest_that_fit(messages, bytes_max))
}

/// Returns messages after the number `after`, oldest first.
pub(super) async fn messages_after(
    snapshot: &Transaction<'_>,
    id: SessionId,
    after: u64,
    most: u32,
    bytes_max: usize,
) -> Result<MessageSlice, PostgresError> {
    // One more than fits, by which it is known that more follow.
    let sql = "SELECT number, body FROM (
             SELECT number, body, row_number() OVER (ORDER BY number) AS place,
                 sum(octet_length(body) - 8) OVER (ORDER BY number) AS total
             FROM (
                 SELECT number, body FROM messages
                 WHERE session_key = (SELECT key FROM sessions WHERE id = $1) AND number > $2
                 ORDER BY number LIMIT $3
             ) next
         ) page WHERE total - (octet_length(body) - 8) <= $4::bigint OR place <= 2 ORDER BY number";
    let statement = snapshot.prepare_cached(sql).await?;
    let (limit, bytes) = (limit(u64::from(most) + 1), number(bytes_max as u64));
    let rows =
        snapshot.query(&statement, &[&session_uuid(id), &number(after), &limit, &bytes]).await?;
    collect(&rows, |messages| rules::first_that_fit(messages, most, bytes_max))
}

/// Passes the messages of the rows to `take`, which may stop early. The first row that cannot be read
/// ends them with its error.
fn collect<T>(
    rows: &[Row],
    take: impl FnOnce(&mut dyn Iterator<Item = StoredMessage>) -> T,
) -> Result<T, PostgresError> {
    let mut failed = None;
    let mut messages =
        rows.iter().map_while(|row| message_in(row).map_err(|error| failed = Some(error)).ok());
    let taken = take(&mut messages);
    match failed {
        Some(error) => Err(error),
        None => Ok(taken),
    }
}

fn message_in(row: &Row) -> Result<StoredMessage, PostgresError> {
    let number = count(row, 0)?;
    let body = record::json(get(row, 1)?);
    let body = body.map_err(|cause| StoreError::Corrupt(format!("message {number}: {cause}")))?;
    Ok(StoredMessage { number, body: body.to_owned() })
}
