//! The schema and its versions.

use refinery::{Migration, Runner};
use rusqlite::{Connection, OptionalExtension};

/// Every step of the schema, oldest first. Steps that have been released never change.
const STEPS: &[(&str, &str)] = &[
    ("V1__initial", include_str!("migrations/V1__initial.sql")),
    ("V2__fewer_indexes", include_str!("migrations/V2__fewer_indexes.sql")),
    ("V3__messages", include_str!("migrations/V3__messages.sql")),
    ("V4__follow_ups", include_str!("migrations/V4__follow_ups.sql")),
];

/// The version that this build writes.
pub(super) fn newest() -> u32 {
    u32::try_from(STEPS.len()).unwrap_or(u32::MAX)
}

/// Brings the database to the newest version, one transaction a step.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), refinery::Error> {
    let steps: Result<Vec<_>, _> =
        STEPS.iter().map(|(name, sql)| Migration::unapplied(name, sql)).collect();
    Runner::new(&steps?).run(connection).map(|_| ())
}

/// What a database says that it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum DatabaseKind {
    /// Nothing yet.
    Empty,
    /// A store with this schema version.
    Version(u32),
    /// Somebody else's.
    Foreign,
}

/// Looks at a database without writing to it.
pub(super) fn look(connection: &Connection) -> rusqlite::Result<DatabaseKind> {
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables == 0 {
        return Ok(DatabaseKind::Empty);
    }
    let history = "SELECT 1 FROM sqlite_schema WHERE name = 'refinery_schema_history'";
    if connection.query_row(history, [], |_| Ok(())).optional()?.is_none() {
        return Ok(DatabaseKind::Foreign);
    }
    let newest = "SELECT max(version) FROM refinery_schema_history";
    let version: Option<u32> = connection.query_row(newest, [], |row| row.get(0))?;
    Ok(version.map_or(DatabaseKind::Empty, DatabaseKind::Version))
}
