//! The files of a store, and the watch over those that are in use.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The paths of the files of a store.
#[derive(Debug, Clone)]
pub(super) struct Files {
    pub(super) database: PathBuf,
}

impl Files {
    /// Returns the files of a path: the database if it ends in `.db`, or else its folder.
    pub(super) fn of(path: &Path) -> Self {
        match path.extension() {
            Some(extension) if extension == "db" => Self { database: path.to_owned() },
            _ => Self { database: path.join("callpark.db") },
        }
    }

    /// Returns the files of the database with this path.
    pub(super) fn of_database(path: &Path) -> Self {
        Self { database: path.to_owned() }
    }

    pub(super) fn directory(&self) -> &Path {
        match self.database.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        }
    }

    /// Returns the write-ahead log, which holds the newest commits.
    pub(super) fn log(&self) -> PathBuf {
        self.beside("-wal")
    }

    /// Returns the index of the write-ahead log, which processes share.
    pub(super) fn log_index(&self) -> PathBuf {
        self.beside("-shm")
    }

    /// Returns the rollback journal, which only another program can have left.
    pub(super) fn journal(&self) -> PathBuf {
        self.beside("-journal")
    }

    /// Returns the file that is locked while the store is open.
    pub(super) fn lock(&self) -> PathBuf {
        self.beside(".lock")
    }

    /// Returns the file with the id of the folder, for a server whose store is elsewhere.
    #[cfg(feature = "postgres")]
    pub(super) fn folder_id(&self) -> PathBuf {
        self.beside(".folder-id")
    }

    /// Returns the record of the newest commit.
    pub(super) fn continuity(&self) -> PathBuf {
        self.beside(".continuity")
    }

    pub(super) fn beside(&self, suffix: &str) -> PathBuf {
        let mut path = self.database.clone().into_os_string();
        path.push(suffix);
        path.into()
    }

    /// Creates the folder, for this user only, if it does not exist.
    ///
    /// # Errors
    ///
    /// Returns the folder with the error of the system.
    pub(super) fn create_directory(&self) -> Result<(), (PathBuf, io::Error)> {
        let directory = self.directory();
        if directory.is_dir() {
            return Ok(());
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .and_then(|()| sync_directory(parent(directory)))
            .map_err(|cause| (directory.to_owned(), cause))
    }
}

/// The device and the inode of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileIdentity {
    pub(super) device: u64,
    pub(super) inode: u64,
}

impl FileIdentity {
    /// Returns the identity of the file at a path, or `None` if there is none.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self { device: metadata.dev(), inode: metadata.ino() })
    }
}

/// The files of an open store, by which it is noticed that one was deleted or replaced.
///
/// SQLite goes on with a file that has no name any more: what it writes there is lost when the server
/// ends. Without the lock file, a second server could open the store.
#[derive(Debug)]
pub(super) struct Watch {
    files: Vec<(PathBuf, Option<FileIdentity>)>,
}

impl Watch {
    /// Watches the files of a store whose connections are open.
    pub(super) fn new(files: &Files) -> Self {
        let paths = [files.database.clone(), files.log(), files.log_index(), files.lock()];
        let watched = paths.map(|path| {
            let identity = FileIdentity::of(&path);
            (path, identity)
        });
        Self { files: watched.into() }
    }

    /// Returns whether the database is still at its path.
    pub(super) fn has_database(&self) -> bool {
        self.files.first().is_some_and(|(path, known)| FileIdentity::of(path) == *known)
    }

    /// Returns a file that is not at its path any more.
    pub(super) fn missing(&self) -> Option<&Path> {
        let missing = self.files.iter().find(|(path, known)| FileIdentity::of(path) != *known);
        missing.map(|(path, _)| path.as_path())
    }
}

/// Opens a file for reading and writing, or creates one that only this user may read.
pub(super) fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Makes the names in a folder durable.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Returns the length of a file in bytes, or 0 if it does not exist.
pub(super) fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
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
