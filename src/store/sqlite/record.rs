//! Records in columns.

use rusqlite::Row;
use serde::de::DeserializeOwned;

use super::error::SqliteError;
use crate::store::record;

/// Reads a record from a column. `what` names it in an error.
pub(super) fn decode<T: DeserializeOwned>(
    row: &Row<'_>,
    column: usize,
    what: &str,
) -> Result<T, SqliteError> {
    let text = row.get_ref(column)?.as_str().map_err(|cause| record::corrupt(what, &cause))?;
    Ok(record::decode(text, what)?)
}
