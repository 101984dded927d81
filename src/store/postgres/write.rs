//! The statements that write a group: one for each table and kind of change, with a column of values
//! for each of their columns.

use tokio_postgres::Statement;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::columns::{call_uuid, label_values, number, session_uuid};
use super::error::PostgresError;
use super::group::{SessionWrite, Writes};
use super::ownership::NOTIFY;
use super::pipeline::{Pipeline, Statements};
use crate::model::Labels;
use crate::model::limits::HISTORY_MESSAGES_MAX;
use crate::store::{record, rules};

/// The labels of the rows of a statement, as `marks` with the number of the row.
const MARKS: &str = "LEFT JOIN (
         SELECT row, array_agg(label) AS labels FROM unnest($1::bigint[], $2::bytea[]) AS l (row, label)
         GROUP BY row
     ) marks USING (row)";

/// The labels of rows: the number of the row, from 1, and one label.
#[derive(Default)]
struct Marks {
    rows: Vec<i64>,
    labels: Vec<Vec<u8>>,
}

impl Marks {
    fn add(&mut self, row: usize, labels: &Labels) {
        for label in label_values(labels).unwrap_or_default() {
            self.rows.push(i64::try_from(row).unwrap_or(i64::MAX));
            self.labels.push(label);
        }
    }
}

/// One statement with its parameters. It is left out if there are no rows to write.
pub(super) struct Write {
    sql: String,
    rows: usize,
    params: Vec<Box<dyn ToSql + Sync + Send>>,
}

/// Collects a value of each row as one parameter.
fn column<'r, R: 'r, T: ToSql + Sync + Send + 'static>(
    rows: &'r [R],
    value: impl Fn(&'r R) -> T,
) -> Box<dyn ToSql + Sync + Send> {
    Box::new(rows.iter().map(value).collect::<Vec<T>>())
}

/// Returns the statements that write the rows of a group, in their order.
/// New sessions belong to `owner`.
pub(super) fn statements(writes: &Writes<'_>, owner: Option<Uuid>) -> Vec<Write> {
    let (new, changed): (Vec<_>, Vec<_>) = writes.sessions.values().partition(|write| write.is_new);
    let mut all =
        vec![new_sessions(&new, owner), changed_sessions(&changed), session_bodies(writes)];
    all.extend([events(writes), outputs(writes)]);
    all.extend([delete("calls", "id", writes), delete("outputs", "call_id", writes)]);
    all.extend([calls(writes), messages(writes), forgotten_messages(writes)]);
    all.extend([follow_ups(writes), follow_up_tasks(writes), requests(writes)]);
    let deleted = Box::new(writes.deleted_calls.clone());
    all.push(Write {
        sql: "UPDATE requests SET call_id = NULL WHERE call_id = ANY($1)".to_owned(),
        rows: writes.deleted_calls.len(),
        params: vec![deleted],
    });
    all
}

/// The statements of a group, prepared on a connection.
pub(super) struct Ready<'a> {
    writes: Vec<(Statement, &'a Write)>,
    marker: Statement,
    change: Statement,
    notify: Statement,
}

/// Prepares the statements that have rows to write.
pub(super) async fn prepare<'a>(
    statements: &Statements<'_>,
    writes: &'a [Write],
) -> Result<Ready<'a>, PostgresError> {
    let mut ready = Vec::new();
    for write in writes.iter().filter(|write| write.rows > 0) {
        ready.push((statements.prepare(&write.sql).await?, write));
    }
    let marker = statements.prepare(MARKER).await?;
    let change = statements.prepare(CHANGE).await?;
    Ok(Ready { writes: ready, marker, change, notify: statements.prepare(NOTIFY).await? })
}

impl Ready<'_> {
    /// Sends the statements and the commit in one go.
    pub(super) async fn run(
        &self,
        statements: &Statements<'_>,
        commit: &Commit,
    ) -> Result<(), PostgresError> {
        let client = statements.client();
        let mut pipeline = Pipeline::default();
        for (statement, write) in &self.writes {
            let params = write.params.iter().map(|param| &**param as &(dyn ToSql + Sync));
            pipeline.query_if(true, client, statement, params.collect());
        }
        pipeline.query_if(commit.change > 0, client, &self.change, vec![&commit.change]);
        if let Some(notification) = &commit.notification {
            pipeline.query_if(true, client, &self.notify, vec![notification]);
        }
        pipeline.query_if(true, client, &self.marker, vec![&commit.server, &commit.number]);
        pipeline.batch(client, "COMMIT");
        pipeline.run().await.map(|_| ())
    }
}

