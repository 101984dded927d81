//! The counts of output, and the reads of its pieces.

use deadpool_postgres::Transaction;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::columns::{EVENT_COLUMNS, call_uuid, count, event, limit, number, optional_count};
use super::error::PostgresError;
use crate::model::limits::OUTPUT_PAGE_PIECES_MAX;
use crate::model::{CallId, OutputStream, StreamSummary};
use crate::store::rules::OutputCounts;
use crate::store::{OutputFrom, OutputPage, OutputQuery, OutputSelection};

/// The columns that [`counts`] reads, in this order.
pub(super) const COUNTS_COLUMNS: &str = "stdout_total, stdout_kept, stdout_cut, stderr_total, \
     stderr_kept, stderr_cut, combined_total, combined_kept, combined_cut";

/// Reads the counts of a call's output.
pub(super) fn counts(row: &Row) -> Result<OutputCounts, PostgresError> {
    Ok(OutputCounts {
        stdout: summary(row, 0)?,
        stderr: summary(row, 3)?,
        combined: summary(row, 6)?,
    })
}

fn summary(row: &Row, column: usize) -> Result<StreamSummary, PostgresError> {
    let (total_bytes, kept_bytes) = (count(row, column)?, count(row, column + 1)?);
    Ok(StreamSummary {
        total_bytes,
        kept_bytes,
        dropped_bytes: total_bytes.saturating_sub(kept_bytes),
        cut_offset: optional_count(row, column + 2)?,
    })
}

/// Returns the statement that saves counts, and its parameters.
pub(super) fn save_counts(
    rows: &[(CallId, OutputCounts)],
) -> (String, Vec<Box<dyn ToSql + Sync + Send>>) {
    let sql = format!(
        "INSERT INTO outputs (call_id, {COUNTS_COLUMNS})
         SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[],
             $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[])
         ON CONFLICT (call_id) DO UPDATE SET ({COUNTS_COLUMNS}) = (EXCLUDED.stdout_total,
             EXCLUDED.stdout_kept, EXCLUDED.stdout_cut, EXCLUDED.stderr_total,
             EXCLUDED.stderr_kept, EXCLUDED.stderr_cut, EXCLUDED.combined_total,
             EXCLUDED.combined_kept, EXCLUDED.combined_cut)"
    );
    let ids: Vec<_> = rows.iter().map(|(id, _)| call_uuid(*id)).collect();
    let mut params: Vec<Box<dyn ToSql + Sync + Send>> = vec![Box::new(ids)];
    let streams: [fn(&OutputCounts) -> StreamSummary; 3] =
        [|counts| counts.stdout, |counts| counts.stderr, |counts| counts.combined];
    for stream in streams {
        let of = || rows.iter().map(|(_, counts)| stream(counts));
        params.push(Box::new(of().map(|s| number(s.total_bytes)).collect::<Vec<_>>()));
        params.push(Box::new(of().map(|s| number(s.kept_bytes)).collect::<Vec<_>>()));
        params.push(Box::new(of().map(|s| s.cut_offset.map(number)).collect::<Vec<_>>()));
    }
    (sql, params)
}

/// Reads pieces of a call's output. Returns `None` if there is no such call.
pub(super) async fn output(
    snapshot: &Transaction<'_>,
    query: &OutputQuery,
) -> Result<Option<OutputPage>, PostgresError> {
    let id = call_uuid(query.call_id);
    let sql = format!("SELECT {COUNTS_COLUMNS} FROM outputs WHERE call_id = $1");
    let stored = snapshot.query_opt(&snapshot.prepare_cached(&sql).await?, &[&id]).await?;
    let stored = stored.as_ref().map(counts).transpose()?;
    let OutputCounts { stdout, stderr, combined } = stored.unwrap_or_default();
    let mut page = OutputPage { pieces: Vec::new(), stdout, stderr, combined };
    if stored.is_none() {
        let exists = snapshot.prepare_cached("SELECT 1 FROM calls WHERE id = $1").await?;
        return Ok(snapshot.query_opt(&exists, &[&id]).await?.map(|_| page));
    }
    let stream = Stream::new(query);
    let (start, bytes_max) = match query.from {
        OutputFrom::Tail(0) => return Ok(Some(page)),
        OutputFrom::Offset(offset) => (stream.first_from(snapshot, offset).await?, query.bytes_max),
        // A tail is returned whole.
        OutputFrom::Tail(bytes) => (stream.first_of_tail(snapshot, bytes).await?, u64::MAX),
    };
    for row in stream.pieces(snapshot, start, bytes_max).await? {
        page.pieces.push(event(&row, 0)?.to_owned());
    }
    Ok(Some(page))
}

