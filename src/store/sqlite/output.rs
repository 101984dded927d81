//! The counts of output, and the reads of its pieces.

use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, params};

use super::calls;
use super::columns::{SqlU64, count};
use super::error::SqliteError;
use super::event_row::EVENT_COLUMNS;
use crate::model::limits::OUTPUT_PAGE_PIECES_MAX;
use crate::model::{CallId, OutputStream, StreamSummary};
use crate::store::event_row::EventRow;
use crate::store::rules::OutputCounts;
use crate::store::{OutputFrom, OutputPage, OutputQuery, OutputSelection};

/// Reads the counts of a call's output. Returns `None` if it has no output or is deleted.
pub(super) fn load_counts(
    connection: &Connection,
    id: CallId,
) -> rusqlite::Result<Option<OutputCounts>> {
    connection
        .prepare_cached(
            "SELECT stdout_total, stdout_kept, stdout_cut, stderr_total, stderr_kept, stderr_cut,
                 combined_total, combined_kept, combined_cut
             FROM outputs WHERE call_id = ?1",
        )?
        .query_row([id.as_bytes()], |row| {
            Ok(OutputCounts {
                stdout: summary(row, 0)?,
                stderr: summary(row, 3)?,
                combined: summary(row, 6)?,
            })
        })
        .optional()
}

fn summary(row: &Row<'_>, column: usize) -> rusqlite::Result<StreamSummary> {
    let (total_bytes, kept_bytes) = (count(row, column)?, count(row, column + 1)?);
    Ok(StreamSummary {
        total_bytes,
        kept_bytes,
        dropped_bytes: total_bytes.saturating_sub(kept_bytes),
        cut_offset: row.get::<_, Option<SqlU64>>(column + 2)?.map(|SqlU64(offset)| offset),
    })
}

pub(super) fn save_counts(
    connection: &Connection,
    id: CallId,
    counts: &OutputCounts,
) -> rusqlite::Result<()> {
    let OutputCounts { stdout, stderr, combined } = counts;
    connection
        .prepare_cached(
            "INSERT INTO outputs (call_id, stdout_total, stdout_kept, stdout_cut, stderr_total,
                 stderr_kept, stderr_cut, combined_total, combined_kept, combined_cut)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
             ON CONFLICT (call_id) DO UPDATE SET (stdout_total, stdout_kept, stdout_cut,
                 stderr_total, stderr_kept, stderr_cut, combined_total, combined_kept,
                 combined_cut) = (?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            id.as_bytes(),
            SqlU64(stdout.total_bytes),
            SqlU64(stdout.kept_bytes),
            stdout.cut_offset.map(SqlU64),
            SqlU64(stderr.total_bytes),
            SqlU64(stderr.kept_bytes),
            stderr.cut_offset.map(SqlU64),
            SqlU64(combined.total_bytes),
            SqlU64(combined.kept_bytes),
            combined.cut_offset.map(SqlU64),
        ])
        .map(|_| ())
}

/// Reads pieces of a call's output. Returns `None` if there is no such call.
pub(super) fn output(
    connection: &Connection,
    query: &OutputQuery,
) -> Result<Option<OutputPage>, SqliteError> {
    let counts = load_counts(connection, query.call_id)?;
    let OutputCounts { stdout, stderr, combined } = counts.unwrap_or_default();
    let mut page = OutputPage { pieces: Vec::new(), stdout, stderr, combined };
    if counts.is_none() {
        return Ok(calls::find(connection, query.call_id)?.map(|_| page));
    }
    let stream = Stream { connection, call_id: query.call_id, selection: query.selection };
    let start = match query.from {
        OutputFrom::Offset(offset) => stream.first_from(offset)?,
        OutputFrom::Tail(0) => return Ok(Some(page)),
        OutputFrom::Tail(bytes) => stream.first_of_tail(bytes)?,
    };
    let from_offset = matches!(query.from, OutputFrom::Offset(_));
    let columns = format!("{EVENT_COLUMNS} FROM events");
    let mut statement = stream.prepare(&columns, ">= ?2", "ASC")?;
    let mut rows = statement.query(params![query.call_id.as_bytes(), SqlU64(start)])?;
    let mut bytes: u64 = 0;
    while let Some(row) = rows.next()? {
        page.pieces.push(EventRow::read(row)?.to_owned());
        bytes = bytes.saturating_add(count(row, LENGTH)?);
        // A tail is returned whole.
        let is_full = bytes >= query.bytes_max || page.pieces.len() >= OUTPUT_PAGE_PIECES_MAX;
        if from_offset && is_full {
            break;
        }
    }
    Ok(Some(page))
}

/// The index of the length of a piece in [`EVENT_COLUMNS`].
const LENGTH: usize = 7;

/// The pieces of one selection of a call's output.
struct Stream<'a> {
    connection: &'a Connection,
    call_id: CallId,
    selection: OutputSelection,
}

impl<'a> Stream<'a> {
    /// Prepares a query for the pieces in the order of their offsets, which is that of the index.
    fn prepare(
        &self,
        columns: &str,
        bound: &str,
        direction: &str,
    ) -> rusqlite::Result<CachedStatement<'a>> {
        let (offset, pieces) = self.names();
        self.connection.prepare_cached(&format!(
            "SELECT {columns} WHERE call_id = ?1 AND {pieces} AND {offset} {bound}
             ORDER BY {offset} {direction}, key {direction}"
        ))
    }

    /// Returns the column of the offset, and the condition that its index needs.
    fn names(&self) -> (&'static str, String) {
        let one = |stream: OutputStream| ("stream_offset", format!("stream = {}", stream.number()));
        match self.selection {
            OutputSelection::Stdout => one(OutputStream::Stdout),
            OutputSelection::Stderr => one(OutputStream::Stderr),
            OutputSelection::Combined => ("combined_offset", "stream IS NOT NULL".to_owned()),
        }
    }

    /// Returns the offset of the piece that holds `wanted` or, if there is none, one before the
    /// next.
    fn first_from(&self, wanted: u64) -> Result<u64, SqliteError> {
        let (offset, _) = self.names();
        let columns = format!("{offset}, length FROM events");
        let mut statement = self.prepare(&columns, "<= ?2", "DESC")?;
        let mut rows = statement.query(params![self.call_id.as_bytes(), SqlU64(wanted)])?;
        if let Some(row) = rows.next()? {
            let (offset, length) = (count(row, 0)?, count(row, 1)?);
            if offset.saturating_add(length) > wanted {
                return Ok(offset);
            }
        }
        Ok(wanted.saturating_add(1))
    }

    /// Returns the offset of the last pieces that together have `wanted` bytes, or of all, but of
    /// no more than a page holds.
    fn first_of_tail(&self, wanted: u64) -> Result<u64, SqliteError> {
        let (offset, _) = self.names();
        let columns = format!("{offset}, length FROM events");
        let mut statement = self.prepare(&columns, ">= 0", "DESC")?;
        let mut rows = statement.query([self.call_id.as_bytes()])?;
        let (mut start, mut bytes, mut pieces) = (0, 0_u64, 0);
        while bytes < wanted
            && pieces < OUTPUT_PAGE_PIECES_MAX
            && let Some(row) = rows.next()?
        {
            pieces += 1;
            start = count(row, 0)?;
            bytes = bytes.saturating_add(count(row, 1)?);
        }
        Ok(start)
    }
}