/// The rows by which a commit is known.
#[derive(Debug)]
pub(super) struct Commit {
    pub(super) server: Uuid,
    /// The number among the commits of the server.
    pub(super) number: i64,
    /// The newest change number, or 0 if it has not changed.
    pub(super) change: i64,
    /// The notification of other replicas, or `None` if they need none.
    pub(super) notification: Option<String>,
}

/// The newest commit of a server. It is written by each of its transactions.
pub(super) const MARKER: &str =
    "INSERT INTO writers (id, number, commit_time) VALUES ($1, $2, now())
     ON CONFLICT (id) DO UPDATE SET number = EXCLUDED.number, commit_time = EXCLUDED.commit_time";
const CHANGE: &str = "UPDATE counters SET value = $1 WHERE name = 'change'";

fn new_sessions(rows: &[&SessionWrite<'_>], owner: Option<Uuid>) -> Write {
    let sql = format!(
        "INSERT INTO sessions (key, id, tenant, state, implicit, create_time, update_time, head,
             first, live, calls, log_digits, done_time, labels, owner)
         SELECT key, id, tenant, state, implicit, create_time, update_time, head, 1, live, calls,
             digits, CASE WHEN calls = 0 AND (state = 3 OR implicit) THEN update_time END, labels, $14::uuid
         FROM unnest($3::bigint[], $4::uuid[], $5::text[], $6::smallint[], $7::boolean[],
                 $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[],
                 $13::smallint[])
             WITH ORDINALITY AS s (key, id, tenant, state, implicit, create_time, update_time,
                 head, live, calls, digits, row)
         {MARKS}"
    );
    let mut params = session_marks(rows);
    params.extend([
        column(rows, |write| write.row.key),
        column(rows, |write| session_uuid(write.session.id)),
        column(rows, |write| write.session.tenant.as_str().to_owned()),
        column(rows, |write| i16::from(write.session.state.number())),
        column(rows, |write| write.session.implicit),
        column(rows, |write| write.session.create_time.as_micros()),
    ]);
    params.extend(session_counts(rows));
    params.push(Box::new(owner));
    Write { sql, rows: rows.len(), params }
}