/// The pieces of one selection of a call's output.
struct Stream {
    id: uuid::Uuid,
    /// The column of the offset.
    offset: &'static str,
    /// The condition that the index of the offset needs.
    pieces: String,
}

impl Stream {
    fn new(query: &OutputQuery) -> Self {
        let one = |stream: OutputStream| ("stream_offset", format!("stream = {}", stream.number()));
        let (offset, pieces) = match query.selection {
            OutputSelection::Stdout => one(OutputStream::Stdout),
            OutputSelection::Stderr => one(OutputStream::Stderr),
            OutputSelection::Combined => ("combined_offset", "stream IS NOT NULL".to_owned()),
        };
        // The planner finds the partial indexes by this condition.
        let pieces = format!("call_id = $1 AND stream IS NOT NULL AND {pieces}");
        Self { id: call_uuid(query.call_id), offset, pieces }
    }

    /// Returns the offset of the piece that holds `wanted` or, if there is none, one before the
    /// next.
    async fn first_from(
        &self,
        snapshot: &Transaction<'_>,
        wanted: u64,
    ) -> Result<u64, PostgresError> {
        let Self { offset, pieces, .. } = self;
        let sql = format!(
            "SELECT {offset}, length FROM events WHERE {pieces} AND {offset} <= $2
             ORDER BY {offset} DESC, sequence DESC LIMIT 1"
        );
        let statement = snapshot.prepare_cached(&sql).await?;
        let row = snapshot.query_opt(&statement, &[&self.id, &number(wanted)]).await?;
        if let Some(row) = row {
            let (offset, length) = (count(&row, 0)?, count(&row, 1)?);
            if offset.saturating_add(length) > wanted {
                return Ok(offset);
            }
        }
        Ok(wanted.saturating_add(1))
    }

    /// Returns the offset of the last pieces that together have `wanted` bytes, or of all, but of
    /// no more than a page holds.
    async fn first_of_tail(
        &self,
        snapshot: &Transaction<'_>,
        wanted: u64,
    ) -> Result<u64, PostgresError> {
        let Self { offset, pieces, .. } = self;
        let sql = format!(
            "SELECT coalesce(min(start), 0)::bigint FROM (
                 SELECT {offset} AS start, length,
                     sum(length) OVER (ORDER BY {offset} DESC, sequence DESC) AS bytes
                 FROM (SELECT {offset}, length, sequence FROM events WHERE {pieces}
                     ORDER BY {offset} DESC, sequence DESC LIMIT $3) newest
             ) tail WHERE bytes - length < $2::bigint"
        );
        let statement = snapshot.prepare_cached(&sql).await?;
        let most = limit(OUTPUT_PAGE_PIECES_MAX as u64);
        let row = snapshot.query_one(&statement, &[&self.id, &number(wanted), &most]).await?;
        count(&row, 0)
    }

    /// Returns the pieces from an offset on, until they have `bytes_max` bytes.
    async fn pieces(
        &self,
        snapshot: &Transaction<'_>,
        start: u64,
        bytes_max: u64,
    ) -> Result<Vec<Row>, PostgresError> {
        let Self { offset, pieces, .. } = self;
        let sql = format!(
            "SELECT {EVENT_COLUMNS} FROM (
                 SELECT *, sum(length) OVER (ORDER BY {offset}, sequence) AS total
                 FROM (SELECT * FROM events WHERE {pieces} AND {offset} >= $2
                     ORDER BY {offset}, sequence LIMIT $3) next
             ) page WHERE total - length < $4::bigint OR total = length
             ORDER BY {offset}, sequence"
        );
        let statement = snapshot.prepare_cached(&sql).await?;
        let most = limit(OUTPUT_PAGE_PIECES_MAX as u64);
        let (start, bytes_max) = (number(start), number(bytes_max));
        Ok(snapshot.query(&statement, &[&self.id, &start, &most, &bytes_max]).await?)
    }
}
