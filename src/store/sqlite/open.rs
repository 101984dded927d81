//! The opening of a store: its files, the lock, and the checks before anything is written.

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::continuity::{self, ContinuityFile};
use super::files::{Files, length, private_file, sync_directory};
use super::identity::{self, Identity};
use super::lock::{DataLock, try_lock};
use super::open_error::{OpenError, unwritable};
use super::schema::{self, DatabaseKind};
use super::{SqliteOptions, Synchronous};

/// The timeout of the wait for a lock of SQLite that another program holds, such as a backup.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The writer's page cache, in KiB.
const WRITER_CACHE_KIB: i64 = 16 * 1024;
/// The size to which a longer write-ahead log is truncated, in bytes.
const WAL_BYTES_KEPT_MAX: i64 = 64 * 1024 * 1024;

/// An opened database. No other process can open it while this exists.
#[derive(Debug)]
pub(super) struct OpenedDatabase {
    pub(super) files: Files,
    pub(super) writer: Connection,
    pub(super) identity: Identity,
    pub(super) continuity: ContinuityFile,
    pub(super) lock: Lock,
}

/// The advisory locks of a store. They end when this is dropped: keep it longer than the writer.
///
/// The lock of the file with the holder's process id comes first. That of the database itself holds
/// even if that file is deleted.
#[derive(Debug)]
pub(super) struct Lock {
    _named: DataLock,
    _database: File,
}

/// Opens or creates a store.
pub(super) fn open(options: &SqliteOptions) -> Result<OpenedDatabase, OpenError> {
    let files = Files::of(&options.path);
    files.create_directory().map_err(|(path, cause)| unwritable(&path, &cause))?;
    let lock = files.acquire()?;
    files.check_schema()?;
    let has_log = length(&files.log()) > 0;
    let mut writer = files.open_writer(options.synchronous)?;
    let explain = |error: rusqlite::Error| files.explain(&error);
    let loaded = Identity::load(&writer).map_err(explain)?;
    let identity = match loaded {
        Some(identity) => {
            if let Err(broken) = continuity::check(&files, &identity.state) {
                if !identity.state.is_clean && !has_log && broken.is_copy() {
                    return Err(OpenError::Incomplete { path: files.database });
                }
                let sessions = identity::change_epochs(&mut writer).map_err(explain)?;
                tracing::warn!(
                    cause = %broken,
                    sessions,
                    "the store may not be what clients have seen of it: its streams have new epochs"
                );
            }
            identity
        }
        None => Identity::create(&writer).map_err(explain)?,
    };
    files.begin(writer, identity, lock)
}

impl Files {
    /// Locks the store.
    pub(super) fn acquire(&self) -> Result<Lock, OpenError> {
        let named = DataLock::of_files(self)?
            .map_err(|holder| OpenError::Locked { path: self.database.clone(), holder })?;
        let database =
            private_file(&self.database).map_err(|cause| unwritable(&self.database, &cause))?;
        if !try_lock(&database, &self.database)? {
            // Another server made this lock file anew when that of the holder was deleted.
            let holder = ", whose lock file is gone".to_owned();
            return Err(OpenError::Locked { path: self.database.clone(), holder });
        }
        Ok(Lock { _named: named, _database: database })
    }

    /// Marks the database as one whose newest commits are in its write-ahead log.
    ///
    /// The mark reaches the database before any later commit, so that a copy of the database alone
    /// has it; and the file beside the database is written before that, so that a crash at any moment
    /// leaves a store that opens again.
    fn begin(
        self,
        writer: Connection,
        mut identity: Identity,
        lock: Lock,
    ) -> Result<OpenedDatabase, OpenError> {
        identity.set_clean(&writer, false).map_err(|error| self.explain(&error))?;
        let continuity = ContinuityFile::create(&self, &identity.state)
            .map_err(|cause| unwritable(&self.continuity(), &cause))?;
        writer
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .map_err(|error| self.explain(&error))?;
        Ok(OpenedDatabase { files: self, writer, identity, continuity, lock })
    }

