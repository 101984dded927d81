//! Opening a store: its files, the lock, and the checks before anything is written.

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

/// How long a connection waits for a lock of SQLite that somebody else holds, such as a backup.
const BUSY_MAX: Duration = Duration::from_secs(5);
/// The writer's page cache, in KiB.
const WRITER_CACHE_KIB: i64 = 16 * 1024;
/// The write-ahead log is cut back to this after it was longer, in bytes.
const WAL_BYTES_KEPT_MAX: i64 = 64 * 1024 * 1024;

/// Why a store can't be opened, and what to do.
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
        /// Who, as ` (process 123)`, or nothing if that can't be told.
        holder: String,
    },
    /// A newer server has written it. It has been left as it was.
    #[error(
        "the store {path} has schema {found}, and this server knows none beyond {known}: start \
         the newer server again, or choose another store"
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its schema version.
        found: u32,
        /// The newest version that this build knows.
        known: u32,
    },
    /// The file is something else. It has been left as it was.
    #[error("{path} is not a store of this server: choose another path")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The place can't be written to.
    #[error(
        "can't write the store at {path}: {cause}; make the place writable for this user, or \
         choose another"
    )]
    Unwritable {
        /// What couldn't be made or written.
        path: PathBuf,
        /// What the system said.
        cause: String,
    },
    /// The database is damaged or can't be brought to this build's schema.
    #[error("can't open the store {path}: {cause}; restore it from a backup, or choose another")]
    Unusable {
        /// The database.
        path: PathBuf,
        /// What the database said.
        cause: String,
    },
}

/// Where a store's files are.
#[derive(Debug, Clone)]
pub(super) struct Files {
    database: PathBuf,
}

/// A store that nobody else can open while this lives.
#[derive(Debug)]
pub(super) struct OpenedDatabase {
    pub(super) files: Files,
    pub(super) writer: Connection,
    /// The advisory lock goes when this is closed: keep it longer than the writer.
    pub(super) lock: File,
    pub(super) identity: Identity,
}

/// Which file the database is, to notice that somebody has taken it away: SQLite goes on writing
/// to a file that has no name any more, and what it writes there is gone with the server.
#[derive(Debug)]
pub(super) struct Identity {
    database: PathBuf,
    device_and_inode: Option<(u64, u64)>,
}

impl Identity {
    fn of(database: &Path) -> Self {
        Self { database: database.to_owned(), device_and_inode: device_and_inode(database) }
    }

    /// The database is still where it was opened.
    pub(super) fn is_there(&self) -> bool {
        device_and_inode(&self.database) == self.device_and_inode
    }
}

fn device_and_inode(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Opens or makes the store.
pub(super) fn open(options: &SqliteOptions) -> Result<OpenedDatabase, OpenError> {
    let files = Files::of(&options.path);
    files.make_directory()?;
    let lock = files.lock()?;
    files.check_schema()?;
    let writer = files.open_writer(options.synchronous)?;
    let identity = Identity::of(&files.database);
    Ok(OpenedDatabase { files, writer, lock, identity })
}

impl Files {
    /// A path that ends in `.db` is the database; any other is the directory that it is in.
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

    fn make_directory(&self) -> Result<(), OpenError> {
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

    /// Refuses a database that isn't ours or is too new, before anything is written.
    fn check_schema(&self) -> Result<(), OpenError> {
        if length(&self.database) == 0 {
            return Ok(());
        }
        let found = self.open_to_look().and_then(|connection| schema::look(&connection));
        match found.map_err(|error| self.explain(&error))? {
            DatabaseKind::Version(found) if found > schema::newest() => {
                let (path, known) = (self.database.clone(), schema::newest());
                Err(OpenError::Newer { path, found, known })
            }
            DatabaseKind::Version(_) | DatabaseKind::Empty => Ok(()),
            DatabaseKind::Foreign => Err(OpenError::Foreign { path: self.database.clone() }),
        }
    }

    /// A connection that leaves the files as they are. After a crash the write-ahead log may hold
    /// the newest schema: then it is read as well, and not moved to the database.
    fn open_to_look(&self) -> rusqlite::Result<Connection> {
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

    /// A connection that can't write.
    pub(super) fn open_reader(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let reader = Connection::open_with_flags(&self.database, flags)?;
        reader.busy_timeout(BUSY_MAX)?;
        reader.pragma_update(None, "temp_store", "MEMORY")?;
        reader.set_prepared_statement_cache_capacity(64);
        // The first read opens all files that there are.
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
    writer.busy_timeout(BUSY_MAX)?;
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

/// Opens a file for reading and writing, and makes it for this user alone if it isn't there.
fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Makes the names in a directory durable.
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// Who holds the lock, by what it wrote into the file.
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

/// The address of a database that SQLite reads without locks and without files beside it.
fn immutable(path: &Path) -> String {
    // With an empty authority, so that no part of a path is taken for one.
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

/// The directory that holds this one; for a relative path of one part, the current one.
fn parent(directory: &Path) -> &Path {
    match directory.parent() {
        None => Path::new("/"),
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
    }
}
