//! The opening of a store: its files, the lock, and the checks before anything is written.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::schema::{self, DatabaseKind};
use super::{SqliteOptions, Synchronous};

/// The timeout of the wait for a lock of SQLite that another program holds, such as a backup.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The writer's page cache, in KiB.
const WRITER_CACHE_KIB: i64 = 16 * 1024;
/// The size to which a longer write-ahead log is truncated, in bytes.
const WAL_BYTES_KEPT_MAX: i64 = 64 * 1024 * 1024;

/// An error of the opening of a store. The message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error(
        "the store {path} is used by another server{holder}: stop that one, or give this one a \
         store of its own"
    )]
    Locked {
        /// The store.
        path: PathBuf,
        /// The holder of the lock, as ` (process 123)`, or nothing if it is not known.
        holder: String,
    },
    /// A newer server has written it. It is not changed.
    #[error(
        "the store {path} has schema {found}, and this server knows none newer than {known}: start \
         the newer server again, or choose another store"
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// The schema version of the database.
        found: u32,
        /// The newest version that this build knows.
        known: u32,
    },
    /// The file is not a store. It is not changed.
    #[error("{path} is not a store of this server: choose another path")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The path cannot be written to.
    #[error(
        "cannot write the store at {path}: {cause}; make the path writable for this user, or \
         choose another"
    )]
    Unwritable {
        /// The file or folder that could not be created or written.
        path: PathBuf,
        /// The error of the system.
        cause: String,
    },
    /// The database is damaged, or cannot be migrated to the schema of this build.
    #[error("cannot open the store {path}: {cause}; restore it from a backup, or choose another")]
    Unusable {
        /// The database.
        path: PathBuf,
        /// The error of the database.
        cause: String,
    },
}

/// The paths of the files of a store.
#[derive(Debug, Clone)]
pub(super) struct Files {
    database: PathBuf,
}

/// An opened database. No other process can open it while this exists.
#[derive(Debug)]
pub(super) struct OpenedDatabase {
    pub(super) files: Files,
    pub(super) writer: Connection,
    /// The advisory lock ends when this is closed: keep it longer than the writer.
    pub(super) lock: File,
    pub(super) identity: Identity,
}

/// The identity of the database file, by which its removal is noticed: SQLite continues writing to a
/// file that has no name any more, and that is lost when the server ends.
#[derive(Debug)]
pub(super) struct Identity {
    database: PathBuf,
    device_and_inode: Option<(u64, u64)>,
}

impl Identity {
    fn of(database: &Path) -> Self {
        Self { database: database.to_owned(), device_and_inode: device_and_inode(database) }
    }

    /// Returns whether the database is still at its path.
    pub(super) fn is_there(&self) -> bool {
        device_and_inode(&self.database) == self.device_and_inode
    }
}

fn device_and_inode(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Opens or creates a store.
pub(super) fn open(options: &SqliteOptions) -> Result<OpenedDatabase, OpenError> {
    let files = Files::of(&options.path);
    files.create_directory()?;
    let lock = files.lock()?;
    files.check_schema()?;
    let writer = files.open_writer(options.synchronous)?;
    let identity = Identity::of(&files.database);
    Ok(OpenedDatabase { files, writer, lock, identity })
}

impl Files {
    /// Returns the files of a path: the database if it ends in `.db`, or else its folder.
    fn of(path: &Path) -> Self {
        match path.extension() {
            Some(extension) if extension == "db" => Self { database: path.to_owned() },
            _ => Self { database: path.join("callpark.db") },
        }
    }

    fn directory(&self) -> &Path {
        match self.database.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        }
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut path = self.database.clone().into_os_string();
        path.push(suffix);
        path.into()
    }

    fn create_directory(&self) -> Result<(), OpenError> {
        let directory = self.directory();
        if directory.is_dir() {
            return Ok(());
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .and_then(|()| sync_directory(parent(directory)))
            .map_err(|cause| unwritable(directory, &cause))
    }

    fn lock(&self) -> Result<File, OpenError> {
        let path = self.beside(".lock");
        let mut file = private_file(&path).map_err(|cause| unwritable(&path, &cause))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let path = self.database.clone();
                return Err(OpenError::Locked { path, holder: holder(&mut file) });
            }
            Err(TryLockError::Error(cause)) => return Err(unwritable(&path, &cause)),
        }
        let named = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
        named.map_err(|cause| unwritable(&path, &cause))?;
        Ok(file)
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
    fn open_unchanged(&self) -> rusqlite::Result<Connection> {
        if length(&self.beside("-wal")) > 0 || length(&self.beside("-journal")) > 0 {
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
        private_file(&self.database)
            .and_then(|_| sync_directory(self.directory()))
            .map_err(|cause| unwritable(&self.database, &cause))?;
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
        reader.pragma_update(None, "temp_store", "MEMORY")?;
        reader.set_prepared_statement_cache_capacity(64);
        // The first read opens all files.
        reader.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        Ok(reader)
    }

    fn explain(&self, error: &rusqlite::Error) -> OpenError {
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

/// Opens a file for reading and writing, or creates one that only this user may read.
fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Makes the names in a folder durable.
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// Returns the holder of the lock, from the content of the file.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    match file.take(20).read_to_string(&mut text) {
        Ok(_) if !text.is_empty() => format!(" (process {text})"),
        _ => String::new(),
    }
}

fn unwritable(path: &Path, cause: &io::Error) -> OpenError {
    OpenError::Unwritable { path: path.to_owned(), cause: cause.to_string() }
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

/// Returns the folder that contains this one. For a relative path of one part it is the current
/// one.
fn parent(directory: &Path) -> &Path {
    match directory.parent() {
        None => Path::new("/"),
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
    }
}
