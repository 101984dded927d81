//! Backups of a store: made while a server uses it, and put back with new stream epochs.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rusqlite::backup::Backup;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::files::{Files, length, private_file, sync_directory};
use super::open_error::OpenError;
use super::schema::{self, DatabaseKind};
use super::verify::{Verification, VerifyDepth, verify};

/// An error of a backup or of its restoration.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is no store.
    #[error("there is no store at {path}: name the folder of the store with --data-dir")]
    Missing {
        /// The database that was looked for.
        path: PathBuf,
    },
    /// The target exists.
    #[error("{path} exists: choose another name, or remove it")]
    Exists {
        /// The target.
        path: PathBuf,
    },
    /// There is a store where the backup should go.
    #[error(
        "there is a store at {path}: to put the backup in its place, add --replace, which keeps the \
         present store in a folder beside it"
    )]
    InPlace {
        /// The database.
        path: PathBuf,
    },
    /// The schema is an older one.
    #[error(
        "{path} has schema {found}, and this program writes schema {known}: start the server with \
         it once, which brings it up to date"
    )]
    Older {
        /// The database.
        path: PathBuf,
        /// The schema version of the database.
        found: u32,
        /// The version of this build.
        known: u32,
    },
    /// The backup is damaged. Nothing was changed.
    #[error(
        "{path} is damaged: {problem}; take an older backup, or add --accept-damage: what is damaged \
         stays unreadable then"
    )]
    Damaged {
        /// The backup.
        path: PathBuf,
        /// The first problem.
        problem: String,
    },
    /// The store is in use, or cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// SQLite failed.
    #[error("cannot copy {path}: {cause}")]
    Sqlite {
        /// The database that was copied.
        path: PathBuf,
        /// The error.
        cause: rusqlite::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {path}: {cause}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        cause: io::Error,
    },
}

/// A store that was put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The database.
    pub database: PathBuf,
    /// The folder with the store that was there before, or `None` if there was none.
    pub previous: Option<PathBuf>,
    /// `true` if the backup may lack its newest records: it is a copy of a store in use, not made by
    /// [`backup`], and whether its write-ahead log was copied cannot be seen.
    pub may_be_incomplete: bool,
    /// The verification of the copy.
    pub verification: Verification,
}

/// Copies the store at `store`, which a server may be using, to the new file `target`, and verifies the
/// copy. A copy with damaged records is kept, and the records are among the problems that are
/// returned.
///
/// # Errors
///
/// Fails if there is no store, if the target exists or cannot be written, or if the structure of the
/// database is damaged.
pub fn backup(store: &Path, target: &Path) -> Result<Verification, BackupError> {
    let files = Files::of(store);
    if length(&files.database) == 0 {
        return Err(BackupError::Missing { path: files.database });
    }
    if target.exists() {
        return Err(BackupError::Exists { path: target.to_owned() });
    }
    let copy = Copy::make(&files.database, &beside(target, ".partial"))?;
    copy.publish(target)
}

/// The permissions of a restoration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RestoreOptions {
    /// A store that is there is moved to a folder beside it.
    pub replace: bool,
    /// A backup with damaged records is taken.
    pub accept_damage: bool,
}

/// Puts the backup in the file `backup` in the place of the store at `store`, which no server may be
/// using.
///
/// # Errors
///
/// Fails without a change if the backup is not a sound store, if the store is in use, or if there is
/// one that is not to be replaced.
pub fn restore(
    backup: &Path,
    store: &Path,
    options: RestoreOptions,
) -> Result<Restored, BackupError> {
    if length(backup) == 0 {
        return Err(BackupError::Missing { path: backup.to_owned() });
    }
    let files = Files::of(store);
    files.create_directory().map_err(|(path, cause)| BackupError::Io { path, cause })?;
    let is_there = length(&files.database) > 0;
    let _lock = files.acquire()?;
    if is_there && !options.replace {
        return Err(BackupError::InPlace { path: files.database });
    }
    let copy = Copy::make(backup, &files.beside(".restored"))?;
    if let Some(problem) = copy.verification.problems.first().filter(|_| !options.accept_damage) {
        return Err(BackupError::Damaged { path: backup.to_owned(), problem: problem.clone() });
    }
    let may_be_incomplete = !copy.was_clean && length(&beside(backup, "-wal")) == 0;
    let previous = is_there.then(|| files.set_aside()).transpose()?;
    for stale in [files.log(), files.log_index(), files.continuity()] {
        remove(&stale)?;
    }
    let verification = copy.publish(&files.database)?;
    Ok(Restored { database: files.database, previous, may_be_incomplete, verification })
}

