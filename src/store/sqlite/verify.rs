//! The verification of a database: its structure, its logs, and the checksums of its records.

use std::fmt;

use rusqlite::{Connection, Row};
use serde_json::Value;

use super::columns::{call_id, count, session_id};
use super::error::{SqliteError, for_reader};
use super::event_row::EVENT_COLUMNS;
use super::record;
use crate::store::event_row::EventRow;

/// The most problems that are described. The others are counted.
const PROBLEMS_MAX: usize = 20;

/// The depth of a verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifyDepth {
    /// SQLite's `quick_check`, which does not compare indexes with their tables.
    Quick,
    /// SQLite's `integrity_check`.
    Full,
}

/// The result of the verification of a store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verification {
    /// The number of events.
    pub events: u64,
    /// The number of other records: sessions, calls, messages, requests and follow-ups.
    pub records: u64,
    /// The first problems.
    pub problems: Vec<String>,
    /// The number of problems, of which only the first are described.
    pub problems_total: u64,
}

impl Verification {
    fn problem(&mut self, problem: impl fmt::Display) {
        self.problems_total += 1;
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem.to_string());
        }
    }

    /// Counts a row, or describes why it cannot be read. Another error than damage ends it all.
    fn row(&mut self, read: Result<(), SqliteError>, name: impl fmt::Display) {
        if let Err(error) = read {
            self.problem(format_args!("{name}: {}", for_reader(error)));
        }
    }
}

/// Verifies a database of the newest schema.
pub(super) fn verify(
    connection: &Connection,
    depth: VerifyDepth,
) -> rusqlite::Result<Verification> {
    let mut found = Verification::default();
    let check = match depth {
        VerifyDepth::Quick => "quick_check",
        VerifyDepth::Full => "integrity_check",
    };
    connection.pragma_query(None, check, |row| {
        let line: String = row.get(0)?;
        if line != "ok" {
            found.problem(line);
        }
        Ok(())
    })?;
    verify_logs(connection, &mut found)?;
    verify_events(connection, &mut found)?;
    for (sql, name) in RECORDS {
        verify_records(connection, sql, name, &mut found)?;
    }
    Ok(found)
}

/// Checks that each log has the events from its first to its newest.
fn verify_logs(connection: &Connection, found: &mut Verification) -> rusqlite::Result<()> {
    let mut logs = connection.prepare(
        "SELECT s.id, s.first, s.head, coalesce(min(e.sequence), 0), coalesce(max(e.sequence), 0),
             count(e.key)
         FROM sessions s LEFT JOIN events e ON e.session_key = s.key GROUP BY s.key",
    )?;
    let mut rows = logs.query([])?;
    while let Some(row) = rows.next()? {
        let (id, first, head) = (session_id(row, 0)?, count(row, 1)?, count(row, 2)?);
        let (oldest, newest, events) = (count(row, 3)?, count(row, 4)?, count(row, 5)?);
        let length = head.saturating_add(1).saturating_sub(first);
        let is_whole = length == events && (events == 0 || (oldest, newest) == (first, head));
        if !is_whole {
            found.problem(format_args!(
                "session {id}: its log should have the events {first} to {head}, and has {events} \
                 from {oldest} to {newest}"
            ));
        }
    }
    Ok(())
}

/// Returns the first log that lacks an event, or has one too many, or `None` if there is none.
#[cfg(feature = "postgres")]
pub(super) fn first_gap(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let mut found = Verification::default();
    verify_logs(connection, &mut found)?;
    Ok(found.problems.into_iter().next())
}

fn verify_events(connection: &Connection, found: &mut Verification) -> rusqlite::Result<()> {
    let mut events = connection.prepare(&format!(
        "SELECT {EVENT_COLUMNS}, (SELECT id FROM sessions WHERE key = session_key) FROM events"
    ))?;
    let session_column = events.column_count() - 1;
    let mut rows = events.query([])?;
    while let Some(row) = rows.next()? {
        found.events += 1;
        let read = EventRow::read(row).map(|_| ());
        let session = session_id(row, session_column).map(|id| id.to_string());
        found.row(read, format_args!("session {}", session.unwrap_or_else(|_| "unknown".into())));
    }
    Ok(())
}

/// The columns with records: the record, and the id that names it.
const RECORDS: &[(&str, &str)] = &[
    (
        "SELECT b.body, s.id FROM session_bodies b LEFT JOIN sessions s ON s.key = b.session_key",
        "session",
    ),
    ("SELECT body, id FROM calls", "call"),
    (
        "SELECT m.body, s.id FROM messages m LEFT JOIN sessions s ON s.key = m.session_key",
        "message of session",
    ),
    ("SELECT effect, session_id FROM requests", "request"),
    ("SELECT body, call_id FROM follow_ups", "follow-up of"),
    (
        "SELECT t.body, f.call_id FROM follow_up_tasks t LEFT JOIN follow_ups f ON f.key = t.key",
        "task of the follow-up of",
    ),
];

fn verify_records(
    connection: &Connection,
    sql: &str,
    name: &str,
    found: &mut Verification,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        found.records += 1;
        let read = record::decode::<Value>(row, 0, "the record").map(|_| ());
        found.row(read, format_args!("{name} {}", id_of(row, name)));
    }
    Ok(())
}

fn id_of(row: &Row<'_>, name: &str) -> String {
    let id = match name.contains("session") {
        true => session_id(row, 1).map(|id| id.to_string()),
        false => call_id(row, 1).map(|id| id.to_string()),
    };
    id.unwrap_or_else(|_| "unknown".to_owned())
}
