//! The reading of a whole store that no server uses, for a copy elsewhere.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Row};

use super::continuity;
use super::error::{SqliteError, for_reader};
use super::export_rows::{EXPORTS, Export};
use super::files::{Files, length};
use super::identity::{self, Identity};
use super::open::Lock;
use super::open_error::OpenError;
use super::schema::{self, DatabaseKind};
use super::verify;
use crate::model::{CallId, SessionId};
use crate::store::StoreError;
use crate::store::migrate::{Batch, Metadata, MigrateError, TableContents};

/// A store that is copied. It is locked, and never changed.
pub(in crate::store) struct Source {
    pub(in crate::store) metadata: Metadata,
    connection: Connection,
    path: PathBuf,
    _lock: Lock,
}

impl Source {
    /// Locks and opens the store at a path.
    pub(in crate::store) fn open(path: &Path) -> Result<Self, MigrateError> {
        let files = Files::of(path);
        let path = files.database.clone();
        if length(&path) == 0 {
            return Err(MigrateError::Missing { path });
        }
        let lock = files.acquire().map_err(|error| match error {
            OpenError::Locked { path, holder } => MigrateError::InUse { path, holder },
            error => error.into(),
        })?;
        let failed = |error: rusqlite::Error| MigrateError::from(files.explain(&error));
        let connection = files.open_unchanged().map_err(failed)?;
        connection.pragma_update(None, "cell_size_check", true).map_err(failed)?;
        connection.pragma_update(None, "temp_store", "MEMORY").map_err(failed)?;
        check_schema(&connection, &files)?;
        // All reads see one state.
        connection.execute_batch("BEGIN").map_err(failed)?;
        let unopened = || MigrateError::Discontinuous {
            path: path.clone(),
            cause: "no server has opened it since its schema is this one".to_owned(),
        };
        let identity = Identity::load(&connection).map_err(failed)?.ok_or_else(unopened)?;
        if let Err(broken) = continuity::check(&files, &identity.state) {
            let has_log = length(&files.log()) > 0;
            if !identity.state.is_clean && !has_log && broken.is_copy() {
                return Err(OpenError::Incomplete { path }.into());
            }
            return Err(MigrateError::Discontinuous { path, cause: broken.to_string() });
        }
        let key = identity::value(&connection, "page_token_key").map_err(failed)?;
        let page_token_key = key.ok_or_else(unopened)?;
        let change = identity::counter(&connection, "change").map_err(failed)?;
        let change = i64::try_from(change).unwrap_or(i64::MAX);
        Ok(Self { metadata: Metadata { change, page_token_key }, connection, path, _lock: lock })
    }

    /// Reads all tables, and passes their rows to `put` in batches, as long as it returns `true`. Returns
    /// the contents of the tables.
    pub(in crate::store) fn export(
        &self,
        mut put: impl FnMut(Batch) -> bool,
    ) -> Result<Vec<TableContents>, MigrateError> {
        self.check_structure()?;
        let mut all = Vec::new();
        for export in EXPORTS {
            let Some(contents) = self.export_table(export, &mut put)? else { break };
            all.push(contents);
        }
        Ok(all)
    }

    /// Reads a table. Returns `None` if `put` wants no more.
    fn export_table(
        &self,
        export: &Export,
        put: &mut impl FnMut(Batch) -> bool,
    ) -> Result<Option<TableContents>, MigrateError> {
        let mut contents = TableContents::default();
        let mut batch = Batch::new(export.table);
        let failed = |error| self.unreadable(&error);
        let mut statement = self.connection.prepare(&export.sql()).map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let values = match (export.read)(export.table, row) {
                Ok(values) => values,
                Err(error) => return Err(self.damaged(export, row, error)),
            };
            contents.add(&values);
            batch.push(values);
            if batch.is_full() && !put(std::mem::replace(&mut batch, Batch::new(export.table))) {
                return Ok(None);
            }
        }
        let is_wanted = batch.rows.is_empty() || put(batch);
        Ok(is_wanted.then_some(contents))
    }

    /// Checks the structure of the database, and that no log has a gap.
    fn check_structure(&self) -> Result<(), MigrateError> {
        let damaged = |table, key: &str, cause: String| {
            let (path, key) = (self.path.clone(), key.to_owned());
            MigrateError::Damaged { path, table, key, cause }
        };
        let check = "PRAGMA quick_check(1)";
        let found = self.connection.query_row(check, [], |row| row.get::<_, String>(0));
        let found = found.map_err(|error| self.unreadable(&error))?;
        if found != "ok" {
            return Err(damaged("sqlite_schema", "structure", found));
        }
        let gap = verify::first_gap(&self.connection).map_err(|error| self.unreadable(&error))?;
        gap.map_or(Ok(()), |gap| Err(damaged("events", "log", gap)))
    }

    fn unreadable(&self, error: &rusqlite::Error) -> MigrateError {
        MigrateError::Unreadable { path: self.path.clone(), cause: error.to_string() }
    }

    /// Returns the error of a row that cannot be read.
    fn damaged(&self, export: &Export, row: &Row<'_>, error: SqliteError) -> MigrateError {
        let cause = match for_reader(error) {
            StoreError::Corrupt(cause) => cause,
            other => {
                return MigrateError::Unreadable {
                    path: self.path.clone(),
                    cause: other.to_string(),
                };
            }
        };
        let row_key = row.get::<_, i64>("row_key").unwrap_or_default();
        let named = self.name_of(export, row_key).ok().flatten();
        let key = named.unwrap_or_else(|| format!("row {row_key}"));
        MigrateError::Damaged { path: self.path.clone(), table: export.table.name, key, cause }
    }

    /// Returns the name of a row by the ids in it, or `None` if it has none that can be read.
    fn name_of(&self, export: &Export, row_key: i64) -> rusqlite::Result<Option<String>> {
        let name = self.connection.query_row(export.name, [row_key], |row| {
            let session: Option<[u8; 16]> = row.get(0)?;
            let call: Option<[u8; 16]> = row.get(1)?;
            let session = session.map(|id| format!("session {}", SessionId::from_bytes(id)));
            let call = call.map(|id| format!("call {}", CallId::from_bytes(id)));
            let parts = [session, call, row.get::<_, Option<String>>(2)?];
            Ok(parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
        });
        Ok(name.optional()?.filter(|name| !name.is_empty()))
    }
}

/// Refuses a database of another schema.
fn check_schema(connection: &Connection, files: &Files) -> Result<(), MigrateError> {
    let (path, known) = (files.database.clone(), schema::newest());
    match schema::inspect(connection).map_err(|error| files.explain(&error))? {
        DatabaseKind::Version(found) if found == known => Ok(()),
        DatabaseKind::Version(found) if found > known => {
            Err(OpenError::Newer { path, found, known }.into())
        }
        DatabaseKind::Version(found) => Err(MigrateError::Older { path, found, known }),
        DatabaseKind::Empty | DatabaseKind::Foreign => Err(OpenError::Foreign { path }.into()),
    }
}
