//! The schema and its versions.

use refinery::{Migration, Runner};
use rusqlite::{Connection, OptionalExtension};

/// The migrations, oldest first. A migration that has been released never changes.
const MIGRATIONS: &[(&str, &str)] = &[
    ("V1__initial", include_str!("migrations/V1__initial.sql")),
    ("V2__fewer_indexes", include_str!("migrations/V2__fewer_indexes.sql")),
    ("V3__messages", include_str!("migrations/V3__messages.sql")),
    ("V4__follow_ups", include_str!("migrations/V4__follow_ups.sql")),
];

/// Returns the version that this build writes.
pub(super) fn newest() -> u32 {
    u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX)
}

/// Migrates the database to the newest version, with one transaction for each migration.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), refinery::Error> {
    let migrations: Result<Vec<_>, _> =
        MIGRATIONS.iter().map(|(name, sql)| Migration::unapplied(name, sql)).collect();
    Runner::new(&migrations?).run(connection).map(|_| ())
}

/// The kind of a database.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum DatabaseKind {
    /// An empty database.
    Empty,
    /// A store with this schema version.
    Version(u32),
    /// A database of another program.
    Foreign,
}

/// Determines the kind of a database, without writing to it.
pub(super) fn inspect(connection: &Connection) -> rusqlite::Result<DatabaseKind> {
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