fn changed_sessions(rows: &[&SessionWrite<'_>]) -> Write {
    let sql = format!(
        "UPDATE sessions AS s SET state = n.state, update_time = n.update_time, head = n.head,
             live = n.live, calls = n.calls, log_digits = n.digits, labels = n.labels,
             done_time = CASE WHEN n.calls = 0 AND (n.state = 3 OR s.implicit)
                 THEN n.update_time END
         FROM (
             SELECT * FROM unnest($3::bigint[], $4::smallint[], $5::bigint[], $6::bigint[],
                     $7::bigint[], $8::bigint[], $9::smallint[])
                 WITH ORDINALITY AS c (key, state, update_time, head, live, calls, digits, row)
             {MARKS}
         ) n WHERE s.key = n.key"
    );
    let mut params = session_marks(rows);
    params.extend([
        column(rows, |write| write.row.key),
        column(rows, |write| i16::from(write.session.state.number())),
    ]);
    params.extend(session_counts(rows));
    Write { sql, rows: rows.len(), params }
}

fn session_marks(rows: &[&SessionWrite<'_>]) -> Vec<Box<dyn ToSql + Sync + Send>> {
    let mut marks = Marks::default();
    for (write, row) in rows.iter().zip(1..) {
        marks.add(row, &write.session.labels);
    }
    vec![Box::new(marks.rows), Box::new(marks.labels)]
}

fn session_counts(rows: &[&SessionWrite<'_>]) -> [Box<dyn ToSql + Sync + Send>; 5] {
    [
        column(rows, |write| write.update_time.as_micros()),
        column(rows, |write| number(write.row.head)),
        column(rows, |write| number(write.row.live)),
        column(rows, |write| number(write.row.calls)),
        column(rows, |write| i16::try_from(write.row.log_digits()).unwrap_or(i16::MAX)),
    ]
}

fn session_bodies(writes: &Writes<'_>) -> Write {
    let bodies =
        writes.sessions.values().filter_map(|write| Some((write.row.key, write.body.clone()?)));
    let rows: Vec<_> = bodies.collect();
    let params = vec![column(&rows, |(key, _)| *key), column(&rows, |(_, body)| body.clone())];
    let sql = "INSERT INTO session_bodies (session_key, body)
         SELECT * FROM unnest($1::bigint[], $2::text[])
         ON CONFLICT (session_key) DO UPDATE SET body = EXCLUDED.body";
    Write { sql: sql.to_owned(), rows: rows.len(), params }
}

fn events(writes: &Writes<'_>) -> Write {
    let rows = &writes.events;
    let sql = "INSERT INTO events (session_key, sequence, checksum, kind, stream, call_id,
             stream_offset, combined_offset, dropped_before, length, bytes)
         SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::integer[], $4::smallint[],
             $5::smallint[], $6::uuid[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[],
             $11::bytea[])";
    let position = |event: &crate::store::StoredEvent| event.output.map(|(position, _)| position);
    let params = vec![
        column(rows, |(key, ..)| *key),
        column(rows, |(_, event, _)| number(event.sequence)),
        column(rows, |(.., checksum)| checksum.cast_signed()),
        column(rows, |(_, event, _)| i16::from(event.kind.number())),
        column(rows, |(_, event, _)| position(event).map(|p| i16::from(p.stream.number()))),
        column(rows, |(_, event, _)| event.call_id.map(call_uuid)),
        column(rows, |(_, event, _)| position(event).map(|p| number(p.offset))),
        column(rows, |(_, event, _)| position(event).map(|p| number(p.combined_offset))),
        column(rows, |(_, event, _)| position(event).map(|p| number(p.dropped_bytes_before))),
        column(rows, |(_, event, _)| event.output.map(|(_, length)| number(length))),
        column(rows, |(_, event, _)| event.bytes.to_vec()),
    ];
    Write { sql: sql.to_owned(), rows: rows.len(), params }
}

fn outputs(writes: &Writes<'_>) -> Write {
    let rows: Vec<_> = writes.outputs.iter().map(|(id, counts)| (*id, *counts)).collect();
    let (sql, params) = super::output::save_counts(&rows);
    Write { sql, rows: rows.len(), params }
}

fn delete(table: &str, key: &str, writes: &Writes<'_>) -> Write {
    let rows = writes.deleted_calls.len();
    let params: Vec<Box<dyn ToSql + Sync + Send>> = vec![Box::new(writes.deleted_calls.clone())];
    Write { sql: format!("DELETE FROM {table} WHERE {key} = ANY($1)"), rows, params }
}

/// The id, owner, kind and creation time of a stored call never change.
fn calls(writes: &Writes<'_>) -> Write {
    let rows: Vec<_> = writes.calls.values().collect();
    let sql = format!(
        "INSERT INTO calls (id, session_key, tenant, is_task, live, state, kind, create_time,
             expire_time, change_number, labels, body)
         SELECT id, session_key, tenant, is_task, live, state, kind, create_time, expire_time,
             change_number, labels, body
         FROM unnest($3::uuid[], $4::bigint[], $5::text[], $6::boolean[], $7::boolean[],
                 $8::smallint[], $9::smallint[], $10::bigint[], $11::bigint[], $12::bigint[],
                 $13::text[])
             WITH ORDINALITY AS c (id, session_key, tenant, is_task, live, state, kind,
                 create_time, expire_time, change_number, body, row)
         {MARKS}
         ON CONFLICT (id) DO UPDATE SET is_task = EXCLUDED.is_task, live = EXCLUDED.live,
             state = EXCLUDED.state, expire_time = EXCLUDED.expire_time,
             change_number = EXCLUDED.change_number, labels = EXCLUDED.labels,
             body = EXCLUDED.body"
    );
    let mut marks = Marks::default();
    for (write, row) in rows.iter().zip(1..) {
        marks.add(row, &write.call.labels);
    }
    let params: Vec<Box<dyn ToSql + Sync + Send>> = vec![
        Box::new(marks.rows),
        Box::new(marks.labels),
        column(&rows, |write| call_uuid(write.call.id)),
        column(&rows, |write| write.session_key),
        column(&rows, |write| write.call.tenant.as_str().to_owned()),
        column(&rows, |write| write.call.is_task()),
        column(&rows, |write| !write.call.state.is_terminal()),
        column(&rows, |write| i16::from(write.call.state.number())),
        column(&rows, |write| i16::from(write.call.kind.number())),
        column(&rows, |write| write.call.create_time.as_micros()),
        column(&rows, |write| write.call.expire_time.map(|time| time.as_micros())),
        column(&rows, |write| number(write.change)),
        column(&rows, |write| write.body.to_owned()),
    ];
    Write { sql, rows: rows.len(), params }
}

fn messages(writes: &Writes<'_>) -> Write {
    let rows = &writes.messages;
    let sql = "INSERT INTO messages (session_key, number, body)
         SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[])";
    let params = vec![
        column(rows, |(key, _)| *key),
        column(rows, |(_, message)| number(message.number)),
        column(rows, |(_, message)| record::encode_json(&message.body)),
    ];
    Write { sql: sql.to_owned(), rows: rows.len(), params }
}