impl Files {
    /// Moves the files of the store to a new folder, which is returned.
    fn set_aside(&self) -> Result<PathBuf, BackupError> {
        let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S").to_string();
        let folder = self.beside(&format!(".before-restore-{time}"));
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |cause| BackupError::Io { path, cause }
        };
        DirBuilder::new().mode(0o700).create(&folder).map_err(failed(&folder))?;
        // The last connection that is closed moves all commits to the database. A damaged one stays
        // as it is.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        if let Ok(last) = Connection::open_with_flags(&self.database, flags) {
            let _ = last.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()));
        }
        // The database comes last: until then, the store is still where it was.
        for file in [self.log(), self.continuity(), self.database.clone()] {
            let Some(name) = file.file_name().filter(|_| file.exists()) else { continue };
            fs::rename(&file, folder.join(name)).map_err(failed(&file))?;
        }
        sync_directory(&folder).map_err(failed(&folder))?;
        Ok(folder)
    }
}

/// A verified copy of a database under a temporary name. Dropped without being published, it is
/// removed.
struct Copy {
    path: PathBuf,
    was_clean: bool,
    verification: Verification,
    is_published: bool,
}

impl Copy {
    fn make(source: &Path, path: &Path) -> Result<Self, BackupError> {
        let failed = |cause| BackupError::Sqlite { path: source.to_owned(), cause };
        let unwritable = |cause| BackupError::Io { path: path.to_owned(), cause };
        let database = open_source(source)?;
        remove(path)?;
        private_file(path).map_err(unwritable)?;
        let mut copy = Self {
            path: path.to_owned(),
            was_clean: true,
            verification: Verification::default(),
            is_published: false,
        };
        let mut target = Connection::open(path).map_err(failed)?;
        {
            let steps = Backup::new(&database, &mut target).map_err(failed)?;
            // All pages in one read transaction: writers go on, and the copy is of one moment.
            steps.step(-1).map_err(failed)?;
        }
        // One file is the whole copy.
        target.pragma_update(None, "journal_mode", "DELETE").map_err(failed)?;
        let is_clean = "SELECT value FROM counters WHERE name = 'clean'";
        copy.was_clean = target.query_row(is_clean, [], |row| row.get(0)).map_err(failed)?;
        let mark = "UPDATE counters SET value = 1 WHERE name = 'clean'";
        target.execute(mark, []).map_err(failed)?;
        copy.verification = verify(&target, VerifyDepth::Full).map_err(failed)?;
        target.close().map_err(|(_, cause)| failed(cause))?;
        File::open(path).and_then(|file| file.sync_all()).map_err(unwritable)?;
        Ok(copy)
    }

    /// Gives the copy its name.
    fn publish(mut self, target: &Path) -> Result<Verification, BackupError> {
        let named = fs::rename(&self.path, target)
            .and_then(|()| sync_directory(Files::of_database(target).directory()));
        named.map_err(|cause| BackupError::Io { path: target.to_owned(), cause })?;
        self.is_published = true;
        Ok(std::mem::take(&mut self.verification))
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        if !self.is_published
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "a partial copy is left");
        }
    }
}

/// Opens a database for reading, with its write-ahead log if it has one.
pub(super) fn open_source(path: &Path) -> Result<Connection, BackupError> {
    let failed = |cause| BackupError::Sqlite { path: path.to_owned(), cause };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let database = Connection::open_with_flags(path, flags).map_err(failed)?;
    database.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(failed)?;
    database.busy_timeout(super::open::BUSY_TIMEOUT).map_err(failed)?;
    let known = schema::newest();
    let path = path.to_owned();
    match schema::inspect(&database) {
        Ok(DatabaseKind::Version(found)) if found == known => Ok(database),
        Ok(DatabaseKind::Version(found)) if found > known => {
            Err(OpenError::Newer { path, found, known }.into())
        }
        Ok(DatabaseKind::Version(found)) => Err(BackupError::Older { path, found, known }),
        Ok(DatabaseKind::Empty | DatabaseKind::Foreign) => Err(OpenError::Foreign { path }.into()),
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::NotADatabase) => {
            Err(OpenError::Foreign { path }.into())
        }
        Err(cause) => Err(BackupError::Sqlite { path, cause }),
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    Files::of_database(path).beside(suffix)
}

fn remove(path: &Path) -> Result<(), BackupError> {
    match fs::remove_file(path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
            Err(BackupError::Io { path: path.to_owned(), cause })
        }
        _ => Ok(()),
    }
}
