//! The schema and its versions.

use refinery::{Migration, Runner, Target};
use rusqlite::{Connection, OptionalExtension};

/// One step between two versions of the schema.
struct Step {
    name: &'static str,
    sql: &'static str,
    /// A query that returns whether the schema has the effect of the step.
    is_applied: &'static str,
}

/// The migrations, oldest first. A migration that has been released never changes.
const MIGRATIONS: &[Step] = &[
    Step {
        name: "V1__initial",
        sql: include_str!("migrations/V1__initial.sql"),
        is_applied: "SELECT count(*) = 1 FROM sqlite_schema WHERE name = 'requests_by_age'",
    },
    Step {
        name: "V2__fewer_indexes",
        sql: include_str!("migrations/V2__fewer_indexes.sql"),
        is_applied: "SELECT count(*) = 0 FROM sqlite_schema WHERE name = 'sessions_live'",
    },
    Step {
        name: "V3__messages",
        sql: include_str!("migrations/V3__messages.sql"),
        is_applied: "SELECT count(*) = 1 FROM sqlite_schema WHERE name = 'messages'",
    },
    Step {
        name: "V4__follow_ups",
        sql: include_str!("migrations/V4__follow_ups.sql"),
        is_applied: "SELECT count(*) = 1 FROM sqlite_schema WHERE name = 'follow_ups'",
    },
    Step {
        name: "V5__continuity",
        sql: include_str!("migrations/V5__continuity.sql"),
        is_applied: "SELECT count(*) = 1 FROM sqlite_schema WHERE name = 'identity'",
    },
];

/// Returns the version that this build writes.
pub(super) fn newest() -> u32 {
    u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX)
}

/// An error of a migration.
#[derive(Debug, thiserror::Error)]
pub(super) enum MigrationError {
    #[error(transparent)]
    Step(#[from] refinery::Error),
    #[error(transparent)]
    Sql(#[from] rusqlite::Error),
    #[error("the record of its migration {version} is damaged")]
    Damaged { version: i64 },
}

/// Migrates the database to the newest version, in one transaction.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), MigrationError> {
    if inspect(connection)? == DatabaseKind::Version(newest()) {
        return Ok(());
    }
    check_history(connection)?;
    let migrations = migrations()?;
    if let Some(version) = unrecorded_step(connection)? {
        let version = i32::try_from(version).unwrap_or(i32::MAX);
        Runner::new(&migrations).set_target(Target::FakeVersion(version)).run(connection)?;
    }
    Runner::new(&migrations).set_grouped(true).run(connection)?;
    Ok(())
}

/// Checks that the records of the migrations can be read, where the library would panic.
fn check_history(connection: &Connection) -> Result<(), MigrationError> {
    if inspect(connection)? == DatabaseKind::Empty {
        return Ok(());
    }
    let mut history =
        connection.prepare("SELECT version, applied_on, checksum FROM refinery_schema_history")?;
    let mut rows = history.query([])?;
    while let Some(row) = rows.next()? {
        let version = row.get(0)?;
        let (time, checksum): (String, String) = (row.get(1)?, row.get(2)?);
        let is_time = time.as_bytes().get(10) == Some(&b'T') && time.ends_with('Z');
        let is_time = is_time && time.parse::<jiff::Timestamp>().is_ok();
        if !is_time || checksum.parse::<u64>().is_err() {
            return Err(MigrationError::Damaged { version });
        }
    }
    Ok(())
}

fn migrations() -> Result<Vec<Migration>, refinery::Error> {
    MIGRATIONS.iter().map(|step| Migration::unapplied(step.name, step.sql)).collect()
}

/// Returns the version of a step that was applied but not recorded, or `None` if there is none.
/// Version 0.2.0 and earlier left such a store when they were killed during a migration, because
/// they committed a step before its record.
fn unrecorded_step(connection: &Connection) -> rusqlite::Result<Option<u32>> {
    let recorded = match inspect(connection)? {
        DatabaseKind::Version(version) => version,
        DatabaseKind::Empty => 0,
        DatabaseKind::Foreign => return Ok(None),
    };
    let Some(next) = MIGRATIONS.get(recorded as usize) else { return Ok(None) };
    Ok(next.is_applied(connection)?.then_some(recorded + 1))
}

/// Migrates an empty database to an older version.
#[cfg(test)]
pub(super) fn migrate_to(connection: &mut Connection, version: u32) -> Result<(), MigrationError> {
    let version = i32::try_from(version).unwrap_or(i32::MAX);
    Runner::new(&migrations()?).set_target(Target::Version(version)).run(connection)?;
    Ok(())
}

impl Step {
    fn is_applied(&self, connection: &Connection) -> rusqlite::Result<bool> {
        connection.query_row(self.is_applied, [], |row| row.get(0))
    }
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