/// Deletes the messages that have become too old.
fn forgotten_messages(writes: &Writes<'_>) -> Write {
    let forgotten = writes.messages.iter().filter_map(|(key, message)| {
        let number = message.number.checked_sub(HISTORY_MESSAGES_MAX)?;
        (number > 0).then_some((*key, number))
    });
    let rows: Vec<_> = forgotten.collect();
    let sql =
        "DELETE FROM messages AS m USING unnest($1::bigint[], $2::bigint[]) AS f (key, number)
         WHERE m.session_key = f.key AND m.number <= f.number";
    let params = vec![column(&rows, |(key, _)| *key), column(&rows, |(_, n)| number(*n))];
    Write { sql: sql.to_owned(), rows: rows.len(), params }
}

/// The task, owner and creation time of a stored follow-up never change.
fn follow_ups(writes: &Writes<'_>) -> Write {
    let mut rows: Vec<_> = writes.follow_ups.values().collect();
    rows.sort_by_key(|write| write.place);
    let sql =
        "INSERT INTO follow_ups (call_id, session_key, session_id, tenant, state, create_time,
             due_kind, due_time, expire_time, lease_request, body)
         SELECT call_id, session_key, session_id, tenant, state, create_time, due_kind, due_time,
             expire_time, lease_request, body
         FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::text[], $5::smallint[], $6::bigint[],
                 $7::smallint[], $8::bigint[], $9::bigint[], $10::text[], $11::text[])
             WITH ORDINALITY AS f (call_id, session_key, session_id, tenant, state, create_time,
                 due_kind, due_time, expire_time, lease_request, body, place)
         ORDER BY place
         ON CONFLICT (call_id) DO UPDATE SET state = EXCLUDED.state, due_kind = EXCLUDED.due_kind,
             due_time = EXCLUDED.due_time, expire_time = EXCLUDED.expire_time,
             lease_request = EXCLUDED.lease_request, body = EXCLUDED.body";
    let params = vec![
        column(&rows, |write| call_uuid(write.record.call_id)),
        column(&rows, |write| write.session_key),
        column(&rows, |write| session_uuid(write.record.session_id)),
        column(&rows, |write| write.record.tenant.as_str().to_owned()),
        column(&rows, |write| i16::from(write.record.state.number())),
        column(&rows, |write| write.record.create_time.as_micros()),
        column(&rows, |write| rules::due(write.record).map(|(what, _)| i16::from(what.number()))),
        column(&rows, |write| rules::due(write.record).map(|(_, time)| time.as_micros())),
        column(&rows, |write| write.record.expire_time.map(|time| time.as_micros())),
        column(&rows, |write| rules::lease_request(write.record).map(str::to_owned)),
        column(&rows, |write| write.body.to_owned()),
    ];
    Write { sql: sql.to_owned(), rows: rows.len(), params }
}

fn follow_up_tasks(writes: &Writes<'_>) -> Write {
    let tasks = writes.follow_ups.iter().filter_map(|(id, write)| Some((*id, write.task?)));
    let rows: Vec<_> = tasks.collect();
    let sql = "INSERT INTO follow_up_tasks (call_id, body)
         SELECT * FROM unnest($1::uuid[], $2::text[]) ON CONFLICT (call_id) DO NOTHING";
    let params = vec![
        column(&rows, |(id, _)| call_uuid(*id)),
        column(&rows, |(_, task)| (*task).to_owned()),
    ];
    Write { sql: sql.to_owned(), rows: rows.len(), params }
}

fn requests(writes: &Writes<'_>) -> Write {
    let rows = &writes.requests;
    let sql = "INSERT INTO requests (tenant, request_id, fingerprint, effect, create_time, call_id,
             session_id)
         SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[], $4::text[], $5::bigint[],
             $6::uuid[], $7::uuid[])";
    let params = vec![
        column(rows, |write| write.record.tenant.as_str().to_owned()),
        column(rows, |write| write.record.request_id.clone()),
        column(rows, |write| write.record.fingerprint.to_vec()),
        column(rows, |write| write.effect.to_owned()),
        column(rows, |write| write.record.create_time.as_micros()),
        column(rows, |write| write.call_id.map(call_uuid)),
        column(rows, |write| write.session_id.map(session_uuid)),
    ];
    Write { sql: sql.to_owned(), rows: rows.len(), params }
}