    /// Refuses a database that is foreign or too new, before anything is written.
    fn check_schema(&self) -> Result<(), OpenError> {
        if length(&self.database) == 0 {
            return Ok(());
        }
        let found = self.open_unchanged().and_then(|connection| schema::inspect(&connection));
        match found.map_err(|error| self.explain(&error))? {
            DatabaseKind::Version(found) if found > schema::newest() => {
                let (path, known) = (self.database.clone(), schema::newest());
                Err(OpenError::Newer { path, found, known })
            }
            DatabaseKind::Version(_) | DatabaseKind::Empty => Ok(()),
            DatabaseKind::Foreign => Err(OpenError::Foreign { path: self.database.clone() }),
        }
    }

    /// Opens a connection that does not change the files. After a crash the write-ahead log may
    /// hold the newest schema: then it is read as well, and is not moved to the database.
    pub(super) fn open_unchanged(&self) -> rusqlite::Result<Connection> {
        if length(&self.log()) > 0 || length(&self.journal()) > 0 {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(&self.database, flags)?;
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
            return Ok(connection);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_URI;
        Connection::open_with_flags(immutable(&self.database), flags)
    }

    fn open_writer(&self, synchronous: Synchronous) -> Result<Connection, OpenError> {
        sync_directory(self.directory()).map_err(|cause| unwritable(&self.database, &cause))?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut writer = Connection::open_with_flags(&self.database, flags)
            .map_err(|error| self.explain(&error))?;
        set_up_writer(&writer, synchronous).map_err(|error| self.explain(&error))?;
        schema::migrate(&mut writer).map_err(|cause| OpenError::Unusable {
            path: self.database.clone(),
            cause: cause.to_string(),
        })?;
        Ok(writer)
    }

    /// Opens a connection that cannot write.
    pub(super) fn open_reader(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let reader = Connection::open_with_flags(&self.database, flags)?;
        reader.busy_timeout(BUSY_TIMEOUT)?;
        reader.pragma_update(None, "cell_size_check", true)?;
        reader.pragma_update(None, "temp_store", "MEMORY")?;
        reader.set_prepared_statement_cache_capacity(64);
        // The first read opens all files.
        reader.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        Ok(reader)
    }

    pub(super) fn explain(&self, error: &rusqlite::Error) -> OpenError {
        let (path, cause) = (self.database.clone(), error.to_string());
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => OpenError::Foreign { path },
            Some(
                ErrorCode::ReadOnly
                | ErrorCode::CannotOpen
                | ErrorCode::PermissionDenied
                | ErrorCode::DiskFull,
            ) => OpenError::Unwritable { path, cause },
            _ => OpenError::Unusable { path, cause },
        }
    }
}

fn set_up_writer(writer: &Connection, synchronous: Synchronous) -> rusqlite::Result<()> {
    writer.busy_timeout(BUSY_TIMEOUT)?;
    writer.pragma_update(None, "cell_size_check", true)?;
    writer.pragma_update(None, "journal_mode", "WAL")?;
    writer.pragma_update(
        None,
        "synchronous",
        match synchronous {
            Synchronous::Full => "FULL",
            Synchronous::Normal => "NORMAL",
        },
    )?;
    writer.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
    writer.pragma_update(None, "journal_size_limit", WAL_BYTES_KEPT_MAX)?;
    writer.pragma_update(None, "temp_store", "MEMORY")?;
    writer.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// Returns the URI with which SQLite reads a database without locks and without files beside it.
fn immutable(path: &Path) -> String {
    // The authority is empty, so that no part of the path is read as one.
    let mut address = if path.is_absolute() { "file://" } else { "file:" }.to_owned();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => {
                address.push(char::from(*byte));
            }
            other => address.push_str(&format!("%{other:02x}")),
        }
    }
    address + "?immutable=1"
}
