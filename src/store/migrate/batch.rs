//! Rows that are copied together.

use super::table::Table;
use super::value::Value;

/// The size at which a batch is full: so much of a copy is in memory a few times.
const BATCH_BYTES_MAX: usize = 1024 * 1024;
const BATCH_ROWS_MAX: usize = 2_000;

/// Consecutive rows of a table.
#[derive(Debug)]
pub(in crate::store) struct Batch {
    pub(in crate::store) table: &'static Table,
    pub(in crate::store) rows: Vec<Vec<Value>>,
    bytes: usize,
}

impl Batch {
    pub(in crate::store) fn new(table: &'static Table) -> Self {
        Self { table, rows: Vec::new(), bytes: 0 }
    }

    pub(in crate::store) fn push(&mut self, row: Vec<Value>) {
        self.bytes += row.iter().map(Value::length).sum::<usize>();
        self.rows.push(row);
    }

    /// Returns whether no more rows should be added. A row that is larger than a batch is alone, or the
    /// last.
    pub(in crate::store) fn is_full(&self) -> bool {
        self.bytes >= BATCH_BYTES_MAX || self.rows.len() >= BATCH_ROWS_MAX
    }
}
